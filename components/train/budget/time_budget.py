"""Time budget of a training: a probe estimates the steps that fit, and measuring goes on.

The remaining progress is replanned over more or fewer steps when the machine turns out quicker or
slower (``components/train/budget/step_plan.py``), so other programs on it cost steps, not minutes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.process.thread_tuning import ThreadTuner
from components.core.store.workdir import Workdir
from components.train.budget.memory_reuse import keep_freed_memory
from components.train.budget.minutes_budget import PROBE_STEPS, WARM_UP_STEPS, MinutesBudget
from components.train.budget.step_plan import (
    STEP_PLAN_FILE,
    StepPlan,
    read_step_plan,
    write_step_plan,
)
from components.train.trainer.training_job import TrainingJob
from components.train.trainer.training_loop import run_step

log = get_logger(__name__)
PACE_CHECKS = 24
"""Checks of the pace within a budget."""
LEAST_CHECK_SECONDS = 0.5
TOLERANCE = 0.01
"""Relative change of the remaining steps that is not worth a replan."""
LEAST_REMAINDER = 0.02
"""Fraction of the steps done that a spent budget still gets, for the rates to come down."""
TrialPhase = tuple[float, Callable[[], None]]
TimedPhase = tuple[float, float]
M = TypeVar("M")


class TimeBudget:
    """Keeper of a step plan within a number of seconds.

    Args:
        plan: is replanned in place.
        seconds: seconds of the whole training, the probe included.
        phases: (share of the progress, seconds a step that the probe measured) of each phase.
        scratch: folder of the journal.
        probe_seconds: that the probe took.
        most_steps: upper bound on the steps.
    """

    def __init__(
        self,
        plan: StepPlan,
        seconds: float,
        phases: Sequence[TimedPhase],
        *,
        scratch: Path,
        probe_seconds: float = 0.0,
        most_steps: int | None = None,
    ) -> None:
        self.plan, self.seconds, self.phases = plan, seconds, list(phases)
        self.scratch, self.probe_seconds, self.most_steps = scratch, probe_seconds, most_steps
        self._look_seconds = max(LEAST_CHECK_SECONDS, seconds / PACE_CHECKS)
        self._mark: tuple[int, float] | None = None

    def replan_if_off_pace(self, step: int, spent: float) -> bool:
        """Check the pace before ``step``, after ``spent`` seconds; True where it replanned."""
        if self._mark is None or step < self._mark[0]:
            self._mark = (step, spent)
        since, then = self._mark
        known = step <= self.plan.segments[-1].start  # an earlier try replanned here
        if known or step == since or spent - then < self._look_seconds:
            return False
        expected = math.fsum(self._expected_seconds(earlier) for earlier in range(since, step))
        slower = (spent - then) / expected
        self._mark = (step, spent)
        end = self._plan_end(step, (self.seconds - spent) / slower)
        if abs(end - self.plan.end) <= max(1.0, TOLERANCE * (self.plan.end - step)):
            return False
        self.plan.replan(step, end)
        self.write_journal()
        return True

    def exclude_pause(self, step: int, spent: float) -> None:
        """Measure the pace from here on: the time since the last check was not spent on steps."""
        self._mark = (step, spent)

    def write_journal(self) -> None:
        """Journal the plan with the probe's measurements."""
        write_step_plan(
            self.scratch, self.plan, phases=self.phases, probe_seconds=self.probe_seconds
        )

    def _plan_end(self, step: int, seconds: float) -> int:
        """Last step of the plan if ``seconds`` are left, at the speed of the probe."""
        progress = self.plan.progress_at(step).progress
        left, cost, phase_start = 1.0 - progress, 0.0, 0.0
        for share, seconds_a_step in self.phases:
            cost += max(0.0, phase_start + share - max(phase_start, progress)) * seconds_a_step
            phase_start += share
        end = step + int(seconds * left / cost)
        if self.most_steps is not None:
            end = min(end, self.most_steps)
        # A spent budget may shorten the plan but never extend it, so it does end.
        least = step + max(1, math.ceil(LEAST_REMAINDER * step))
        return max(end, min(least, self.plan.end))

    def _expected_seconds(self, step: int) -> float:
        """Seconds of a step as the probe measured it."""
        progress, phase_end = self.plan.progress_at(step).progress, 0.0
        for share, seconds_a_step in self.phases:
            phase_end += share
            if progress < phase_end:
                return seconds_a_step
        return self.phases[-1][1]


@dataclasses.dataclass(frozen=True)
class MinutesRequest:
    """Time budget as a stage's config asks for it."""

    stage: str
    minutes: float
    min_steps: int
    refuse: bool = True
    """True refuses too few steps; False warns, where the stages before it have cost more."""


def open_time_budget(
    request: MinutesRequest,
    scratch: Path,
    phases: Callable[[], Sequence[TrialPhase]],
    most_steps: int | None = None,
    broadcast: Callable[[list[TimedPhase]], list[TimedPhase]] = list,
    threads: ThreadTuner | None = None,
) -> TimeBudget:
    """Open a time budget with its first plan: from the journal, else from a probe.

    Args:
        request: minutes and bounds.
        scratch: folder of the journal.
        phases: gives (share of all steps, one step of that kind) pairs; called only to measure.
            The steps must leave the model and the generator as they were.
        most_steps: never more steps than these.
        broadcast: gives all ranks the measurements of rank 0; the last is of the whole probe.
        threads: chooses the number of threads for the probe and the training; None leaves it.

    Raises:
        ConfigError: the minutes come to fewer steps than the config allows.
        DataError: the journal is damaged.
    """
    seconds, known = 60.0 * request.minutes, read_step_plan(scratch)
    if known is not None:
        plan, facts = known
        try:
            timed = [(float(share), float(step_seconds)) for share, step_seconds in facts["phases"]]
            probe = float(facts["probe_seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{STEP_PLAN_FILE} is damaged ({error}); delete it to measure anew"
            ) from error
        return TimeBudget(
            plan, seconds, timed, scratch=scratch, probe_seconds=probe, most_steps=most_steps
        )
    began = time.perf_counter()
    to_time = [(share, step) for share, step in phases() if share]
    with threads or nullcontext():
        if threads is not None:
            threads.settle_threads(0, to_time[-1][1])
        timed = [(share, _mean_step_seconds(step)) for share, step in to_time]
    *timed, (_, probe) = broadcast([*timed, (0.0, time.perf_counter() - began)])
    mean = math.fsum(share * step_seconds for share, step_seconds in timed)
    measured = MinutesBudget(
        request.stage, request.minutes, mean, request.min_steps, probe, most_steps
    )
    if measured.refusal is not None:
        if request.refuse:
            raise ConfigError(measured.refusal)
        log.warning(measured.refusal)
    log.info("%s: %s", request.stage, measured)
    plan = StepPlan.of_steps(measured.steps)
    budget = TimeBudget(
        plan, seconds, timed, scratch=scratch, probe_seconds=probe, most_steps=most_steps
    )
    budget.write_journal()
    return budget


def job_for_minutes(
    job: TrainingJob[M],
    request: MinutesRequest,
    work: Workdir,
    trial: Callable[[], TrainingJob[M]],
    most_steps: int | None = None,
) -> TrainingJob[M]:
    """``job`` with the plan of a time budget whose steps are all of one kind.

    Args:
        job: gets plan and budget.
        request: minutes and bounds.
        work: workdir of the stage; its scratch folder holds the journals.
        trial: gives an equal job on copies; called only to measure.
        most_steps: never more steps than these.

    Raises:
        ConfigError: the minutes come to fewer steps than the config allows.
        DataError: the journal is damaged.
    """

    def phases() -> list[TrialPhase]:
        return [(1.0, _keeping_generator(make_trial_step(trial())))]

    threads = job.collectives.thread_tuner(nn.ModuleDict(dict(job.modules)), work)
    budget = open_time_budget(request, work.scratch, phases, most_steps, threads=threads)
    return dataclasses.replace(job, plan=budget.plan, budget=budget)


def _keeping_generator(step: Callable[[], None]) -> Callable[[], None]:
    """A trial step that restores the random generator, from which dropout draws."""

    def restored() -> None:
        with torch.random.fork_rng(devices=[]):
            step()

    return restored


def make_trial_step(job: TrainingJob[M]) -> Callable[[], None]:
    """The first step of ``job`` at rate 0, to be called repeatedly; its modules must be copies."""
    optimiser = job.collectives.make_optimiser(nn.ModuleDict(dict(job.modules)), job.optim)
    keep_freed_memory()

    def step() -> None:
        run_step(job, optimiser, job.batch(0), 0.0)

    return step


def _mean_step_seconds(step: Callable[[], None]) -> float:
    """Mean seconds of a step without the first ones, which allocate."""
    for _ in range(WARM_UP_STEPS):
        step()
    start = time.perf_counter()
    for _ in range(PROBE_STEPS):
        step()
    return (time.perf_counter() - start) / PROBE_STEPS
