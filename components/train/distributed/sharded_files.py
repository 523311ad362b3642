"""Files of a sharded state, which any number of processes can read.

They are safetensors that ``torch.distributed.checkpoint`` writes, each with the offsets of its
shards in its header; a process reads only the parts that it holds.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

TensorAllocator = Callable[[str, torch.Size, torch.dtype], Tensor]
_BLOCK = 1 << 22


def shard_folder(folder: Path, step: int) -> Path:
    """Folder of a step's shards, below that of all states."""
    return folder / f"state-{step:08d}"


def file_digests(folder: Path) -> dict[str, str]:
    """File name -> sha256."""
    digests: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        digests[path.name] = digest.hexdigest()
    return digests


def check_shard_digests(folder: Path, files: Mapping[str, str]) -> None:
    """Compare the files with the digests that were recorded.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is missing, changed or unexpected.
    """
    present = file_digests(folder)
    wrong = sorted(n for n in files.keys() | present.keys() if files.get(n) != present.get(n))
    if wrong:
        raise ValueError(f"the digest of {wrong[0]} does not match")


def flatten_scalars(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors with scalars as [1], names of the scalars): the format has no scalars."""
    scalars = sorted(name for name, tensor in tensors.items() if tensor.ndim == 0)
    flat = {n: t.detach().reshape(1) if t.ndim == 0 else t.detach() for n, t in tensors.items()}
    return flat, scalars


def read_shard_files(
    folder: Path,
    scalars: Iterable[str],
    allocate: TensorAllocator | None = None,
    group: dist.ProcessGroup | None = None,
) -> dict[str, Tensor]:
    """Everything that was saved, or this rank's part of it.

    Args:
        scalars: names that ``flatten`` gave.
        room: (name, shape, dtype) -> where the tensor is to be read into; None is all of it, here.
        group: the ranks that read together; None for a process that is alone.
    """
    make_tensor = allocate or (lambda name, shape, dtype: torch.empty(shape, dtype=dtype))
    reader = HuggingFaceStorageReader(str(folder))
    tensors: dict[str, Tensor] = {}
    for name, saved in sorted(reader.read_metadata().state_dict_metadata.items()):
        assert isinstance(saved, TensorStorageMetadata)
        tensors[name] = make_tensor(name, saved.size, saved.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single")
        load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    for name in scalars:
        tensors[name] = tensors[name].reshape(())
    return tensors
