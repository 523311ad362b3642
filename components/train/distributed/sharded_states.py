"""States that many ranks write together, and any number of them, one too, can take up.

    state-00000120/*.safetensors   every rank's shards, with where they belong in the whole
    state-00000120.json            step, sha256 of every file, what else the loop must recall

``torch.distributed.checkpoint`` copies the tensors, then writes them beside the training. The
folder bears another name until all of it is there, and the JSON is written last: a state is
complete or absent. They lie where those of a single process do
(``components/train/trainer/training_state.py``) and each kind is read by either.
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

from components.core.errors import MillError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.store.artifact import canonical
from components.train.distributed.shard_layout import box_of, spread_like
from components.train.distributed.sharded_files import (
    check_shards,
    digests,
    flatten,
    read_shards,
    remove_shards,
    shards_of,
)
from components.train.trainer.training_state import FORMAT, Checkpoints, Saved

log = get_logger(__name__)
PART = ".part"


class ShardedStates(Checkpoints):
    """The last ``keep`` states of a training of many ranks, in a folder that all of them see.

    ``group`` is used by nobody else: a thread of its own talks over it.
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
        """Copy the state, and write it while the training goes on.

        Raises:
            MillError: the state before could not be written.
        """
        self.finish()
        beside = shards_of(self.folder, step).with_suffix(PART)
        if self._first:
            for left in self.folder.glob(f"*{PART}"):
                remove_shards(left)
            beside.mkdir()
        dist.barrier(self._group)
        flat, scalars = flatten(tensors)
        written = async_save(
            flat,
            storage_writer=HuggingFaceStorageWriter(str(beside), save_distributed=True),
            process_group=self._group,
        )
        assert isinstance(written, Future)
        record = {"format": FORMAT, "step": step, "scalars": scalars, "meta": dict(meta)}
        self._writing = self._writer.submit(self._publish, written, beside, record)

    def finish(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except (CheckpointException, OSError) as error:
            line = " ".join(str(error).split())[-300:]
            raise MillError(f"a state could not be written to {self.folder}: {line}") from error

    def forget_after(self, step: int) -> bool:
        self.finish()
        steps = self._steps() if self._first else []
        good = any(self._looked_at(one)[1] is None for one in steps if one <= step)
        for one in steps:
            if good and one > step:
                self._forget(one)
        return bool(self._agreed(good))

    def latest(self) -> Saved | None:
        """The newest good state, each tensor as this rank holds it; None where there is none."""
        self.finish()
        for step in self._agreed(self._steps()):
            record, problem = self._agreed(self._looked_at(step) if self._first else None)
            if problem is None:
                return Saved(step, self._taken(step, record), record["meta"])
            if self._first:
                log.warning("state of step %d is broken and passed over: %s", step, problem)
        return None

    def _publish(self, written: Future[Any], beside: Path, record: dict[str, Any]) -> None:
        """Behind the last rank's last byte: name the folder, then say that it counts."""
        written.result()
        if not self._first:
            return
        step = int(record["step"])
        record["files"] = digests(beside)
        self._forget(step)
        beside.rename(shards_of(self.folder, step))
        write_atomically(self._record(step), canonical(record))
        for old in self._steps()[self.keep :]:
            self._forget(old)

    def _looked_at(self, step: int) -> tuple[dict[str, Any], str | None]:
        """The record of a state, and what is wrong with it."""
        try:
            record: dict[str, Any] = json.loads(self._record(step).read_bytes())
            if "files" in record and record.get("format") == FORMAT:
                check_shards(shards_of(self.folder, step), record["files"])
                return record, None
            self._read(step)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return {}, str(error)
        return record, None

    def _taken(self, step: int, record: Mapping[str, Any]) -> dict[str, Tensor]:
        if "files" in record:
            folder = shards_of(self.folder, step)
            return read_shards(folder, record["scalars"], self._room, self._group)
        return {name: self._cut(name, t) for name, t in self._read(step).tensors.items()}

    def _room(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        parameter = self._parameter(name, shape)
        if parameter is None:
            return torch.empty(shape, dtype=dtype)
        return spread_like(parameter, torch.empty_like(parameter.to_local(), dtype=dtype))

    def _cut(self, name: str, whole: Tensor) -> Tensor:
        parameter = self._parameter(name, whole.shape)
        if parameter is None:
            return whole
        return spread_like(parameter, whole[box_of(parameter)].to(parameter.device))

    def _parameter(self, name: str, shape: torch.Size) -> DTensor | None:
        """The parameter that a tensor is cut like: that in its name, where the shape is its."""
        found = (self._spread[part] for part in name.split("/") if part in self._spread)
        parameter = next(found, None)
        return parameter if parameter is not None and parameter.shape == shape else None

    def _agreed(self, value: Any) -> Any:
        held = [value]
        dist.broadcast_object_list(held, 0, self._group)
        return held[0]
