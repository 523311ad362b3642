"""The training loop that pretraining, fine-tuning and the reward model share.

A job says what a step's micro-batches are and what they lose; the loop accumulates, clips, moves,
records, saves and resumes. A killed run that is called again ends with the bytes of an unbroken
one: the state holds weights, moments, generator and curve; the data are a function of the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from components.core.errors import DataError, MillError, TrainingDiverged
from components.core.log import get_logger
from components.core.process.thread_tuning import Threads
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.core.training_speed import TrainingSpeed
from components.train.budget.memory_reuse import keep_freed_memory
from components.train.budget.step_plan import Course, Place
from components.train.data.batch_loader import AHEAD, Loader
from components.train.distributed.single_process import ALONE, Ranks
from components.train.trainer.ema import Average
from components.train.trainer.learning_rate import rate_at
from components.train.trainer.loss_spikes import Setbacks, spike_bound
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_monitor import Live
from components.train.trainer.training_state import collect, restore
from components.train.training_config import OptimConfig, SafetyConfig, ScheduleConfig

log = get_logger(__name__)
M = TypeVar("M")
FEWEST_STEPS = 40
"""Of a training whose own steps are timed to choose its threads, which takes about six; shorter
ones go by a sample of what decoders compute."""
CURVE = ("step", "loss", "rate", "grad_norm", "targets")
LEAST_TIMED_STEPS = 20
"""A try of fewer tells nothing of the machine's speed: its first steps allocate."""


class Pace(Protocol):
    """Keeps a course to a time; ``components/train/budget/time_budget.py`` has the one there is."""

    probe_seconds: float

    def keep(self, step: int, spent: float) -> bool: ...

    def leave_out(self, step: int, spent: float) -> None:
        """What was spent up to here since the last look was no step's."""


@dataclass(frozen=True)
class SpeedSetting:
    """What a training's speed holds for (``components/core/training_speed.py``)."""

    stage: str
    parameters: int
    device: str
    precision: str


@dataclass(frozen=True)
class Job(Generic[M]):
    """What is trained, on what, for how long."""

    modules: Mapping[str, nn.Module]
    """role -> module: every parameter that takes a gradient is trained, every one is saved."""
    batch: Callable[[int], Sequence[M]]
    """The micro-batches of a step: a pure function of its number, called by a thread of its own."""
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
    after: Callable[[bool], None] | None = None
    """Told behind each step whether the weights were moved: the biases of routers follow."""
    average: float | None = None
    """Decay of an average of the weights, which they become at the end; None takes none."""
    flops: Callable[[Place], float] | None = None
    """Floating-point operations of a target at a place of the course, for the utilisation."""
    peak: float | None = None
    """Operations a second that the machine was measured to do in large matrix products."""
    speed_of: SpeedSetting | None = None
    """What its speed is remembered for; None, or without ``flops``, remembers none."""
    sample: Callable[[], str] | None = None
    """Text of the model as it is, for whoever follows; draws from no generator that we save."""


@dataclass(frozen=True)
class Trained:
    """Figures of a finished training."""

    steps: int
    targets: float
    loss: float
    """Mean over the last tenth of the steps."""
    skipped: int
    wait_seconds: float = 0.0
    """What the steps of this try waited for their batches."""
    starved: int = 0
    """Steps of this try whose batch came too late."""
    rate: float = 0.0
    """Targets a second of this try."""
    utilisation: float | None = None
    """Its share of the machine's measured rate; None where that is not known."""


class NonFinite(Exception):
    """The loss or the gradient of a step is no number."""


class Spike(Exception):
    """The loss of a step lies far above those before it."""


def train(job: Job[M], work: Workdir) -> Trained:
    """Train to the end, from wherever an earlier try was; writes ``curve.parquet``.

    Raises:
        TrainingDiverged: the loss was not finite more often than ``safety.bad_steps``, or rose
            far above the losses before it more often than ``safety.spikes``.
        DataError: a saved state is of another model or format.
    """
    keep_freed_memory()
    everything = nn.ModuleDict(dict(job.modules))
    with Live(job, work) as live, Loader(job.batch) as loader, ExitStack() as leaving:
        threads = job.ranks.threads(everything, work)
        leaving.enter_context(threads or nullcontext())
        optimiser = job.ranks.optimiser(everything, job.optim)
        run = _Run(job, work, everything, optimiser, loader, live, threads)
        run.resume()
        work.progress.start(job.course.end, "steps", done=run.step)
        while run.step < job.course.end:
            try:
                run.advance()
            except NonFinite as error:
                run.roll_back(str(error))
            except Spike as error:
                run.undo_spike(str(error))
        run.states.finish()
    run.tell_speed()
    everything.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.apply()
    write_shard(work.folder / "curve.parquet", run.curve_table())
    return run.trained()


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
        # One of infinitely many targets has no share: nothing is lost, and no router counts it.
        loss = job.loss(micro, max(targets, 1.0) if counts else math.inf)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    total = ranks.loss(total)
    norm = optimiser.clip()
    moves = math.isfinite(total) and math.isfinite(norm)
    if moves:
        optimiser.step(factor)
    if job.after is not None:
        job.after(moves)
    optimiser.zero_grad()
    if not moves:
        raise NonFinite(f"loss {total}, gradient norm {norm}")
    return total, norm, targets


@dataclass
class _Run(Generic[M]):
    job: Job[M]
    work: Workdir
    modules: nn.ModuleDict
    optimiser: Optimiser
    loader: Loader[M]
    live: Live
    threads: Threads | None
    """None where many ranks train, which share out the cores, or a GPU does."""
    step: int = 0
    began_at: int = 0
    """The step that this try went on from."""
    curve: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = self.job.ranks.states(
            self.work.scratch / "states", self.job.safety.keep, self.modules
        )
        self.setbacks = Setbacks.read(self.work.scratch)
        decay = self.job.average
        self.average = None if decay is None else Average(self.modules, decay)
        self._began = self._saved_at = self._clock()
        self._spent = self.job.budget.probe_seconds if self.job.budget else 0.0

    def resume(self) -> None:
        """Take up the newest good state; where there is none, save the first."""
        if not self._load():
            self._save()
        elif self.step:
            self.work.progress.resume(f"at step {self.step}")
        self.began_at = self.step

    def advance(self) -> None:
        job = self.job
        if job.budget is not None and job.budget.keep(self.step, self._seconds()):
            self.work.progress.total = job.course.end
            self.loader.forget()
        place = job.course.place(self.step)
        factor = rate_at(place, job.schedule)
        after = range(self.step + 1, min(self.step + 1 + AHEAD, job.course.end))
        windows = [self.setbacks.window(step) for step in (self.step, *after)]
        batch = self.loader.take(windows[0], windows[1:])
        self._settle_threads(batch)
        began = time.perf_counter()
        loss, norm, targets = one_step(job, self.optimiser, batch, factor)
        if self.threads is not None:
            self.threads.note(time.perf_counter() - began)
        bound = spike_bound([row[1] for row in self._recent()], job.safety)
        if loss > bound:
            raise Spike(f"loss {loss:.3f}, above {bound:.3f}")
        self.curve.append([float(self.step), loss, factor, norm, targets])
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        if (
            self.step < job.course.end
            and self._clock() - self._saved_at >= job.safety.checkpoint_seconds
        ):
            self._save()
        self.live.note(self.curve[-1], place)

    def _settle_threads(self, batch: Sequence[M]) -> None:
        """Let the step compute on as many threads as are quickest; measured with steps like it."""
        if self.threads is None:
            return
        long = self.job.course.end >= FEWEST_STEPS
        trial = partial(self._try_step, batch) if long else None
        measured = self.threads.settle(self.step, trial, self._untouched)
        if measured and self.job.budget is not None:
            self.job.budget.leave_out(self.step, self._seconds())

    def _try_step(self, batch: Sequence[M]) -> None:
        # A loss that is no number is the real step's to find; it takes as long to compute.
        with suppress(NonFinite):
            one_step(self.job, self.optimiser, batch[:1], 0.0)

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Put everything that a step moves back as it was."""
        before = {
            name: tensor.detach().clone()
            for name, tensor in collect({"model": self.modules}, self.optimiser).items()
        }
        try:
            yield
        finally:
            restore(before, {"model": self.modules}, self.optimiser)

    def roll_back(self, why: str) -> None:
        """Go back to the last good state, and leave the window out that broke the step."""
        self.setbacks.add([self.step], spike=False)
        times = self.setbacks.broken
        if times > self.job.safety.bad_steps:
            raise TrainingDiverged(
                f"training broke at step {self.step} ({why}), for the {times}th time; "
                "lower the learning rates"
            )
        log.warning("step %d: %s; rolled back, its window is left out", self.step, why)
        self.setbacks.write()
        self._go_back()

    def undo_spike(self, why: str) -> None:
        """Go back to a state from before a spike, and leave out the windows that led to it."""
        span, at = self.job.safety.spike_span, self.step
        first = max(0, at - span + 1)
        self.setbacks.add(range(first, at + 1), spike=True)
        borne = self.job.safety.spikes
        if self.setbacks.spikes > borne:
            raise TrainingDiverged(
                f"the loss spiked at step {at} ({why}) once more after {borne} spikes were undone; "
                "lower the learning rates, or set safety.spike to null to bear it"
            )
        # Forgotten before the journal is written: a kill in between finds the same spike again.
        self.states.forget_after(first)
        self.setbacks.write()
        self._go_back()
        log.warning(
            "step %d: %s; rolled back to step %d, windows %d to %d are left out",
            *(at, why, self.step, first, at),
        )

    def _go_back(self) -> None:
        self.loader.forget()
        spent = self._seconds()
        if not self._load():
            raise MillError("training broke and no saved state can be read; run it again")
        self._spent = spent  # the budget pays for what is undone
        self.work.progress.start(self.job.course.end, "steps", done=self.step)

    def trained(self) -> Trained:
        """The figures, at the end."""
        last = self.curve[-max(1, self.step // 10) :]
        return Trained(
            steps=self.step,
            targets=sum(row[4] for row in self.curve),
            loss=math.fsum(row[1] for row in last) / len(last),
            skipped=self.setbacks.skipped,
            wait_seconds=self.loader.wait_seconds,
            starved=self.loader.starved,
            rate=self.live.rate,
            utilisation=self.live.utilisation,
        )

    def tell_speed(self) -> None:
        """Report how quick this try was, for the expected time of the next training."""
        of, rate = self.job.speed_of, self.live.operations_per_second
        steps = self.step - self.began_at
        tell = self.work.progress.achieved
        if of is None or tell is None or rate <= 0 or steps < LEAST_TIMED_STEPS:
            return
        if self.job.ranks.world > 1:  # as quick as so many processes are, of other machines too
            return
        tell(
            TrainingSpeed(
                parameters=of.parameters,
                operations_per_second=rate,
                device=of.device,
                precision=of.precision,
                source=of.stage,
            )
        )

    def _recent(self) -> list[list[float]]:
        return self.curve[-self.job.safety.spike_window :]

    def curve_table(self) -> pa.Table:
        columns = list(zip(*self.curve, strict=True)) or [()] * len(CURVE)
        kinds = [pa.int64(), pa.float64(), pa.float64(), pa.float64(), pa.int64()]
        arrays = [
            pa.array([int(v) for v in column] if kind == pa.int64() else list(column), kind)
            for column, kind in zip(columns, kinds, strict=True)
        ]
        return pa.table(dict(zip(CURVE, arrays, strict=True)))

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
        if self.average is not None:
            self.average.load(saved.tensors)
        try:
            self.curve = saved.tensors["curve"].tolist()
            self._spent, self._began = float(saved.meta["seconds"]), self._clock()
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the saved state is of another format: {error}") from error
        self.step = saved.step
        return True

    def _save(self) -> None:
        tensors = collect({"model": self.modules}, self.optimiser)
        if self.average is not None:
            tensors.update(self.average.tensors())
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64).view(-1, len(CURVE))
        self.states.save(self.step, tensors, {"seconds": self._seconds()})
        self._saved_at = self._clock()
