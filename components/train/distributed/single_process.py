"""Collectives of the training loop, as a protocol, and their single-process implementation.

``components/train/distributed/process_group.py`` answers for many. Whatever decides where training
goes (targets, losses, clocks) passes through here, so that all ranks decide alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from components.core.process.thread_tuning import Threads
from components.core.store.workdir import Workdir
from components.text.decoder_files import save_model
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_state import Checkpoints, Saved
from components.train.training_config import OptimConfig
from models.decoder import Decoder

M = TypeVar("M")
T = TypeVar("T")


class States(Protocol):
    """Saved states of one training."""

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None: ...

    def latest(self) -> Saved | None: ...

    def forget_after(self, step: int) -> bool: ...

    def finish(self) -> None:
        """Wait for what is still being written."""


class Ranks:
    """A process that trains alone."""

    rank: int = 0
    world: int = 1
    device: torch.device | None = None
    """Where this rank computes; None leaves the choice to the stage."""
    data_rank: int = 0
    """Which of the shares of a step's rows this rank takes."""
    data_world: int = 1

    def threads(self, module: nn.Module, work: Workdir) -> Threads | None:
        """The choice of a number of threads; None where ranks share out the cores, or on a GPU."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
        return Threads(work) if on_cpu and self.world == 1 else None

    def evenly(self, micro_batches: Sequence[M]) -> Iterator[tuple[M, bool]]:
        """(micro-batch, whether it counts): as many on every rank, so none waits for ever."""
        return ((micro, True) for micro in micro_batches)

    def targets(self, own: float) -> float:
        """The sum over all ranks that hold other rows."""
        return own

    def loss(self, own: float) -> float:
        """The sum over all ranks that lose over other targets."""
        return own

    def agreed(self, value: T) -> T:
        """The first rank's value, on every rank."""
        return value

    def shard(self, model: Decoder) -> Decoder:
        """Spread a model over the ranks, in place."""
        return model

    def copied(self, model: Decoder) -> Decoder:
        """A model that ``shard`` gave, once more, to be moved in its place."""
        return copy.deepcopy(model)

    def optimiser(self, modules: nn.Module, config: OptimConfig) -> Optimiser:
        return Optimiser(modules, config)

    def states(self, folder: Path, keep: int, modules: nn.Module) -> States:
        return Checkpoints(folder, keep)

    def save(self, folder: Path, model: Decoder) -> None:
        """Write the whole model, once."""
        save_model(folder, model)


ALONE = Ranks()
