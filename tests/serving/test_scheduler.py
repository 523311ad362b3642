from __future__ import annotations

import pytest

from serving.engine.scheduler import IDLE, Job, QueueFull, Scheduler


def scheduler(slots: int = 2, queue: int = 2, prefill: int = 4) -> Scheduler:
    return Scheduler(slots, queue, prefill)


def test_first_come_first_served_and_the_queue_has_an_end() -> None:
    made = scheduler()
    jobs = [Job([1]) for _ in range(4)]
    for job in jobs:
        made.submit(job)
    with pytest.raises(QueueFull):
        made.submit(Job([1]))
    assert made.plan().rows == jobs[:2]

    jobs[0].over = True
    assert made.plan().rows == [jobs[1], jobs[2]]


def test_a_long_prompt_goes_in_by_pieces_while_others_decode() -> None:
    made = scheduler()
    short, long = Job([1]), Job(list(range(10)))
    made.submit(short)
    made.plan()
    short.last = 42
    made.submit(long)
    turns = [made.plan() for _ in range(3)]
    assert [[list(p.tokens) for p in turn.pieces] for turn in turns] == [
        [[0, 1, 2, 3]],
        [[4, 5, 6, 7]],
        [[8, 9]],
    ]
    assert [turn.pieces[0].last for turn in turns] == [False, False, True]
    assert [turn.tokens for turn in turns] == [[42, IDLE]] * 3
    long.last = 7
    assert made.plan().tokens == [42, 7]


def test_the_last_row_takes_a_freed_place() -> None:
    made = scheduler(slots=3)
    jobs = [Job([1]) for _ in range(3)]
    for job in jobs:
        made.submit(job)
    made.plan()
    jobs[0].over = jobs[1].over = True
    plan = made.plan()
    assert plan.leaves == [1, 0]
    assert plan.rows == [jobs[2]]


def test_who_gave_up_while_waiting_takes_no_slot_and_no_place_in_the_queue() -> None:
    made = scheduler(slots=1, queue=1)
    jobs = [Job([1]) for _ in range(2)]
    for job in jobs:
        made.submit(job)
    jobs[0].over = jobs[1].over = True
    late = Job([1])
    made.submit(late)
    assert made.plan().rows == [late]
    late.over = True
    made.plan()
    assert made.plan().empty
