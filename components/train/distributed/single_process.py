"""Collectives of the training loop in a single process; the interface of those of many.

``components/train/distributed/process_group.py`` overrides them for several ranks. Every value that
decides how training goes on (targets, losses, clocks) passes through here, so that all ranks decide
alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from components.core.process.thread_tuning import ThreadTuner
from components.core.store.workdir import Workdir
from components.text.decoder_files import save_model
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_state import SavedState, StateFiles
from components.train.training_config import OptimConfig
from models.decoder import Decoder

M = TypeVar("M")
T = TypeVar("T")


class StateStore(Protocol):
    """Saved states of one training."""

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Save a state.

        Args:
            step: number of steps done.
            tensors: every tensor of the state, by name.
            meta: JSON values.
        """

    def latest(self) -> SavedState | None: ...

    def delete_after(self, step: int) -> bool: ...

    def finish(self) -> None:
        """Wait until everything is written."""


class Collectives:
    """Collectives of a process that trains alone."""

    rank: int = 0
    world: int = 1
    device: torch.device | None = None
    """Device of this rank; None leaves the choice to the stage."""
    data_rank: int = 0
    """Number of this rank's share of a step's sequences, out of ``data_world``."""
    data_world: int = 1

    def thread_tuner(self, module: nn.Module, work: Workdir) -> ThreadTuner | None:
        """Tuner of the number of threads; None where ranks share out the cores, or on a GPU."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
        return ThreadTuner(work) if on_cpu and self.world == 1 else None

    def even_micro_batches(self, micro_batches: Sequence[M]) -> Iterator[tuple[M, bool]]:
        """(micro-batch, whether it counts): as many on every rank, so that none waits forever."""
        return ((micro, True) for micro in micro_batches)

    def sum_targets(self, own: float) -> float:
        """Sum over the ranks that hold different sequences."""
        return own

    def sum_losses(self, own: float) -> float:
        """Sum over the ranks that compute the loss of different targets."""
        return own

    def broadcast(self, value: T) -> T:
        """Value of rank 0, on every rank."""
        return value

    def shard_model(self, model: Decoder) -> Decoder:
        """Shard a model over the ranks, in place."""
        return model

    def copy_model(self, model: Decoder) -> Decoder:
        """Copy of a model that ``shard_model`` gave, for steps that must leave it unchanged."""
        return copy.deepcopy(model)

    def make_optimiser(self, modules: nn.Module, config: OptimConfig) -> Optimiser:
        """Optimiser of this rank's part of the parameters."""
        return Optimiser(modules, config)

    def open_states(self, folder: Path, keep: int, modules: nn.Module) -> StateStore:
        """Open the saved states of a training.

        Args:
            folder: folder of the states.
            keep: number of states that stay.
            modules: modules whose parameters the states hold.
        """
        return StateFiles(folder, keep)

    def save_model(self, folder: Path, model: Decoder) -> None:
        """Write the whole model once."""
        save_model(folder, model)


SINGLE_PROCESS = Collectives()
