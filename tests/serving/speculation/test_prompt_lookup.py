from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest

from serving.api.limits import EndpointLimits
from serving.engine.batching_engine import Engine
from serving.engine.generation import AnswerOptions, Generation
from serving.engine.sampling import Logits, SamplingParams
from serving.speculation.prompt_lookup import GuessingPace, PromptLookup
from tests.serving.memory_batch import MemoryBatch

GREEDY = SamplingParams(temperature=0)
VOCABULARY, CONTEXT, STOPS = 50, 200, frozenset({0, 4})


def test_what_followed_the_same_tokens_last_is_guessed() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 1, 2, 3])
    assert lookup.guess(4) == [4, 5, 1, 2]
    lookup.add(9)
    assert lookup.guess(4) == []
    for token in (1, 2, 3):
        lookup.add(token)
    assert lookup.guess(1) == [9]  # the latest time counts


def test_guessing_goes_on_where_it_is_quicker_and_is_tried_anew() -> None:
    pace = GuessingPace()
    assert not pace.pays  # nothing to compare with yet
    pace.note_step(1.0, 1, guessed=False)
    assert pace.pays
    pace.note_step(1.5, 1, guessed=True)
    assert not pace.pays
    for _ in range(64):
        pace.note_step(1.0, 1, guessed=False)
    assert pace.pays
    pace.note_step(1.5, 3, guessed=True)
    assert pace.pays
    assert not GuessingPace(allowed=False).pays


class CountingBatch(MemoryBatch):
    """Counts on from each token, so that a number that came before is followed as it was then."""

    most_guesses: ClassVar[int] = 4

    def _logits(self, row: int) -> Logits:
        logits = np.zeros(VOCABULARY, dtype=np.float32)
        logits[10 + (self.rows[row][-1] - 9) % 7] = 1
        return logits


class GuessingBatch(MemoryBatch):
    most_guesses: ClassVar[int] = 4


class Always(GuessingPace):
    pays = True


def answers(
    make: Callable[[int], MemoryBatch], prompts: list[list[int]], limit: int, *, always: bool
) -> tuple[list[Generation], int]:
    async def run() -> tuple[list[Generation], int]:
        limits = EndpointLimits(slots=4, guesses=always)
        engine = Engine(make, CONTEXT, STOPS, limits)
        if always:
            engine._pace = Always()
        made = []
        for prompt in prompts:
            answer = engine.submit(prompt, GREEDY, limit, AnswerOptions())
            while not answer.finished:
                await answer.wait_beyond(len(answer.tokens))
            made.append(answer)
        return made, engine.counts.steps

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("batch", [CountingBatch, GuessingBatch])
def test_guesses_change_no_answer(batch: type[MemoryBatch]) -> None:
    draw = np.random.default_rng(7)
    prompts = [draw.integers(5, 12, size=n).tolist() for n in (1, 3, 9, 40, 60, 90, 150)]
    for limit in (1, 2, 7, 60):
        plain, steps = answers(lambda n: batch(VOCABULARY, n), prompts, limit, always=False)
        guessed, fewer = answers(lambda n: batch(VOCABULARY, n), prompts, limit, always=True)
        for one, other in zip(plain, guessed, strict=True):
            assert one.tokens == other.tokens
            assert one.finish_reason == other.finish_reason
        assert fewer <= steps
    if batch is CountingBatch:
        assert fewer < steps / 2
