"""Search for the quickest number of threads, and when to repeat it; free of torch.

Beside a busy neighbour fewer threads than cores are often quicker, since each part of a step waits
for the thread that must share its core. What is quickest is measured on the work itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from components.core.process.usable_cores import usable_cores
from components.core.settings import openmp_threads

SLOWER = 1.5
"""Times the usual seconds of a step: more than blocks of another length make of it."""
WINDOW_STEPS, WINDOW_SECONDS = 8, 0.5
"""What a median is taken of: a neighbour's moment of work changes nothing."""
PAUSE_SECONDS, PAUSE_COSTS = 5.0, 4.0
"""Before steps that grew slower are looked into, so many seconds pass since the last measurement,
and so many times those that it took."""
PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS, PATIENCE_COSTS = 20.0, 300.0, 20.0
"""The same for a look without a cause. Where it changes nothing, the next comes twice as late."""
REPEATS, LEAST_TRIAL_SECONDS, MOST_REPEATS = 2, 0.05, 20
MUCH_SLOWER = 1.3
"""Times the best so far: still fewer threads need not be tried."""
TOLERANCE = 1.05
"""So little slower, fewer threads are taken: the cores are of more use to others."""
WORTH_A_CHANGE = 1.1
"""Times slower than the quickest, that a number of threads in use is left for it."""
Trial = Callable[[], None]


def thread_limit() -> int:
    """The most threads that are of use: the usable cores, or what OMP_NUM_THREADS allows."""
    return min(usable_cores(), openmp_threads() or usable_cores())


def counts_to_try(limit: int) -> list[int]:
    """All cores, all but the one that a busy neighbour takes, half of them, one: most first."""
    return sorted({limit, max(1, limit - 1), max(1, limit // 2), 1}, reverse=True)


def time_counts(
    trial: Trial,
    counts: Sequence[int],
    use: Callable[[int], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Mean seconds of a trial on each of ``counts``, as far down as fewer are worth trying.

    Args:
        trial: a step that leaves everything as it was; the first, which allocates, is not counted.
        counts: numbers of threads, the most first.
        use: sets the number of threads.
        clock: seconds; a test has its own.
    """
    seconds: dict[int, float] = {}
    use(counts[0])
    trial()
    for count in counts:
        use(count)
        began, repeats = clock(), 0
        while repeats < REPEATS or (
            clock() - began < LEAST_TRIAL_SECONDS and repeats < MOST_REPEATS
        ):
            trial()
            repeats += 1
        seconds[count] = (clock() - began) / repeats
        if seconds[count] > MUCH_SLOWER * min(seconds.values()):
            break
    return seconds


def fewest_quick(seconds: Mapping[int, float]) -> int:
    """The fewest threads that are as good as the quickest."""
    bound = TOLERANCE * min(seconds.values())
    return min(count for count, taken in seconds.items() if taken <= bound)


def worth_changing(held: int, seconds: Mapping[int, float]) -> bool:
    """Whether the quickest number of threads is quicker than the one in use beyond noise.

    One that was not tried is fewer than some that were found much slower.
    """
    return held not in seconds or seconds[held] > WORTH_A_CHANGE * min(seconds.values())


@dataclass
class Watch:
    """Tells from the seconds of steps when the number of threads should be measured again."""

    clock: Callable[[], float]
    usual: float | None = None
    """Seconds of a step as they were at their best since the last choice."""
    now: float | None = None
    """Of the last whole window."""
    cost: float = 0.0
    """Seconds that the last measurement took."""
    patience: float = PATIENCE_SECONDS
    _window: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looked_at = self.clock()

    def note(self, seconds: float) -> None:
        """Take down the seconds of a step."""
        self._window.append(seconds)
        if len(self._window) < WINDOW_STEPS or sum(self._window) < WINDOW_SECONDS:
            return
        self.now = sorted(self._window)[len(self._window) // 2]
        self.usual = min(self.now, self.usual or self.now)
        self._window.clear()

    def due(self) -> bool:
        """Whether to measure: steps are much slower, or it has not been done for long."""
        since = self.clock() - self._looked_at
        if self.slowdown > SLOWER:
            return since >= max(PAUSE_SECONDS, PAUSE_COSTS * self.cost)
        return since >= max(self.patience, PATIENCE_COSTS * self.cost)

    @property
    def slowdown(self) -> float:
        """The present seconds of a step in usual ones."""
        return self.now / self.usual if self.now and self.usual else 1.0

    def begin(self, *, cost: float, changed: bool) -> None:
        """Watch anew, after a measurement that took ``cost`` seconds."""
        self.usual = self.now = None
        self._window.clear()
        longer = min(2 * self.patience, LONGEST_PATIENCE_SECONDS)
        self.patience = PATIENCE_SECONDS if changed else longer
        self.cost = cost
        self._looked_at = self.clock()
