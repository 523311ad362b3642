"""A time budget: a short probe says how many steps fit, and the training keeps measuring.

What is left is spread anew over more or fewer steps when the machine turns out slower or quicker
(``components/train/budget/step_plan.py``), so other programs on it cost steps, not minutes.
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
from components.core.process.thread_tuning import Threads
from components.core.store.workdir import Workdir
from components.train.budget.memory_reuse import keep_freed_memory
from components.train.budget.minutes_budget import PROBES, WARM_UPS, MinutesBudget
from components.train.budget.step_plan import JOURNAL, Course, read_course, write_course
from components.train.trainer.training_loop import Job, one_step

log = get_logger(__name__)
LOOKS = 24
"""How often in the course of a budget the pace is looked at."""
SHORTEST_LOOK_SECONDS = 0.5
TOLERANCE = 0.01
"""A change of what is left that is not worth a turn."""
LEAST_LEFT = 0.02
"""Of the steps done: over so many the rates come down, also when the budget is spent."""
Phase = tuple[float, Callable[[], None]]
Timed = tuple[float, float]
M = TypeVar("M")


class Budget:
    """Keeps a course to a number of seconds; ``phases`` are (share of progress, seconds a step)."""

    def __init__(
        self,
        course: Course,
        seconds: float,
        phases: Sequence[Timed],
        *,
        scratch: Path,
        probe_seconds: float = 0.0,
        most: int | None = None,
    ) -> None:
        self.course, self.seconds, self.phases = course, seconds, list(phases)
        self.scratch, self.probe_seconds, self.most = scratch, probe_seconds, most
        self._look_seconds = max(SHORTEST_LOOK_SECONDS, seconds / LOOKS)
        self._mark: tuple[int, float] | None = None

    def keep(self, step: int, spent: float) -> bool:
        """Look at the pace before ``step``, ``spent`` seconds in; whether the course turned."""
        if self._mark is None or step < self._mark[0]:
            self._mark = (step, spent)
        since, then = self._mark
        known = step <= self.course.legs[-1].at  # an earlier try has been here
        if known or step == since or spent - then < self._look_seconds:
            return False
        expected = math.fsum(self._expected(earlier) for earlier in range(since, step))
        slower = (spent - then) / expected
        self._mark = (step, spent)
        end = self._end(step, (self.seconds - spent) / slower)
        if abs(end - self.course.end) <= max(1.0, TOLERANCE * (self.course.end - step)):
            return False
        self.course.turn(step, end)
        self.journal()
        return True

    def leave_out(self, step: int, spent: float) -> None:
        """Look at the pace from here on: what was spent since the last look was no step's."""
        self._mark = (step, spent)

    def journal(self) -> None:
        """Write down the course with what it was made from."""
        write_course(
            self.scratch, self.course, phases=self.phases, probe_seconds=self.probe_seconds
        )

    def _end(self, step: int, seconds: float) -> int:
        """The end if ``seconds`` are left, at the speed of the probe."""
        progress = self.course.place(step).progress
        left, cost, reached = 1.0 - progress, 0.0, 0.0
        for share, seconds_a_step in self.phases:
            cost += max(0.0, reached + share - max(reached, progress)) * seconds_a_step
            reached += share
        end = step + int(seconds * left / cost)
        if self.most is not None:
            end = min(end, self.most)
        # Never put off again and again: a spent budget shortens the course, or leaves it.
        least = step + max(1, math.ceil(LEAST_LEFT * step))
        return max(end, min(least, self.course.end))

    def _expected(self, step: int) -> float:
        """Seconds that the probe promised for a step."""
        progress, reached = self.course.place(step).progress, 0.0
        for share, seconds_a_step in self.phases:
            reached += share
            if progress < reached:
                return seconds_a_step
        return self.phases[-1][1]


@dataclasses.dataclass(frozen=True)
class Wish:
    """A budget in minutes as a stage's config asks for it."""

    stage: str
    minutes: float
    min_steps: int
    refuse: bool = True
    """Fewer steps are an error; False warns of them: what led to this stage is paid for."""


def time_budget(
    wish: Wish,
    scratch: Path,
    phases: Callable[[], Sequence[Phase]],
    most: int | None = None,
    agreed: Callable[[list[Timed]], list[Timed]] = list,
    threads: Threads | None = None,
) -> Budget:
    """A budget of minutes with its first estimate: from the journal, else measured.

    Args:
        phases: gives (share of all steps, one step of that kind) pairs; called only to measure.
            The steps must leave the model and the generator as they were.
        most: never more steps than these.
        agreed: makes one measurement of those of several ranks; the last is the whole probe's.
        threads: settles on how many threads the steps are measured, and then trained; None leaves
            it as it is.

    Raises:
        ConfigError: the minutes come to fewer steps than the config allows.
        DataError: the journal is damaged.
    """
    seconds, known = 60.0 * wish.minutes, read_course(scratch)
    if known is not None:
        course, facts = known
        try:
            timed = [(float(share), float(took)) for share, took in facts["phases"]]
            probe = float(facts["probe_seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{JOURNAL} is damaged ({error}); delete it to measure anew") from error
        return Budget(course, seconds, timed, scratch=scratch, probe_seconds=probe, most=most)
    began = time.perf_counter()
    to_time = [(share, step) for share, step in phases() if share]
    with threads or nullcontext():
        if threads is not None:
            threads.settle(0, to_time[-1][1])
        timed = [(share, _seconds(step)) for share, step in to_time]
    *timed, (_, probe) = agreed([*timed, (0.0, time.perf_counter() - began)])
    mean = math.fsum(share * took for share, took in timed)
    measured = MinutesBudget(wish.stage, wish.minutes, mean, wish.min_steps, probe, most)
    if measured.refusal is not None:
        if wish.refuse:
            raise ConfigError(measured.refusal)
        log.warning(measured.refusal)
    log.info("%s: %s", wish.stage, measured)
    course = Course.of(measured.steps)
    budget = Budget(course, seconds, timed, scratch=scratch, probe_seconds=probe, most=most)
    budget.journal()
    return budget


def for_minutes(
    job: Job[M],
    wish: Wish,
    work: Workdir,
    trial: Callable[[], Job[M]],
    most: int | None = None,
) -> Job[M]:
    """``job`` with the course and the pace of a time budget whose steps are all of one kind.

    Args:
        work: the stage's, whose scratch holds the journals.
        trial: gives an equal job on copies; called only to measure.
        most: never more steps than these.

    Raises:
        ConfigError: the minutes come to fewer steps than the config allows.
        DataError: the journal is damaged.
    """

    def phases() -> list[Phase]:
        return [(1.0, _undrawn(trial_step(trial())))]

    threads = job.ranks.threads(nn.ModuleDict(dict(job.modules)), work)
    budget = time_budget(wish, work.scratch, phases, most, threads=threads)
    return dataclasses.replace(job, course=budget.course, budget=budget)


def _undrawn(step: Callable[[], None]) -> Callable[[], None]:
    """A trial step that leaves the generator, which dropout draws from, as it was."""

    def kept() -> None:
        with torch.random.fork_rng(devices=[]):
            step()

    return kept


def trial_step(job: Job[M]) -> Callable[[], None]:
    """The first step of ``job``, again and again, at rate 0. Its modules must be copies."""
    optimiser = job.ranks.optimiser(nn.ModuleDict(dict(job.modules)), job.optim)
    keep_freed_memory()

    def step() -> None:
        one_step(job, optimiser, job.batch(0), 0.0)

    return step


def _seconds(step: Callable[[], None]) -> float:
    """Mean seconds of a step, the first ones (which allocate) left out."""
    for _ in range(WARM_UPS):
        step()
    start = time.perf_counter()
    for _ in range(PROBES):
        step()
    return (time.perf_counter() - start) / PROBES
