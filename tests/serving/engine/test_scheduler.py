from __future__ import annotations

from random import Random

import pytest

from serving.engine.prefix_cache import PrefixCache
from serving.engine.scheduler import LEAST_CHUNK, LOOK_SECONDS, Scheduler, size_chunk
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


def test_a_step_is_repeated_until_anything_but_the_tokens_changes() -> None:
    moment = [100.0]
    repeating, passing = (
        Scheduler(3, 9, answer_seconds=5.0, clock=lambda: moment[0]) for _ in range(2)
    )
    random = Random(11)
    jobs: list[tuple[DecodingSequence, DecodingSequence]] = []
    repeated = 0
    for _ in range(600):
        happens = random.random()
        if happens < 0.03:
            prompt = list(range(random.randint(1, 9)))
            pair = (DecodingSequence(prompt), DecodingSequence(prompt))
            repeating.submit(pair[0])
            passing.submit(pair[1])
            jobs.append(pair)
        elif happens < 0.05 and jobs:
            for job in random.choice(jobs):
                job.finished = True
        moment[0] += random.choice((0.001, 0.001, 0.001, 0.3))
        step = repeating.repeat_step()
        repeated += step is not None
        step = step or repeating.schedule_step(4)
        expected = passing.schedule_step(4)
        assert (step.tokens, step.leaves, step.joins) == (
            expected.tokens, expected.leaves, expected.joins
        )  # fmt: skip
        assert [(c.row, list(c.tokens)) for c in step.chunks] == [
            (c.row, list(c.tokens)) for c in expected.chunks
        ]
        for pair in jobs:
            token = random.randrange(100)
            for job in pair:
                job.last_token = token
            assert pair[0].fed == pair[1].fed
            assert pair[0].finished == pair[1].finished
    assert repeated > 100
    assert len(jobs) > 8


def test_a_deadline_is_noticed_while_steps_are_repeated() -> None:
    moment = [0.0]
    made = Scheduler(1, 1, answer_seconds=5.0, clock=lambda: moment[0])
    job = DecodingSequence([1])
    made.submit(job)
    made.schedule_step(4)
    while not job.finished and moment[0] < 9:
        moment[0] += 0.001
        if made.repeat_step() is None:
            made.schedule_step(4)
    assert 5.0 <= moment[0] < 5.0 + 2 * LOOK_SECONDS
