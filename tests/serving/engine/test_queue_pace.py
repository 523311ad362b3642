"""The queue is as long as its wait may be, by the pace at which rows became free."""

from __future__ import annotations

import math

import pytest

from serving.engine.scheduler import Scheduler
from serving.engine.waiting_queue import LEAST_ROWS, DecodingSequence, QueueFull, QueuePace


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def crowd(made: Scheduler, clock: Clock, seconds: float, *, rounds: int) -> None:
    """Rows become free one after the other, ``seconds`` apart, while one waits for each."""
    while len(made.rows) < made.slots or not made.waiting:
        made.submit(DecodingSequence([1]))
        made.schedule_step(8)
    for _ in range(rounds):
        clock.now += seconds
        made.rows[0].finished = True
        made.schedule_step(8)
        made.submit(DecodingSequence([1]))
        made.schedule_step(8)


def fill(made: Scheduler) -> int:
    """Number that waits once one more is refused."""
    for _ in range(1000):
        try:
            made.submit(DecodingSequence([1]))
        except QueueFull:
            return len(made.waiting)
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(("seconds", "waiting"), [(0.1, 15), (0.01, 64), (1.0, 2)])
def test_as_many_wait_as_are_served_in_time(seconds: float, waiting: int) -> None:
    clock = Clock()
    made = Scheduler(2, 64, wait_seconds=1.5, least_queue=2, clock=clock)
    crowd(made, clock, seconds, rounds=LEAST_ROWS + 4)
    assert fill(made) == waiting


def test_the_number_alone_counts_before_the_pace_is_known() -> None:
    clock = Clock()
    made = Scheduler(2, 64, wait_seconds=1.5, least_queue=2, clock=clock)
    crowd(made, clock, 1.0, rounds=LEAST_ROWS - 1)
    assert fill(made) == 64


def test_the_time_limit_of_the_queue_bounds_it_too() -> None:
    clock = Clock()
    made = Scheduler(2, 64, queue_seconds=0.5, least_queue=2, clock=clock)
    crowd(made, clock, 0.1, rounds=LEAST_ROWS)
    assert fill(made) == 5


def test_time_in_which_nobody_waits_says_nothing_of_the_pace() -> None:
    pace = QueuePace()
    for step in range(LEAST_ROWS):
        pace.note_step(10.0 * step, 1, crowded=False)
    assert math.isinf(pace.count_served(1.0))
    for step in range(LEAST_ROWS + 1):
        pace.note_step(100 + 0.5 * step, 1, crowded=True)
    assert pace.count_served(3.0) == 6.0


def test_a_request_that_would_be_refused_is_known_before_it_is_made() -> None:
    made = Scheduler(1, 2)
    for client in ("much", "much", "much"):
        made.submit(DecodingSequence([1], client))
        made.schedule_step(8)
    with pytest.raises(QueueFull):
        made.check_queue("much")
    assert made.waiting.refused == 1
    made.check_queue("little")  # takes the place of the one that asked much
    assert (made.waiting.refused, len(made.waiting)) == (1, 2)
