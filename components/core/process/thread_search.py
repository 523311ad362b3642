"""Search for the fastest number of threads, and the rule for repeating it; free of torch.

Beside a busy neighbour fewer threads than cores are often faster, since each part of a step waits
for the thread that shares its core. The search times the work itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from components.core.process.usable_cores import usable_cores
from components.core.thread_settings import openmp_threads

SLOWDOWN_LIMIT = 1.5
"""Times the best seconds of a step; batches of another length alone vary by less."""
WINDOW_STEPS, WINDOW_SECONDS = 8, 0.5
"""Least size of the window whose median counts, so that a short burst elsewhere has no effect."""
PAUSE_SECONDS, PAUSE_COSTS = 5.0, 4.0
"""Least time between measurements after a slowdown: in seconds, and in times the last one took."""
PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS, PATIENCE_COSTS = 20.0, 300.0, 20.0
"""The same without a slowdown; doubled, up to a limit, whenever a measurement changes nothing."""
REPEATS, LEAST_TRIAL_SECONDS, MOST_REPEATS = 2, 0.05, 20
MUCH_SLOWER = 1.3
"""Times the best so far; beyond it still fewer threads are not tried."""
TOLERANCE = 1.05
"""Times the best: within it fewer threads are preferred, since others can use the cores."""
WORTH_A_CHANGE = 1.1
"""Times the best: beyond it the number of threads in use is changed."""
TrialStep = Callable[[], None]


def thread_limit() -> int:
    """Most threads of use: the usable cores, or fewer where OMP_NUM_THREADS says so."""
    return min(usable_cores(), openmp_threads() or usable_cores())


def thread_counts_to_try(limit: int) -> list[int]:
    """Candidates, most first: all cores, all but one (a busy neighbour's), half of them, one."""
    return sorted({limit, max(1, limit - 1), max(1, limit // 2), 1}, reverse=True)


def time_thread_counts(
    trial: TrialStep,
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


def fewest_fast_threads(seconds: Mapping[int, float]) -> int:
    """Fewest threads that are as good as the fastest, within ``TOLERANCE``."""
    bound = TOLERANCE * min(seconds.values())
    return min(count for count, taken in seconds.items() if taken <= bound)


def is_worth_changing(threads: int, seconds: Mapping[int, float]) -> bool:
    """True if the fastest number of threads beats the one in use beyond noise.

    A number that was not timed is below one that was already much slower than the best.
    """
    return threads not in seconds or seconds[threads] > WORTH_A_CHANGE * min(seconds.values())


@dataclass
class SlowdownWatch:
    """Rule for measuring the number of threads again, from the seconds that steps take."""

    clock: Callable[[], float]
    best_seconds: float | None = None
    """Lowest median seconds of a step since the last choice."""
    current_seconds: float | None = None
    """Median seconds of a step in the last whole window."""
    measuring_seconds: float = 0.0
    """Duration of the last measurement."""
    patience_seconds: float = PATIENCE_SECONDS
    _window: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looked_at = self.clock()

    def note_step(self, seconds: float) -> None:
        """Record the seconds of a step."""
        self._window.append(seconds)
        if len(self._window) < WINDOW_STEPS or sum(self._window) < WINDOW_SECONDS:
            return
        self.current_seconds = sorted(self._window)[len(self._window) // 2]
        self.best_seconds = min(self.current_seconds, self.best_seconds or self.current_seconds)
        self._window.clear()

    def is_due(self) -> bool:
        """True if steps became much slower, or the last measurement is long ago."""
        since = self.clock() - self._looked_at
        if self.slowdown > SLOWDOWN_LIMIT:
            return since >= max(PAUSE_SECONDS, PAUSE_COSTS * self.measuring_seconds)
        return since >= max(self.patience_seconds, PATIENCE_COSTS * self.measuring_seconds)

    @property
    def slowdown(self) -> float:
        """Present seconds of a step over the best."""
        return (
            self.current_seconds / self.best_seconds
            if self.current_seconds and self.best_seconds
            else 1.0
        )

    def restart(self, *, measuring_seconds: float, changed: bool) -> None:
        """Start over after a measurement.

        Args:
            measuring_seconds: its duration.
            changed: whether it changed the number of threads.
        """
        self.best_seconds = self.current_seconds = None
        self._window.clear()
        longer = min(2 * self.patience_seconds, LONGEST_PATIENCE_SECONDS)
        self.patience_seconds = PATIENCE_SECONDS if changed else longer
        self.measuring_seconds = measuring_seconds
        self._looked_at = self.clock()
