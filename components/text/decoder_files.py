"""Decoder checkpoints on disk, never pickled.

``model.json`` holds the shape and the digest of the tokenizer whose ids the model reads,
``model.safetensors`` the weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.artifact import digest_file
from models.shape import DecoderShape, shape_from_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from models.decoder import Decoder

SHAPE_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FIELD = "tokenizer"


def read_shape(folder: Path) -> DecoderShape:
    """The shape of a saved model.

    Raises:
        DataError: there is none, or it is damaged.
    """
    return _read_model_file(folder)[0]


def read_tokenizer_digest(folder: Path) -> str:
    """Digest of the tokenizer that a saved model was made with; empty where none is recorded.

    Raises:
        DataError: there is no model, or it is damaged.
    """
    return _read_model_file(folder)[1]


def _read_model_file(folder: Path) -> tuple[DecoderShape, str]:
    try:
        values = json.loads((folder / SHAPE_FILE).read_text())
        tokenizer = values.pop(TOKENIZER_FIELD, "")
        return shape_from_json(values), str(tokenizer)
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{folder.name}: {SHAPE_FILE} is not a model's shape: {error}") from error


def save_model(folder: Path, model: Decoder) -> None:
    """Write a decoder's shape, tokenizer and weights (contiguous float32; a tied head once)."""
    save_weights(folder, model)
    values = asdict(model.shape) | ({TOKENIZER_FIELD: model.tokenizer} if model.tokenizer else {})
    (folder / SHAPE_FILE).write_text(json.dumps(values, indent=2, sort_keys=True))


def save_weights(folder: Path, module: nn.Module, name: str = WEIGHTS_FILE) -> None:
    """Write a module's parameters as contiguous float32, atomically.

    Args:
        folder: exists.
        module: any module; a parameter shared by two layers is written once.
        name: name of the safetensors file.
    """
    from safetensors.torch import save_file

    state = {
        key: value.detach().float().contiguous() for key, value in _named_parameters(module).items()
    }
    with atomic_path(folder / name) as temporary:
        save_file(state, temporary)


def _named_parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters())  # a shared parameter is named once


def load_weights(folder: Path, module: nn.Module, name: str = WEIGHTS_FILE) -> None:
    """Copy the weights of a file into a module.

    Args:
        folder: holds the file.
        module: module of the shape that was saved.
        name: name of the safetensors file.

    Raises:
        ConfigError: the file is of another shape; names the first tensor that differs.
        DataError: the file is missing or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(folder / name)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder.name}: {name} cannot be read: {error}") from error
    parameters = _named_parameters(module)
    for key in sorted(parameters.keys() | state.keys()):
        has = tuple(state[key].shape) if key in state else None
        needs = tuple(parameters[key].shape) if key in parameters else None
        if has != needs:
            raise ConfigError(
                f"checkpoint {folder.name} is of another shape: {key} is {has}, "
                f"this model needs {needs}"
            )
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(state[key])


def same_weights(ours: Path, theirs: Path) -> bool:
    """True where two saved models are equal: shape, and weights byte by byte."""
    if read_shape(ours) != read_shape(theirs):
        return False
    return digest_file(ours / WEIGHTS_FILE) == digest_file(theirs / WEIGHTS_FILE)


def has_finite_weights(folder: Path) -> bool:
    """True where every weight of a saved model is a finite number.

    Raises:
        DataError: the file is missing or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder.name}: {WEIGHTS_FILE} cannot be read: {error}") from error
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def load_model(folder: Path) -> Decoder:
    """The decoder saved in ``folder``, in evaluation mode."""
    from models.decoder import Decoder

    shape, tokenizer = _read_model_file(folder)
    model = Decoder(shape)
    model.tokenizer = tokenizer
    load_weights(folder, model)
    return model.eval()
