"""Training loop of every training by gradient descent but PPO and the reward head.

A job gives the micro-batches of a step and their loss; the loop accumulates gradients, clips,
steps the optimiser, records, saves and resumes. A killed run that is called again ends with the
bytes of an uninterrupted one: the state holds weights, moments, generator and curve, and the data
are a pure function of the step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

import pyarrow as pa
import torch
from torch import nn

from components.core.errors import DataError, MillError, TrainingDiverged
from components.core.log import get_logger
from components.core.process.thread_tuning import ThreadTuner
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.core.training_speed import TrainingSpeed
from components.train.budget.memory_reuse import keep_freed_memory
from components.train.data.batch_loader import AHEAD, BatchLoader
from components.train.trainer.ema import WeightEma
from components.train.trainer.learning_rate import rate_factor_at
from components.train.trainer.loss_spikes import Rollbacks, spike_bound
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_job import M, TrainingJob
from components.train.trainer.training_monitor import TrainingMonitor
from components.train.trainer.training_state import collect_state, restore_state

log = get_logger(__name__)
LEAST_STEPS_TO_TUNE = 40
"""Trainings of at least this many steps choose their thread count by timing real steps, about six.

Shorter trainings time a sample of a decoder's operations instead.
"""
CURVE_COLUMNS = ("step", "loss", "rate", "grad_norm", "targets")
LEAST_TIMED_STEPS = 20
"""Steps from which the speed of a try is recorded: the first steps allocate and are slower."""


@dataclass(frozen=True)
class TrainingResult:
    """Figures of a finished training."""

    steps: int
    targets: float
    """Targets that all steps predicted, those of earlier tries included."""
    loss: float
    """Mean over the last tenth of the steps."""
    skipped: int
    """Batches left out after a non-finite step or a loss spike."""
    wait_seconds: float = 0.0
    """Time that the steps of this try waited for their batches."""
    late_batches: int = 0
    """Steps of this try whose batch came too late."""
    targets_per_second: float = 0.0
    """Targets a second of this try."""
    utilisation: float | None = None
    """Share of the machine's measured peak rate (MFU); None where that is not known."""


class NonFiniteStep(Exception):
    """The loss or the gradient of a step is not finite."""


class LossSpike(Exception):
    """The loss of a step lies far above those before it."""


def run_training(job: TrainingJob[M], work: Workdir) -> TrainingResult:
    """Train to the end, from the state that an earlier try left; writes ``curve.parquet``.

    Raises:
        TrainingDiverged: the loss was not finite more often than ``safety.bad_steps``, or rose
            far above the losses before it more often than ``safety.spikes``.
        DataError: a saved state is of another model or format.
    """
    keep_freed_memory()
    modules = nn.ModuleDict(dict(job.modules))
    with (
        TrainingMonitor(job, work) as monitor,
        BatchLoader(job.batch) as loader,
        ExitStack() as exits,
    ):
        threads = job.collectives.thread_tuner(modules, work)
        exits.enter_context(threads or nullcontext())
        optimiser = job.collectives.make_optimiser(modules, job.optim)
        run = _TrainingRun(job, work, modules, optimiser, loader, monitor, threads)
        run.resume()
        work.progress.start_count(job.plan.end, "steps", done=run.step)
        while run.step < job.plan.end:
            try:
                run.advance()
            except NonFiniteStep as error:
                run.roll_back(str(error))
            except LossSpike as error:
                run.undo_spike(str(error))
        run.states.finish()
    run.report_speed()
    modules.zero_grad(set_to_none=True)
    if run.ema is not None:
        run.ema.apply()
    write_shard(work.folder / "curve.parquet", run.curve_table())
    return run.result()


def run_step(
    job: TrainingJob[M], optimiser: Optimiser, micro_batches: Sequence[M], factor: float
) -> tuple[float, float, float]:
    """Accumulate over the micro-batches, clip and step: (loss, gradient norm, targets).

    Args:
        job: the training, which gives loss and collectives.
        optimiser: optimiser of the job's modules.
        micro_batches: micro-batches of this rank's part of the step.
        factor: multiplies all learning rates; 0 moves nothing.

    Raises:
        NonFiniteStep: before anything moved.
    """
    collectives = job.collectives
    own_targets = math.fsum(job.count_targets(micro) for micro in micro_batches)
    targets = collectives.sum_targets(own_targets)
    total = 0.0
    for micro, counts in collectives.even_micro_batches(micro_batches):
        # A rank with fewer micro-batches repeats one with weight 0, so that no rank waits:
        # with infinitely many targets its loss is 0 and no router counts it.
        loss = job.loss(micro, max(targets, 1.0) if counts else math.inf)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    total = collectives.sum_losses(total)
    norm = optimiser.clip()
    moves = math.isfinite(total) and math.isfinite(norm)
    if moves:
        optimiser.step(factor)
    if job.after_step is not None:
        job.after_step(moves)
    optimiser.zero_grad()
    if not moves:
        raise NonFiniteStep(f"loss {total}, gradient norm {norm}")
    return total, norm, targets


@dataclass
class _TrainingRun(Generic[M]):
    job: TrainingJob[M]
    work: Workdir
    modules: nn.ModuleDict
    optimiser: Optimiser
    loader: BatchLoader[M]
    monitor: TrainingMonitor
    threads: ThreadTuner | None
    """None where several ranks share out the cores, or a GPU computes."""
    step: int = 0
    first_step: int = 0
    """Step that this try resumed from."""
    curve: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = self.job.collectives.open_states(
            self.work.scratch / "states", self.job.safety.keep, self.modules
        )
        self.rollbacks = Rollbacks.read(self.work.scratch)
        decay = self.job.ema_decay
        self.ema = None if decay is None else WeightEma(self.modules, decay)
        self._resumed_at = self._saved_at = self._clock()
        self._spent = self.job.budget.probe_seconds if self.job.budget else 0.0

    def resume(self) -> None:
        """Load the newest intact state; where there is none, save the initial one."""
        if not self._load():
            self._save()
        elif self.step:
            self.work.progress.note_resumed(f"at step {self.step}")
        self.first_step = self.step

    def advance(self) -> None:
        """Take one step: replan, compute, check for a spike, record, save if due."""
        job = self.job
        if job.budget is not None and job.budget.replan_if_off_pace(self.step, self._seconds()):
            self.work.progress.total = job.plan.end
            self.loader.drop_pending()
        point = job.plan.progress_at(self.step)
        factor = rate_factor_at(point, job.schedule)
        upcoming = range(self.step + 1, min(self.step + 1 + AHEAD, job.plan.end))
        numbers = [self.rollbacks.batch_number(step) for step in (self.step, *upcoming)]
        batch = self.loader.take_batch(numbers[0], numbers[1:])
        self._settle_threads(batch)
        step_started = time.perf_counter()
        loss, norm, targets = run_step(job, self.optimiser, batch, factor)
        if self.threads is not None:
            self.threads.note_step(time.perf_counter() - step_started)
        bound = spike_bound([row[1] for row in self._recent()], job.safety)
        if loss > bound:
            raise LossSpike(f"loss {loss:.3f}, above {bound:.3f}")
        self.curve.append([float(self.step), loss, factor, norm, targets])
        if self.ema is not None:
            self.ema.update(self.step)
        self.step += 1
        if (
            self.step < job.plan.end
            and self._clock() - self._saved_at >= job.safety.checkpoint_seconds
        ):
            self._save()
        self.monitor.record_step(self.curve[-1], point)

    def _settle_threads(self, batch: Sequence[M]) -> None:
        """Choose the quickest number of threads for the step, measured on steps like it."""
        if self.threads is None:
            return
        long = self.job.plan.end >= LEAST_STEPS_TO_TUNE
        trial = partial(self._try_step, batch) if long else None
        measured = self.threads.settle_threads(self.step, trial, self._restoring_state)
        if measured and self.job.budget is not None:
            self.job.budget.exclude_pause(self.step, self._seconds())

    def _try_step(self, batch: Sequence[M]) -> None:
        # A non-finite loss takes as long to compute, and the real step reports it.
        with suppress(NonFiniteStep):
            run_step(self.job, self.optimiser, batch[:1], 0.0)

    @contextmanager
    def _restoring_state(self) -> Iterator[None]:
        """Restore everything that a step moves."""
        state = {
            name: tensor.detach().clone()
            for name, tensor in collect_state({"model": self.modules}, self.optimiser).items()
        }
        try:
            yield
        finally:
            restore_state(state, {"model": self.modules}, self.optimiser)

    def roll_back(self, why: str) -> None:
        """Return to the last intact state and skip the batch that broke the step."""
        self.rollbacks.skip_batches([self.step], spike=False)
        times = self.rollbacks.broken
        if times > self.job.safety.bad_steps:
            raise TrainingDiverged(
                f"training broke at step {self.step} ({why}), for the {times}th time; "
                "lower the learning rates"
            )
        log.warning("step %d: %s; rolled back, its batch is left out", self.step, why)
        self.rollbacks.write()
        self._go_back()

    def undo_spike(self, why: str) -> None:
        """Return to a state from before a spike and skip the batches that led to it."""
        span, at = self.job.safety.spike_span, self.step
        first = max(0, at - span + 1)
        self.rollbacks.skip_batches(range(first, at + 1), spike=True)
        allowed = self.job.safety.spikes
        if self.rollbacks.spikes > allowed:
            raise TrainingDiverged(
                f"the loss spiked at step {at} ({why}) once more after {allowed} spikes were "
                "undone; lower the learning rates, or set safety.spike to null to allow it"
            )
        # Removed before the rollback journal is written: after a kill in between, the spike comes
        # again.
        self.states.delete_after(first)
        self.rollbacks.write()
        self._go_back()
        log.warning(
            "step %d: %s; rolled back to step %d, batches %d to %d are left out",
            *(at, why, self.step, first, at),
        )

    def _go_back(self) -> None:
        self.loader.drop_pending()
        spent = self._seconds()
        if not self._load():
            raise MillError("training broke and no saved state can be read; run it again")
        self._spent = spent  # undone steps count towards the time budget
        self.work.progress.start_count(self.job.plan.end, "steps", done=self.step)

    def result(self) -> TrainingResult:
        """Final figures."""
        last = self.curve[-max(1, self.step // 10) :]
        return TrainingResult(
            steps=self.step,
            targets=sum(row[4] for row in self.curve),
            loss=math.fsum(row[1] for row in last) / len(last),
            skipped=self.rollbacks.skipped,
            wait_seconds=self.loader.wait_seconds,
            late_batches=self.loader.late_batches,
            targets_per_second=self.monitor.rate,
            utilisation=self.monitor.utilisation,
        )

    def report_speed(self) -> None:
        """Report the speed of this try, from which plans estimate the next training."""
        setting, rate = self.job.measured_setting, self.monitor.operations_per_second
        steps = self.step - self.first_step
        report = self.work.progress.on_training_speed
        if setting is None or report is None or rate <= 0 or steps < LEAST_TIMED_STEPS:
            return
        if self.job.collectives.world > 1:
            return  # a speed of several processes, perhaps on several machines
        report(
            TrainingSpeed(
                parameters=setting.parameters,
                operations_per_second=rate,
                device=setting.device,
                precision=setting.precision,
                source=setting.stage,
            )
        )

    def _recent(self) -> list[list[float]]:
        return self.curve[-self.job.safety.spike_window :]

    def curve_table(self) -> pa.Table:
        columns = list(zip(*self.curve, strict=True)) or [()] * len(CURVE_COLUMNS)
        kinds = [pa.int64(), pa.float64(), pa.float64(), pa.float64(), pa.int64()]
        arrays = [
            pa.array([int(v) for v in column] if kind == pa.int64() else list(column), kind)
            for column, kind in zip(columns, kinds, strict=True)
        ]
        return pa.table(dict(zip(CURVE_COLUMNS, arrays, strict=True)))

    def _seconds(self) -> float:
        """Seconds of training before the present step, those of earlier tries included."""
        return self._spent + self._clock() - self._resumed_at

    def _clock(self) -> float:
        """Rank 0's clock: decisions that depend on time must be the same on all ranks."""
        return self.job.collectives.broadcast(time.monotonic())

    def _load(self) -> bool:
        saved = self.states.latest()
        if saved is None:
            return False
        restore_state(saved.tensors, {"model": self.modules}, self.optimiser)
        if self.ema is not None:
            self.ema.load(saved.tensors)
        try:
            self.curve = saved.tensors["curve"].tolist()
            self._spent, self._resumed_at = float(saved.meta["seconds"]), self._clock()
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the saved state is of another format: {error}") from error
        self.step = saved.step
        return True

    def _save(self) -> None:
        tensors = collect_state({"model": self.modules}, self.optimiser)
        if self.ema is not None:
            tensors.update(self.ema.tensors())
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64).view(
            -1, len(CURVE_COLUMNS)
        )
        self.states.save(self.step, tensors, {"seconds": self._seconds()})
        self._saved_at = self._clock()
