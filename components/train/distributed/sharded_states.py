"""Saved states of a multi-process training, which any number of ranks can load.

    state-00000120/*.safetensors   every rank's shards, with their place in the whole
    state-00000120.json            step, sha256 of every file, other facts that the loop recalls

``torch.distributed.checkpoint`` copies the tensors, then writes them in the background. The folder
has another name until it is complete, and the JSON is written last: a state is complete or absent.
They lie where those of a single process do (``components/train/trainer/training_state.py``), and
either kind of training reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from components.core.errors import MillError, error_line
from components.core.io.atomic_write import publish_path, write_atomically
from components.core.io.trash import delete_path
from components.core.log import get_logger
from components.core.store.artifact import canonical_json
from components.train.distributed.shard_layout import as_dtensor, local_box
from components.train.distributed.sharded_files import (
    check_shard_digests,
    file_digests,
    flatten_scalars,
    read_shard_files,
    shard_folder,
)
from components.train.trainer.training_state import FORMAT, SavedState, StateFiles

log = get_logger(__name__)
PART = ".part"


class ShardedStates(StateFiles):
    """Files of the last ``keep`` states of a multi-process training, in a folder all ranks see.

    ``group`` is used by nothing else: a background thread communicates over it.
    """

    def __init__(
        self, folder: Path, keep: int, modules: nn.Module, group: dist.ProcessGroup
    ) -> None:
        super().__init__(folder, keep)
        self._group, self._first = group, dist.get_rank() == 0
        self._spread = {n: p for n, p in modules.named_parameters() if isinstance(p, DTensor)}
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="states")
        self._writing: Future[Any] | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Copy the state, and write it while the training continues.

        Args:
            step: number of steps done.
            tensors: this rank's, by name.
            meta: JSON values.

        Raises:
            MillError: the previous state could not be written.
        """
        self.finish()
        partial = shard_folder(self.folder, step).with_suffix(PART)
        if self._first:
            for left in self.folder.glob(f"*{PART}"):
                delete_path(left)
            partial.mkdir()
        dist.barrier(self._group)
        flat, scalars = flatten_scalars(tensors)
        written = async_save(
            flat,
            storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
            process_group=self._group,
        )
        assert isinstance(written, Future)
        record = {"format": FORMAT, "step": step, "scalars": scalars, "meta": dict(meta)}
        self._writing = self._writer.submit(self._publish, written, partial, record)

    def finish(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except (CheckpointException, OSError) as error:
            line = error_line(error)[-300:]
            raise MillError(f"a state could not be written to {self.folder}: {line}") from error

    def delete_after(self, step: int) -> bool:
        self.finish()
        steps = self._steps() if self._first else []
        good = any(
            self._inspect_state(saved_step)[1] is None for saved_step in steps if saved_step <= step
        )
        for saved_step in steps:
            if good and saved_step > step:
                self._delete(saved_step)
        return bool(self._broadcast(good))

    def latest(self) -> SavedState | None:
        """Newest intact state, each tensor sharded as on this rank; None where there is none."""
        self.finish()
        for step in self._broadcast(self._steps()):
            record, problem = self._broadcast(self._inspect_state(step) if self._first else None)
            if problem is None:
                return SavedState(step, self._load_state(step, record), record["meta"])
            if self._first:
                log.warning("state of step %d is broken and passed over: %s", step, problem)
        return None

    def _publish(self, written: Future[Any], partial: Path, record: dict[str, Any]) -> None:
        """Behind the last rank's last byte: name the folder, then say that it counts."""
        written.result()
        if not self._first:
            return
        step = int(record["step"])
        record["files"] = file_digests(partial)
        self._delete(step)
        publish_path(partial, shard_folder(self.folder, step))
        write_atomically(self._record(step), canonical_json(record))
        for old in self._steps()[self.keep :]:
            self._delete(old)

    def _inspect_state(self, step: int) -> tuple[dict[str, Any], str | None]:
        """(record of a state, its defect or None)."""
        try:
            record: dict[str, Any] = json.loads(self._record(step).read_bytes())
            if "files" in record and record.get("format") == FORMAT:
                check_shard_digests(shard_folder(self.folder, step), record["files"])
                return record, None
            self._read(step)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return {}, str(error)
        return record, None

    def _load_state(self, step: int, record: Mapping[str, Any]) -> dict[str, Tensor]:
        if "files" in record:
            folder = shard_folder(self.folder, step)
            return read_shard_files(folder, record["scalars"], self._allocate, self._group)
        return {name: self._local_part(name, t) for name, t in self._read(step).tensors.items()}

    def _allocate(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        parameter = self._parameter(name, shape)
        if parameter is None:
            return torch.empty(shape, dtype=dtype)
        return as_dtensor(parameter, torch.empty_like(parameter.to_local(), dtype=dtype))

    def _local_part(self, name: str, whole: Tensor) -> Tensor:
        parameter = self._parameter(name, whole.shape)
        if parameter is None:
            return whole
        return as_dtensor(parameter, whole[local_box(parameter)].to(parameter.device))

    def _parameter(self, name: str, shape: torch.Size) -> DTensor | None:
        """Parameter that a tensor is sharded like: the one in its name, where shapes agree."""
        candidates = (self._spread[part] for part in name.split("/") if part in self._spread)
        parameter = next(candidates, None)
        return parameter if parameter is not None and parameter.shape == shape else None

    def _broadcast(self, value: Any) -> Any:
        objects = [value]
        dist.broadcast_object_list(objects, 0, self._group)
        return objects[0]
