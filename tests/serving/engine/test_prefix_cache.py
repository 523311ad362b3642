from __future__ import annotations

import asyncio
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.limits import EndpointLimits
from serving.engine.batching_engine import Engine
from serving.engine.generation import Generation
from serving.engine.prefix_cache import BLOCK_TOKENS, PrefixBlocks, PrefixCache
from serving.engine.sampling import SamplingParams
from tests.serving.memory_batch import MemoryBatch

GREEDY = SamplingParams(temperature=0)
VOCABULARY, CONTEXT, STOPS = 50, 400, frozenset({0})


def saved(length: int) -> np.ndarray:
    return np.zeros(length, dtype=np.int8)


def test_the_longest_beginning_is_found_to_the_token() -> None:
    cache = PrefixCache(10_000)
    long, short = list(range(100)), list(range(40)) + [7] * 60
    for tokens in (long, short):
        cache.add(PrefixBlocks.of(tokens), saved(len(tokens)))
    entry, length = cache.find(PrefixBlocks.of([*range(90), 3, 3, 3]))
    assert entry is not None
    assert (entry.blocks.tokens.tolist(), length) == (long, 90)
    assert cache.find(PrefixBlocks.of([*range(40), 7, 7, 8, *range(60)]))[1] in (40, 42)
    assert cache.find(PrefixBlocks.of([*range(31), 9, 9]))[1] == 0
    assert cache.find(PrefixBlocks.of([1, *range(60)])) == (None, 0)


def test_what_an_adapters_row_has_read_is_of_no_use_to_another() -> None:
    cache = PrefixCache(10_000)
    tokens = list(range(100))
    cache.add(PrefixBlocks.of(tokens, 1), saved(100))
    assert cache.find(PrefixBlocks.of(tokens, 1))[1] == 100
    for other in (0, 2):
        blocks = PrefixBlocks.of(tokens, other)
        assert cache.find(blocks) == (None, 0)
        assert cache.wants(blocks)
        assert blocks.common_length(PrefixBlocks.of(tokens, 1)) == 0


def test_a_conversation_that_goes_on_takes_one_place() -> None:
    cache = PrefixCache(10_000)
    for turns in (50, 90, 170):
        blocks = PrefixBlocks.of(range(turns))
        assert cache.wants(blocks)
        cache.add(blocks, saved(turns))
    assert (len(cache), cache.used_bytes) == (1, 170)
    assert not cache.wants(PrefixBlocks.of([*range(165), 3]))


def test_the_ones_used_longest_ago_leave_and_bytes_are_bounded() -> None:
    cache = PrefixCache(250)
    first, second, third = (PrefixBlocks.of([n] * 100) for n in (1, 2, 3))
    cache.add(first, saved(100))
    cache.add(second, saved(100))
    assert cache.find(first)[1] == 100
    cache.add(third, saved(100))
    assert [cache.find(blocks)[1] for blocks in (first, second, third)] == [100, 0, 100]
    cache.add(PrefixBlocks.of([4] * 300), saved(300))
    assert cache.used_bytes == 200


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(32, 200)), max_size=30))
def test_bytes_and_names_stay_those_of_the_entries(sequences: list[tuple[int, int]]) -> None:
    cache = PrefixCache(500)
    for start, length in sequences:
        blocks = PrefixBlocks.of([start] * 32 + list(range(length)))
        if cache.wants(blocks):
            cache.add(blocks, saved(length))
        entries = list(cache._entries.values())
        assert cache.used_bytes == sum(entry.saved.nbytes for entry in entries) <= 500
        assert set(cache._by_name) == {name for e in entries for name in e.blocks.names}


def decode_alone(prompt: list[int], limit: int) -> list[int]:
    batch = MemoryBatch(VOCABULARY, 1)
    batch.join()
    logits = batch.feed_rows([0], [prompt])[0]
    out: list[int] = []
    while len(out) < limit and (token := int(logits.argmax())) not in STOPS:
        out.append(token)
        logits = batch.step([token])[0]
    return out


async def finish(generation: Generation) -> list[int]:
    while not generation.finished:
        await generation.wait_beyond(len(generation.tokens))
    return generation.tokens


class Reading(MemoryBatch):
    """Counts the prompt tokens that are read."""

    read = 0

    def feed_rows(self, rows, pieces):  # type: ignore[no-untyped-def]
        Reading.read += sum(map(len, pieces))
        return super().feed_rows(rows, pieces)


def test_streams_that_share_a_system_prompt_read_it_once_and_answer_as_alone() -> None:
    random.seed(5)
    system = [random.randrange(5, 50) for _ in range(300)]
    prompts = [[*system, *(random.randrange(5, 50) for _ in range(10 + n))] for n in range(16)]
    Reading.read = 0

    async def run() -> None:
        limits = EndpointLimits(slots=8)
        made = Engine(lambda n: Reading(VOCABULARY, n), CONTEXT, STOPS, limits)
        generations = [made.submit(prompt, GREEDY, 12) for prompt in prompts]
        answers = await asyncio.gather(*map(finish, generations))
        assert answers == [decode_alone(prompt, 12) for prompt in prompts]
        assert generations[0].cached_prompt_tokens == 0
        assert all(g.cached_prompt_tokens >= 300 for g in generations[1:])
        assert made.counts.prefix_hits == 15

    asyncio.run(run())
    assert Reading.read < 300 + sum(10 + n for n in range(16)) + 1


def test_a_conversation_s_turns_are_not_read_again() -> None:
    async def run() -> None:
        made = Engine(lambda n: MemoryBatch(VOCABULARY, n), CONTEXT, STOPS, EndpointLimits(slots=2))
        prompt = [random.Random(n).randrange(5, 50) for n in range(50)]
        for _ in range(4):
            generation = made.submit(prompt, GREEDY, 20)
            answer = await finish(generation)
            assert answer == decode_alone(prompt, 20)
            before, prompt = prompt, [*prompt, *answer, 7, 8, 9]
        # An answer shorter than a block is not worth a copy of its own.
        assert generation.cached_prompt_tokens > len(before) - 4 - BLOCK_TOKENS
        assert made.counts.prefix_hits == 3

    asyncio.run(run())


def test_without_memory_for_prefixes_each_prompt_is_read() -> None:
    async def run() -> None:
        limits = EndpointLimits(slots=2, prefix_bytes=0)
        made = Engine(lambda n: MemoryBatch(VOCABULARY, n), CONTEXT, STOPS, limits)
        for _ in range(2):
            generation = made.submit([9] * 100, GREEDY, 5)
            assert await finish(generation) == decode_alone([9] * 100, 5)
            assert generation.cached_prompt_tokens == 0

    asyncio.run(run())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_prompts_of_any_kin_that_come_and_go_answer_as_alone(data: st.DataObject) -> None:
    trunk = [random.Random(n).randrange(5, 50) for n in range(150)]
    cuts = data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=12))
    tails = [data.draw(st.integers(1, 50)) for _ in cuts]
    gone = data.draw(st.sets(st.integers(0, len(cuts) - 1)))
    prompts = [trunk[:cut] + [5 + n] * tail for n, (cut, tail) in enumerate(zip(cuts, tails))]  # noqa: B905

    async def run() -> None:
        limits = EndpointLimits(slots=3, prefill_tokens=20, prefix_bytes=2000)
        made = Engine(lambda n: MemoryBatch(VOCABULARY, n), CONTEXT, STOPS, limits)

        async def ask(number: int) -> list[int] | None:
            for _ in range(number):
                await asyncio.sleep(0)
            generation = made.submit(prompts[number], GREEDY, 6)
            if number in gone:
                for _ in range(3 * number):
                    await asyncio.sleep(0)
                generation.cancel()
                return None
            return await finish(generation)

        answers = await asyncio.gather(*map(ask, range(len(prompts))))
        for number, answer in enumerate(answers):
            if answer is not None:
                assert answer == decode_alone(prompts[number], 6)

    asyncio.run(asyncio.wait_for(run(), 20))
