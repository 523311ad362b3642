from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from serving.api.limits import EndpointLimits
from serving.engine.batching_engine import Engine
from serving.engine.generation import AnswerOptions, EngineFailed, Generation
from serving.engine.sampling import SamplingParams
from serving.engine.waiting_queue import QueueFull
from tests.serving.memory_batch import MemoryBatch

VOCABULARY, CONTEXT, STOPS = 50, 40, frozenset({0, 4})
GREEDY = SamplingParams(temperature=0)


def engine(slots: int = 3, queue: int = 100, prefill: int = 5) -> Engine:
    limits = EndpointLimits(slots=slots, queue=queue, prefill_tokens=prefill)
    return Engine(lambda n: MemoryBatch(VOCABULARY, n), CONTEXT, STOPS, limits)


def alone(prompt: Sequence[int], limit: int) -> list[int]:
    """Greedy decoding of one sequence, without any engine."""
    batch = MemoryBatch(VOCABULARY, 1)
    batch.join()
    logits = batch.feed_rows([0], [prompt])[0]
    out: list[int] = []
    while len(out) < min(limit, CONTEXT - len(prompt)):
        token = int(logits.argmax())
        if token in STOPS:
            break
        out.append(token)
        logits = batch.step([token])[0]
    return out


async def all_of(generation: Generation) -> list[int]:
    while not generation.finished:
        await generation.wait_beyond(len(generation.tokens))
    await generation.wait_beyond(len(generation.tokens))
    return generation.tokens


def test_a_ragged_batch_with_late_comers_gives_what_each_alone_would() -> None:
    random.seed(3)
    prompts = [[random.randrange(5, 50) for _ in range(random.randint(1, 20))] for _ in range(25)]

    async def run() -> list[list[int]]:
        made = engine()

        async def ask(number: int, prompt: list[int]) -> list[int]:
            await asyncio.sleep(number * 0.001)
            return await all_of(made.submit(prompt, GREEDY, 10))

        answers = await asyncio.gather(*(ask(n, p) for n, p in enumerate(prompts)))
        assert made.busy == (0, 0)
        return answers

    assert asyncio.run(run()) == [alone(prompt, 10) for prompt in prompts]


def test_why_an_answer_ended() -> None:
    async def run() -> set[tuple[str | None, bool]]:
        made = engine()
        found = set()
        for first in range(5, 50):
            generation = made.submit([first], GREEDY, 8)
            tokens = await all_of(generation)
            found.add((generation.finish_reason, len(tokens) == 8))
        full = made.submit(list(range(5, 40)), GREEDY, 1000)
        assert len(await all_of(full)) <= CONTEXT - 35
        return found

    assert {("length", True), ("stop", False)} == asyncio.run(run())


def test_hanging_up_frees_the_slot_for_who_waits() -> None:
    async def run() -> None:
        made = engine(slots=1)
        first = made.submit([7], GREEDY, 30)
        await first.wait_beyond(0)
        second = made.submit([8, 9], GREEDY, 5)
        assert made.busy == (1, 1)
        first.cancel()
        assert await all_of(second) == alone([8, 9], 5)
        assert made.busy == (0, 0)

    asyncio.run(run())


def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    async def run() -> None:
        made = engine(slots=1, queue=1)
        running, waiting = made.submit([7], GREEDY, 3), made.submit([8], GREEDY, 3)
        with pytest.raises(QueueFull):
            made.submit([9], GREEDY, 3)
        assert made.counts.refused == 1
        await all_of(running)
        await all_of(waiting)
        assert await all_of(made.submit([9], GREEDY, 3)) == alone([9], 3)

    asyncio.run(run())


def test_seeds_hold_whatever_else_is_in_the_batch() -> None:
    async def run() -> None:
        made = engine()
        sampling = SamplingParams(temperature=1.0, top_p=0.9, seed=5)
        quiet = await all_of(made.submit([7, 8], sampling, 9))
        others = [made.submit([n], SamplingParams(temperature=1.0), 9) for n in (9, 10)]
        assert await all_of(made.submit([7, 8], sampling, 9)) == quiet
        for other in others:
            other.cancel()

    asyncio.run(run())


def test_a_failing_model_is_told_to_all_and_does_not_end_the_server() -> None:
    class Failing(MemoryBatch):
        broken = True

        def step(self, tokens: Sequence[int]) -> np.ndarray:
            if Failing.broken:
                raise RuntimeError("out of memory")
            return super().step(tokens)

    async def run() -> None:
        made = Engine(lambda n: Failing(VOCABULARY, n), CONTEXT, STOPS, EndpointLimits(slots=2))
        answers = [made.submit([n], GREEDY, 5) for n in (7, 8, 9)]
        results = await asyncio.gather(*map(all_of, answers), return_exceptions=True)
        assert all(isinstance(result, EngineFailed) for result in results)
        Failing.broken = False
        assert await all_of(made.submit([7], GREEDY, 5)) == alone([7], 5)

    asyncio.run(run())


@pytest.mark.parametrize("prompt", [[], list(range(CONTEXT))])
def test_a_prompt_without_room_is_refused(prompt: list[int]) -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="context of 40"):
            engine().submit(prompt, GREEDY, 5)

    asyncio.run(run())


class Observed(MemoryBatch):
    """Notes the threads that its steps run in."""

    def __init__(self, slots: int, pause: float = 0.0) -> None:
        super().__init__(VOCABULARY, slots)
        self.pause, self.threads = pause, list[threading.Thread]()

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        time.sleep(self.pause)
        self.threads.append(threading.current_thread())
        return super().step(tokens)


@pytest.mark.parametrize(("pause", "inline"), [(0.0, True), (0.01, False)])
def test_short_steps_run_in_the_event_loop_and_long_ones_beside_it(
    pause: float, inline: bool
) -> None:
    async def run() -> None:
        batch = Observed(2, pause)
        made = Engine(lambda n: batch, CONTEXT, STOPS, EndpointLimits(slots=2))
        options = AnswerOptions(ignores_end=True)
        await all_of(made.submit([7, 8], GREEDY, 38, options))
        in_loop = [thread is threading.current_thread() for thread in batch.threads]
        assert not in_loop[0]  # nothing was measured yet
        assert (sum(in_loop[-16:]) > 8) == inline

    asyncio.run(run())


def test_an_answer_whose_rules_fail_ends_alone() -> None:
    class Broken:
        ended = False

        def allowed_tokens(self, remaining: int) -> np.ndarray:
            raise ValueError("no such rule")

        def accept_token(self, token: int) -> None: ...

    async def run() -> None:
        made = engine()
        broken = made.submit([7], GREEDY, 5, AnswerOptions(constraint=Broken()))
        told: list[threading.Thread] = []
        broken.listener = lambda: told.append(threading.current_thread())
        good = made.submit([8, 9], GREEDY, 5)
        assert await all_of(good) == alone([8, 9], 5)
        with pytest.raises(EngineFailed, match="no such rule"):
            await broken.wait_beyond(0)
        assert made.busy == (0, 0)
        assert set(told) == {threading.current_thread()}  # steps ran in another one

    asyncio.run(run())


@pytest.mark.parametrize(("patience", "most"), [(0.0, 30), (1e9, 3)])
def test_news_wait_for_the_next_token_as_long_as_the_reader_has_patience(
    patience: float, most: int
) -> None:
    async def run() -> None:
        made = engine()
        options = AnswerOptions(ignores_end=True)
        answer = made.submit([7, 8], GREEDY, 30, options)
        answer.patience = patience
        lengths: list[int] = []
        answer.listener = lambda: lengths.append(len(answer.tokens))
        await all_of(answer)
        drawn = sorted(set(lengths) - {0})  # 0: it got a row
        assert (drawn[0], drawn[-1]) == (1, 30)  # the first and the last are told at once
        assert len(drawn) >= most if patience == 0 else len(drawn) <= most

    asyncio.run(run())


def test_what_was_held_back_is_told_before_a_prompt_is_read() -> None:
    async def run() -> None:
        made = engine(prefill=4)
        options = AnswerOptions(ignores_end=True)
        answer = made.submit([7, 8], GREEDY, 30, options)
        answer.patience = 1e9
        told: list[int] = []
        answer.listener = lambda: told.append(len(answer.tokens))
        while len(answer.tokens) < 5:
            await asyncio.sleep(0)
        assert max(told) < 5
        made.submit([9] * 20, GREEDY, 2, options)
        held = len(answer.tokens)
        while len(answer.tokens) < held + 2:
            await asyncio.sleep(0)
        assert max(told) >= held

    asyncio.run(run())
