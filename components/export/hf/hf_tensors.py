"""The tensors of a transformers folder: which part of the decoder each of them is.

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
class Place:
    """Where one tensor of the folder lies in the decoder."""

    parameter: str
    part: tuple[int | slice, ...] = ()
    """Index into the parameter; () is all of it."""


def hf_places(model: Decoder) -> dict[str, Place]:
    """Name in the folder -> place, for every parameter."""
    mixtral = model.shape.hf_class == "MixtralForCausalLM"
    places: dict[str, Place] = {}
    for name, parameter in model.named_parameters():
        outer = name if name == _HEAD else f"model.{name}"
        stack, dot, matrix = outer.partition(".mlp.experts.")
        if not dot:
            renamed = outer.replace(".mlp.gate.", ".block_sparse_moe.gate.") if mixtral else outer
            places[renamed] = Place(name)
            continue
        for expert in range(parameter.shape[0]):
            for inner, part in _parts(matrix, parameter.shape[1], mixtral):
                block = "block_sparse_moe" if mixtral else "mlp"
                places[f"{stack}.{block}.experts.{expert}.{inner}.weight"] = Place(
                    name, (expert, *part)
                )
    return places


def _parts(matrix: str, rows: int, mixtral: bool) -> list[tuple[str, tuple[slice, ...]]]:
    """(name, rows) of the matrices of one expert that lie in one stacked parameter."""
    if matrix == "down_proj":
        return [("w2" if mixtral else "down_proj", ())]
    gate, up = ("w1", "w3") if mixtral else ("gate_proj", "up_proj")
    return [(gate, (slice(0, rows // 2),)), (up, (slice(rows // 2, rows),))]


def hf_state(model: Decoder, kind: Any) -> dict[str, Tensor]:
    """Every tensor of the folder, in dtype ``kind``; a tied head is left out."""
    parameters = dict(model.named_parameters())
    return {
        name: parameters[place.parameter].detach()[place.part].to(kind).contiguous()
        for name, place in hf_places(model).items()
    }


def fill_from(folder: Path, model: Decoder) -> None:
    """Fill a decoder from a folder's safetensors; every tensor must be there, and none else.

    Raises:
        ConfigError: a tensor is missing, unknown, of another size or no float; names the first.
        DataError: a file is missing or damaged.
    """
    import torch

    parameters, places = dict(model.named_parameters()), hf_places(model)
    left = set(places)
    tied_head = None
    with torch.no_grad():
        for name, tensor in _tensors(folder):
            if name == _HEAD and name not in places:
                tied_head = tensor
                continue
            if _COMPUTED.fullmatch(name):
                continue
            if name not in left:
                raise ConfigError(f"{folder.name}: tensor {name} has no place in the decoder")
            place = places[name]
            into = parameters[place.parameter][place.part]
            _check(folder.name, name, tensor, tuple(into.shape))
            into.copy_(tensor)
            left.remove(name)
    if left:
        raise ConfigError(
            f"{folder.name}: tensor {min(left)} is missing, {len(left)} of {len(places)} are"
        )
    if tied_head is not None and not torch.equal(tied_head.float(), model.lm_head.weight):
        raise ConfigError(
            f"{folder.name}: {_HEAD} differs from the embeddings, though the config ties them"
        )


def _check(folder: str, name: str, tensor: Tensor, size: tuple[int, ...]) -> None:
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


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor, one in memory at a time."""
    from safetensors import SafetensorError, safe_open

    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as opened:
                for name in sorted(opened.keys()):
                    yield name, opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{folder.name}: {path.name} cannot be read: {error}") from error


def _files(folder: Path) -> list[Path]:
    """The one file, or those that the index names."""
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
