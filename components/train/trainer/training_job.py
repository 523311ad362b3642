"""Training job: everything that the training loop needs to know of a stage's training.

Modules, the batches and losses of a step, the step plan and its settings, and optional hooks. The
loop (``components/train/trainer/training_loop.py``) runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from torch import Tensor, nn

from components.train.budget.step_plan import StepPlan, StepProgress
from components.train.distributed.single_process import SINGLE_PROCESS, Collectives
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig

M = TypeVar("M")


class Replanner(Protocol):
    """Keeper of a time limit, which replans the steps that remain.

    ``components/train/budget/time_budget.py`` has the implementation.
    """

    probe_seconds: float

    def replan_if_off_pace(self, step: int, spent: float) -> bool: ...

    def exclude_pause(self, step: int, spent: float) -> None:
        """Exclude the time since the last check, which no step took, from the pace."""


@dataclass(frozen=True)
class MeasuredSetting:
    """Stage, size and hardware that a recorded training speed is valid for.

    See ``components/core/training_speed.py``.
    """

    stage: str
    parameters: int
    device: str
    precision: str


@dataclass(frozen=True)
class TrainingJob(Generic[M]):
    """Modules, data, loss, step plan and settings of one training; ``M`` is its micro-batch."""

    modules: Mapping[str, nn.Module]
    """role -> module: every parameter that takes a gradient is trained, every one is saved."""
    batch: Callable[[int], Sequence[M]]
    """Micro-batches of a step: a pure function of its number, called by a background thread."""
    count_targets: Callable[[M], float]
    """Number of targets in a micro-batch."""
    loss: Callable[[M, float], Tensor]
    """(micro-batch, targets of the whole batch) -> sum of its losses divided by those targets."""
    plan: StepPlan
    optim: OptimConfig
    schedule: ScheduleConfig
    safety: TrainingSafetyConfig = field(default_factory=TrainingSafetyConfig)
    """Saved states and loss spikes; not the report ``safety`` of the evaluation."""
    bits_per_loss: float | None = None
    """Bits per byte at a loss of one nat, for the progress line; None leaves them out."""
    budget: Replanner | None = None
    """Checks the pace before every step and replans; None keeps the plan as it is."""
    collectives: Collectives = SINGLE_PROCESS
    """Communication with the other ranks; ``batch`` gives this rank's part of a step."""
    after_step: Callable[[bool], None] | None = None
    """Called after each step with whether the weights moved: router biases follow."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights, which replaces them at the end; None takes none."""
    flops: Callable[[StepProgress], float] | None = None
    """Floating-point operations of a target at a point of the plan, for the utilisation."""
    peak_flops: float | None = None
    """Measured operations a second of large matrix products on this machine."""
    measured_setting: MeasuredSetting | None = None
    """Setting under which the speed is recorded; None, or no ``flops``, records none."""
    sample_text: Callable[[], str] | None = None
    """Samples text from the model in training; draws from a generator that no state holds."""
