"""Saved states of an unfinished training in a stage's scratch folder: complete, or absent.

    state-00000120.safetensors   every tensor: weights, moments, generator
    state-00000120.json          step, the file's sha256, and other facts that the loop recalls

The JSON is written last, and a state is valid only if its digest matches: a broken one is skipped
for the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.io.trash import delete_path
from components.core.log import get_logger
from components.core.store.artifact import canonical_json
from components.train.trainer.optimizer import Optimiser

log = get_logger(__name__)
FORMAT = "state/1"


@dataclass(frozen=True)
class SavedState:
    """State read back from disk, after ``step`` steps."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


class StateFiles:
    """Files of the last ``keep`` states of one training."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write a state, then delete all but the last ``keep``.

        Args:
            step: number of steps done.
            tensors: every tensor of the state, by name.
            meta: JSON values.
        """
        content = save({name: t.detach().contiguous() for name, t in tensors.items()})
        write_atomically(self._weights(step), content)
        digest = hashlib.sha256(content).hexdigest()
        record = {"format": FORMAT, "step": step, "sha256": digest, "meta": dict(meta)}
        write_atomically(self._record(step), canonical_json(record))
        for old in self._steps()[self.keep :]:
            self._delete(old)

    def finish(self) -> None:
        """No-op: ``save`` writes synchronously."""

    def latest(self) -> SavedState | None:
        """Newest state whose digest matches; None where there is none."""
        for step in self._steps():
            saved = self._try_read(step)
            if saved is not None:
                return saved
        return None

    def delete_after(self, step: int) -> bool:
        """Delete the states after ``step``; False, and none is deleted, without an earlier one."""
        steps = self._steps()
        if not any(self._try_read(saved_step) for saved_step in steps if saved_step <= step):
            return False
        for saved_step in steps:
            if saved_step > step:
                self._delete(saved_step)
        return True

    def _try_read(self, step: int) -> SavedState | None:
        """A state; None, with a warning, where it is broken."""
        try:
            return self._read(step)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("state of step %d is broken and passed over: %s", step, error)
        return None

    def _read(self, step: int) -> SavedState:
        record = json.loads(self._record(step).read_bytes())
        if record.get("format") != FORMAT:
            raise ValueError(f"its format is {record.get('format')}, ours is {FORMAT}")
        if (
            "files" in record
        ):  # many ranks wrote it (components/train/distributed/sharded_states.py)
            from components.train.distributed.sharded_files import (
                check_shard_digests,
                read_shard_files,
                shard_folder,
            )

            shards = shard_folder(self.folder, step)
            check_shard_digests(shards, record["files"])
            return SavedState(step, read_shard_files(shards, record["scalars"]), record["meta"])
        content = self._weights(step).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise ValueError("its digest does not hold")
        return SavedState(int(record["step"]), load(content), record["meta"])

    def _delete(self, step: int) -> None:
        self._record(step).unlink(missing_ok=True)
        self._weights(step).unlink(missing_ok=True)
        delete_path(self._weights(step).with_suffix(""))  # of many ranks

    def _steps(self) -> list[int]:
        """Steps of all states with a record, newest first."""
        names = (path.stem.removeprefix("state-") for path in self.folder.glob("state-*.json"))
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def _weights(self, step: int) -> Path:
        return self.folder / f"state-{step:08d}.safetensors"

    def _record(self, step: int) -> Path:
        return self.folder / f"state-{step:08d}.json"


def collect_state(modules: Mapping[str, nn.Module], optimiser: Optimiser) -> dict[str, Tensor]:
    """Every tensor on which the rest of a training depends; a shared parameter once."""
    tensors = {f"optim/{name}": tensor for name, tensor in optimiser.tensors().items()}
    for role, module in modules.items():
        tensors.update({f"{role}/{name}": p for name, p in module.named_parameters()})
    tensors["generator"] = torch.get_rng_state()
    return tensors


@torch.no_grad()
def restore_state(
    tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimiser: Optimiser
) -> None:
    """Load a state that ``collect_state`` gave into modules of the same shapes.

    Args:
        tensors: the state.
        modules: role -> module, as in ``collect_state``.
        optimiser: optimiser of these modules.

    Raises:
        DataError: it is the state of another model.
    """
    for role, module in modules.items():
        for name, parameter in module.named_parameters():
            saved = tensors.get(f"{role}/{name}")
            if saved is None or saved.shape != parameter.shape:
                raise DataError(f"the saved state is of another model: {role}/{name}")
            parameter.copy_(saved)
    prefix = "optim/"
    place = next((p.device for m in modules.values() for p in m.parameters()), None)
    moments = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    optimiser.load({name: tensor.to(place) for name, tensor in moments.items()})
    if "generator" not in tensors:
        raise DataError("the saved state is of another format: it holds no generator")
    torch.set_rng_state(tensors["generator"])
