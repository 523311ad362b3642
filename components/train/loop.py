"""The training loop that pretraining, fine-tuning and the reward model share.

A job says what a step's micro-batches are and what they lose; the loop accumulates, clips, moves,
records, saves and resumes. A killed run that is called again ends with the bytes of an unbroken
one: the state holds weights, moments, generator and curve, and the data are a function of the step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from components.core.allocator import keep_freed_memory
from components.core.artifact import canonical
from components.core.errors import MillError
from components.core.log import get_logger
from components.core.shards import write_shard
from components.core.workdir import Workdir, write_durably
from components.train.checkpoint import collect, restore
from components.train.course import Course
from components.train.optim import Optimiser
from components.train.ranks import ALONE, Ranks
from components.train.recipe import OptimConfig, SafetyConfig, ScheduleConfig
from components.train.schedule import rate_at

log = get_logger(__name__)
M = TypeVar("M")
CURVE = ("step", "loss", "rate", "grad_norm", "targets")
SKIPPED = "skipped.json"
SPARE = 1 << 30
"""The first of the windows that stand in for those left out: no training comes so far."""


class Pace(Protocol):
    """Keeps a course to a time; ``components/train/budget.py`` has the one there is."""

    probe_seconds: float

    def keep(self, step: int, spent: float) -> bool: ...


@dataclass(frozen=True)
class Job(Generic[M]):
    """What is trained, on what, for how long."""

    modules: Mapping[str, nn.Module]
    """role -> module: every parameter that takes a gradient is trained, every one is saved."""
    batch: Callable[[int], Sequence[M]]
    """The micro-batches of a step: a pure function of its number."""
    weight: Callable[[M], float]
    """How many targets a micro-batch holds."""
    loss: Callable[[M, float], Tensor]
    """(micro-batch, targets of the whole batch) -> the sum of its losses over those targets."""
    course: Course
    optim: OptimConfig
    schedule: ScheduleConfig
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    bits_per_loss: float | None = None
    """Bits per byte for a loss of one nat, for the progress note; None leaves them out."""
    budget: Pace | None = None
    """Looks at the pace before every step and turns the course; None keeps it as it is."""
    ranks: Ranks = ALONE
    """The processes that train together; ``batch`` gives this one's part of a step."""


@dataclass(frozen=True)
class Trained:
    """Figures of a finished training."""

    steps: int
    targets: float
    loss: float
    """Mean over the last tenth of the steps."""
    skipped: int


class NonFinite(Exception):
    """The loss or the gradient of a step is no number."""


def train(job: Job[M], work: Workdir) -> Trained:
    """Train to the end, from wherever an earlier try was; writes ``curve.parquet``.

    Raises:
        MillError: the loss was not finite more often than ``safety.bad_steps``.
    """
    keep_freed_memory()
    everything = nn.ModuleDict(dict(job.modules))
    run = _Run(job, work, everything, job.ranks.optimiser(everything, job.optim))
    run.resume()
    work.progress.start(job.course.end, "steps", done=run.step)
    while run.step < job.course.end:
        try:
            run.advance()
        except NonFinite as error:
            run.roll_back(str(error))
    run.states.finish()
    everything.zero_grad(set_to_none=True)
    write_shard(work.folder / "curve.parquet", run.curve_table())
    last = run.curve[-max(1, run.step // 10) :]
    return Trained(
        steps=run.step,
        targets=sum(row[4] for row in run.curve),
        loss=math.fsum(row[1] for row in last) / len(last),
        skipped=sum(run.skipped.values()),
    )


def one_step(
    job: Job[M], optimiser: Optimiser, micro_batches: Sequence[M], factor: float
) -> tuple[float, float, float]:
    """Accumulate over the micro-batches, clip and move: (loss, gradient norm, targets).

    Raises:
        NonFinite: before anything moved.
    """
    ranks = job.ranks
    targets = ranks.targets(math.fsum(job.weight(micro) for micro in micro_batches))
    total = 0.0
    for micro, counts in ranks.evenly(micro_batches):
        loss = job.loss(micro, max(targets, 1.0))
        if not counts:
            loss = loss * 0.0
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    total = ranks.loss(total)
    norm = optimiser.clip()
    if not math.isfinite(total) or not math.isfinite(norm):
        optimiser.zero_grad()
        raise NonFinite(f"loss {total}, gradient norm {norm}")
    optimiser.step(factor)
    optimiser.zero_grad()
    return total, norm, targets


@dataclass
class _Run(Generic[M]):
    job: Job[M]
    work: Workdir
    modules: nn.ModuleDict
    optimiser: Optimiser
    step: int = 0
    curve: list[list[float]] = field(default_factory=list)
    skipped: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = self.job.ranks.states(
            self.work.scratch / "states", self.job.safety.keep, self.modules
        )
        self._began = self._saved_at = self._noted_at = self._clock()
        self._spent = self.job.budget.probe_seconds if self.job.budget else 0.0
        self._targets = 0.0
        self._rate = 0.0

    def resume(self) -> None:
        """Take up the newest good state; where there is none, save the first."""
        journal = self.work.scratch / SKIPPED
        if journal.is_file():
            given = json.loads(journal.read_bytes())
            self.skipped = {int(step): int(times) for step, times in given.items()}
        if not self._load():
            self._save()
        elif self.step:
            self.work.progress.resume(f"at step {self.step}")

    def advance(self) -> None:
        job = self.job
        if job.budget is not None and job.budget.keep(self.step, self._seconds()):
            self.work.progress.total = job.course.end
        factor = rate_at(job.course.place(self.step), job.schedule)
        batch = job.batch(self._window(self.step))
        loss, norm, targets = one_step(job, self.optimiser, batch, factor)
        self.curve.append([float(self.step), loss, factor, norm, targets])
        self.step += 1
        if (
            self.step < job.course.end
            and self._clock() - self._saved_at >= job.safety.checkpoint_seconds
        ):
            self._save()
        self._note(loss, targets)

    def roll_back(self, why: str) -> None:
        """Go back to the last good state, and leave the window out that broke the step."""
        self.skipped[self.step] = self.skipped.get(self.step, 0) + 1
        times = sum(self.skipped.values())
        if times > self.job.safety.bad_steps:
            raise MillError(
                f"training broke at step {self.step} ({why}), for the {times}th time; "
                "lower the learning rates"
            )
        log.warning("step %d: %s; rolled back, its window is left out", self.step, why)
        write_durably(self.work.scratch / SKIPPED, canonical(self.skipped))
        if not self._load():
            raise MillError("training broke and no saved state can be read; run it again")
        self.work.progress.start(self.job.course.end, "steps", done=self.step)

    def curve_table(self) -> pa.Table:
        columns = list(zip(*self.curve, strict=True)) or [()] * len(CURVE)
        kinds = [pa.int64(), pa.float64(), pa.float64(), pa.float64(), pa.int64()]
        arrays = [
            pa.array([int(v) for v in column] if kind == pa.int64() else list(column), kind)
            for column, kind in zip(columns, kinds, strict=True)
        ]
        return pa.table(dict(zip(CURVE, arrays, strict=True)))

    def _window(self, step: int) -> int:
        """The batch of a step; one that was left out is replaced by one from far behind the end."""
        times = self.skipped.get(step, 0)
        if not times:
            return step
        earlier = sum(count for at, count in self.skipped.items() if at < step)
        return SPARE + earlier + times - 1

    def _seconds(self) -> float:
        """Seconds of training behind the present step, those of earlier tries included."""
        return self._spent + self._clock() - self._began

    def _clock(self) -> float:
        """The first rank's: what hangs on time must come out alike on all."""
        return self.job.ranks.agreed(time.monotonic())

    def _load(self) -> bool:
        saved = self.states.latest()
        if saved is None:
            return False
        restore(saved.tensors, {"model": self.modules}, self.optimiser)
        self.step = saved.step
        self.curve = saved.tensors["curve"].tolist()
        self._spent, self._began = float(saved.meta["seconds"]), self._clock()
        return True

    def _save(self) -> None:
        tensors = collect({"model": self.modules}, self.optimiser)
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64).view(-1, len(CURVE))
        self.states.save(self.step, tensors, {"seconds": self._seconds()})
        self._saved_at = self._clock()

    def _note(self, loss: float, targets: float) -> None:
        self._targets += targets
        now = time.monotonic()
        if now - self._noted_at > 1.0:
            self._rate, self._targets = self._targets / (now - self._noted_at), 0.0
            self._noted_at = now
        note = f"loss {loss:.3f}"
        if self.job.bits_per_loss is not None:
            note += f" · {loss * self.job.bits_per_loss:.3f} bits/byte"
        self.work.progress.advance(1, note=f"{note} · {self._rate:,.0f} tokens/s")
