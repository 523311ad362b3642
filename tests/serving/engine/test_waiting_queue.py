from __future__ import annotations

import asyncio
import random

import pytest

from serving.engine.scheduler import Scheduler
from serving.engine.waiting_queue import DecodingSequence, QueueFull, QueueTimeout


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def ask(made: Scheduler, client: str, count: int = 1) -> list[DecodingSequence]:
    jobs = [DecodingSequence([1], client) for _ in range(count)]
    for job in jobs:
        made.submit(job)
    return jobs


def serve(made: Scheduler) -> list[str]:
    """Clients in the order in which rows are given, each answer one step long."""
    order: list[str] = []
    while not (plan := made.schedule_step(100)).empty:
        order += [job.client for job in plan.rows[len(plan.rows) - plan.joins :]]
        for job in plan.rows:
            job.finished = True
    return order


def test_the_next_row_goes_to_who_has_the_fewest() -> None:
    made = Scheduler(slots=3, queue=100)
    ask(made, "much", 5)
    ask(made, "little", 2)
    plan = made.schedule_step(100)
    assert [job.client for job in plan.rows] == ["much", "little", "much"]
    plan.rows[1].finished = True
    assert [job.client for job in made.schedule_step(100).rows] == ["much", "much", "little"]


def test_one_client_is_served_in_the_order_of_arrival() -> None:
    made = Scheduler(slots=1, queue=100, clock=(clock := Clock()))
    jobs = []
    for client in ("", "", ""):
        clock.now += 1
        jobs += ask(made, client)
    for job in jobs:
        assert made.schedule_step(100).rows == [job]
        job.finished = True


def test_who_asks_much_is_refused_before_who_asks_little() -> None:
    made = Scheduler(slots=1, queue=3)
    (running,) = ask(made, "much")
    made.schedule_step(100)
    waiting = ask(made, "much", 3)
    (newcomer,) = ask(made, "little")
    assert isinstance(waiting[2].failure, QueueFull)
    assert [job.failure for job in (running, *waiting[:2], newcomer)] == [None] * 4
    with pytest.raises(QueueFull):
        ask(made, "much")
    ask(made, "third")
    assert isinstance(waiting[1].failure, QueueFull)
    running.finished = True
    assert serve(made) == ["much", "little", "third"]


def test_two_clients_that_hold_as_much_do_not_oust_each_other() -> None:
    made = Scheduler(slots=1, queue=1)
    ask(made, "first")
    made.schedule_step(100)
    (waiting,) = ask(made, "second")
    for client in ("first", "second", "third"):
        with pytest.raises(QueueFull):
            ask(made, client)
    assert waiting.failure is None


def test_shares_differ_by_one_however_clients_push() -> None:
    random.seed(3)
    made = Scheduler(slots=4, queue=20)
    for _ in range(500):
        try:
            ask(made, random.choice("aaaaaaaaab"))
        except QueueFull:
            continue
    counts = [len(queue) for queue in made.waiting.clients.values()]
    assert sum(counts) == 24
    assert max(counts) - min(counts) <= 1


def test_a_request_waits_for_a_row_as_long_as_it_may() -> None:
    made = Scheduler(slots=1, queue=10, queue_seconds=5, clock=(clock := Clock()))
    (running,) = ask(made, "")
    made.schedule_step(100)
    clock.now = 1
    early, late = *ask(made, ""), *ask(made, "other")
    clock.now = 5.9
    made.schedule_step(100)
    assert early.failure is None
    clock.now = 6.1
    made.schedule_step(100)
    assert isinstance(early.failure, QueueTimeout)
    assert isinstance(late.failure, QueueTimeout)
    assert (running.failure, len(made.waiting)) == (None, 0)


def test_an_answer_grows_as_long_as_it_may() -> None:
    made = Scheduler(slots=2, queue=10, answer_seconds=5, clock=(clock := Clock()))
    (first,) = ask(made, "")
    made.schedule_step(100)
    clock.now = 3
    (second,) = ask(made, "")
    made.schedule_step(100)
    clock.now = 5.5
    assert made.schedule_step(100).rows == [second]
    assert (first.finished, first.failure, second.finished) == (True, None, False)


def test_the_engine_tells_who_waited_too_long_and_ends_what_grew_too_long() -> None:
    from serving.api.limits import EndpointLimits
    from serving.engine.batching_engine import Engine
    from serving.engine.generation import AnswerOptions
    from serving.engine.sampling import SamplingParams
    from tests.serving.memory_batch import MemoryBatch

    async def run() -> None:
        limits = EndpointLimits(slots=1, queue_seconds=5, answer_seconds=9)
        made = Engine(lambda n: MemoryBatch(50, n), 1_000_000, frozenset(), limits)
        clock = made._scheduler.clock = Clock()
        observed: list[tuple[str, float]] = []
        made.observe = lambda name, value: observed.append((name, value))
        greedy, options = SamplingParams(temperature=0), AnswerOptions(ignores_end=True)
        first = made.submit([7], greedy, 1_000_000, options)
        await first.wait_admitted()
        second = made.submit([8], greedy, 5, options)
        clock.now = 6
        with pytest.raises(QueueTimeout):
            await second.wait_admitted()
        with pytest.raises(QueueTimeout):
            await second.wait_beyond(0)
        clock.now = 10
        while not first.finished:
            await first.wait_beyond(len(first.tokens))
        assert first.finish_reason == "length"
        assert made.counts.refused == 1
        assert ("queue_seconds", 0.0) in observed
        assert {name for name, _ in observed} >= {"first_token_seconds", "step_seconds"}
        third = made.submit([9], greedy, 4, options)
        while not third.finished:
            await third.wait_beyond(len(third.tokens))
        assert "token_seconds" in {name for name, _ in observed}
        assert made.counts.stepped_rows >= made.counts.steps > 3

    asyncio.run(asyncio.wait_for(run(), 20))
