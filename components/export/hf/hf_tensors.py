"""Tensors of a transformers folder, mapped to the decoder's parameters in both directions.

Outside experts a name is the decoder's own under a ``model.`` prefix; experts, which the decoder
stacks, are written one by one, as each class names them. Rotary halves are split, not
interleaved, in all of the classes. Files are safetensors, one or several with an index; a pickle
is never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from models.decoder import Decoder

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_HEAD = "lm_head.weight"
_COMPUTED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Written by old versions of transformers, and computed by all."""
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth")


@dataclass(frozen=True)
class ParameterSlice:
    """Part of a decoder's parameter that one tensor of the folder holds."""

    parameter: str
    part: tuple[int | slice, ...] = ()
    """Index into the parameter; () is all of it."""


def map_hf_tensors(model: Decoder) -> dict[str, ParameterSlice]:
    """Map names of the folder's tensors to slices of the decoder's parameters."""
    mixtral = model.shape.hf_class == "MixtralForCausalLM"
    places: dict[str, ParameterSlice] = {}
    for name, parameter in model.named_parameters():
        outer = name if name == _HEAD else f"model.{name}"
        stack, dot, matrix = outer.partition(".mlp.experts.")
        if not dot:
            renamed = outer.replace(".mlp.gate.", ".block_sparse_moe.gate.") if mixtral else outer
            places[renamed] = ParameterSlice(name)
            continue
        for expert in range(parameter.shape[0]):
            for inner, part in _expert_matrices(matrix, parameter.shape[1], mixtral):
                block = "block_sparse_moe" if mixtral else "mlp"
                places[f"{stack}.{block}.experts.{expert}.{inner}.weight"] = ParameterSlice(
                    name, (expert, *part)
                )
    return places


def _expert_matrices(matrix: str, rows: int, mixtral: bool) -> list[tuple[str, tuple[slice, ...]]]:
    """Names and rows of one expert's matrices that lie in one stacked parameter."""
    if matrix == "down_proj":
        return [("w2" if mixtral else "down_proj", ())]
    gate, up = ("w1", "w3") if mixtral else ("gate_proj", "up_proj")
    return [(gate, (slice(0, rows // 2),)), (up, (slice(rows // 2, rows),))]


def hf_state_dict(model: Decoder, kind: Any) -> dict[str, Tensor]:
    """Tensors of the folder in dtype ``kind``; a tied head is left out."""
    parameters = dict(model.named_parameters())
    return {
        name: parameters[place.parameter].detach()[place.part].to(kind).contiguous()
        for name, place in map_hf_tensors(model).items()
    }


def load_hf_tensors(folder: Path, model: Decoder) -> None:
    """Load a folder's safetensors into a decoder; missing and unknown tensors are refused.

    Raises:
        ConfigError: a tensor is missing, unknown, of another size or no float; names the first.
        DataError: a file is missing or damaged.
    """
    import torch

    parameters, places = dict(model.named_parameters()), map_hf_tensors(model)
    missing = set(places)
    tied_head = None
    with torch.no_grad():
        for name, tensor in _read_tensors(folder):
            if name == _HEAD and name not in places:
                tied_head = tensor
                continue
            if _COMPUTED.fullmatch(name):
                continue
            if name not in missing:
                raise ConfigError(f"{folder.name}: tensor {name} has no place in the decoder")
            place = places[name]
            into = parameters[place.parameter][place.part]
            _check_tensor(folder.name, name, tensor, tuple(into.shape))
            into.copy_(tensor)
            missing.remove(name)
    if missing:
        raise ConfigError(
            f"{folder.name}: tensor {min(missing)} is missing, {len(missing)} of {len(places)} are"
        )
    if tied_head is not None and not torch.equal(tied_head.float(), model.lm_head.weight):
        raise ConfigError(
            f"{folder.name}: {_HEAD} differs from the embeddings, though the config ties them"
        )


def _check_tensor(folder: str, name: str, tensor: Tensor, size: tuple[int, ...]) -> None:
    import torch

    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ConfigError(
            f"{folder}: tensor {name} is {str(tensor.dtype).removeprefix('torch.')}; "
            "float32, bfloat16 and float16 are read"
        )
    if tuple(tensor.shape) != size:
        raise ConfigError(
            f"{folder}: tensor {name} is {tuple(tensor.shape)}, config.json asks for {size}"
        )


def _read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read (name, tensor) pairs, one in memory at a time."""
    from safetensors import SafetensorError, safe_open

    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in sorted(file.keys()):
                    yield name, file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{folder.name}: {path.name} cannot be read: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """Weight files of the folder: the only one, or those that the index names.

    Raises:
        ConfigError: its weights are a pickle.
        DataError: it holds none, or its index names files that are not there.
    """
    if not (folder / INDEX_FILE).is_file():
        if (folder / WEIGHTS_FILE).is_file():
            return [folder / WEIGHTS_FILE]
        pickled = next((name for name in _PICKLED if (folder / name).exists()), None)
        if pickled is not None:
            raise ConfigError(
                f"{folder.name}: {pickled} is a pickle, which is never opened; "
                "save the model as safetensors"
            )
        raise DataError(f"{folder.name}: holds no {WEIGHTS_FILE}")
    try:
        named = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(named.values()))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder.name}: {INDEX_FILE} is no index: {error!r}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError(f"{folder.name}: {INDEX_FILE} names {name}, which is not there")
    return [folder / name for name in names]
