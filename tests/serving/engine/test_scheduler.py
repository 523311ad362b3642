from __future__ import annotations

import pytest

from serving.engine.prefix_cache import PrefixCache
from serving.engine.scheduler import LEAST_CHUNK, Scheduler, size_chunk
from serving.engine.waiting_queue import IDLE, DecodingSequence, QueueFull


def scheduler(slots: int = 2, queue: int = 2) -> Scheduler:
    return Scheduler(slots, queue)


def test_first_come_first_served_and_the_queue_has_an_end() -> None:
    made = scheduler()
    jobs = [DecodingSequence([1]) for _ in range(4)]
    for job in jobs:
        made.submit(job)
    with pytest.raises(QueueFull):
        made.submit(DecodingSequence([1]))
    assert made.schedule_step(4).rows == jobs[:2]

    jobs[0].finished = True
    assert made.schedule_step(4).rows == [jobs[1], jobs[2]]


def test_a_long_prompt_goes_in_by_pieces_while_others_decode() -> None:
    made = scheduler()
    short, long = DecodingSequence([1]), DecodingSequence(list(range(10)))
    made.submit(short)
    made.schedule_step(4)
    short.last_token = 42
    made.submit(long)
    turns = [made.schedule_step(4) for _ in range(3)]
    assert [[list(p.tokens) for p in turn.chunks] for turn in turns] == [
        [[0, 1, 2, 3]],
        [[4, 5, 6, 7]],
        [[8, 9]],
    ]
    assert [turn.chunks[0].last for turn in turns] == [False, False, True]
    assert [turn.tokens for turn in turns] == [[42, IDLE]] * 3
    long.last_token = 7
    assert made.schedule_step(4).tokens == [42, 7]


def test_the_last_row_takes_a_freed_place() -> None:
    made = scheduler(slots=3)
    jobs = [DecodingSequence([1]) for _ in range(3)]
    for job in jobs:
        made.submit(job)
    made.schedule_step(4)
    jobs[0].finished = jobs[1].finished = True
    plan = made.schedule_step(4)
    assert plan.leaves == [1, 0]
    assert plan.rows == [jobs[2]]


def test_who_gave_up_while_waiting_takes_no_slot_and_no_place_in_the_queue() -> None:
    made = scheduler(slots=1, queue=1)
    jobs = [DecodingSequence([1]) for _ in range(2)]
    for job in jobs:
        made.submit(job)
    jobs[0].finished = jobs[1].finished = True
    late = DecodingSequence([1])
    made.submit(late)
    assert made.schedule_step(4).rows == [late]
    late.finished = True
    made.schedule_step(4)
    assert made.schedule_step(4).empty


def test_a_prompt_is_cut_nowhere_so_that_a_single_token_is_read() -> None:
    for length in range(1, 40):
        for budget in range(1, 40):
            left, sizes = length, list[int]()
            while left:
                sizes.append(size_chunk(left, budget))
                left -= sizes[-1]
            assert sum(sizes) == length
            assert min(sizes) >= min(LEAST_CHUNK, length)
            assert max(sizes) <= max(budget, LEAST_CHUNK) + 1


def test_the_end_of_a_prompt_that_was_read_before_is_read_again() -> None:
    made = Scheduler(2, 2, PrefixCache(1 << 20))
    prompt = list(range(100))
    made.submit(first := DecodingSequence(prompt))
    made.schedule_step(200)
    first.last_token = 7
    made.submit(DecodingSequence(prompt))
    made.schedule_step(200)
    plan = made.schedule_step(200)
    lengths = [copy.length for copy in plan.copies] + [len(c.tokens) for c in plan.chunks]
    assert lengths in ([], [98, 2])
