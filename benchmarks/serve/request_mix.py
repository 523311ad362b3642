"""Mixed requests of one model, and the load at which its server is saturated."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serve.load_generator import LoadGenerator, LoadRequest, StreamRecord
from benchmarks.serve.targets.load_targets import HttpTarget, RoundLoad
from benchmarks.serve.targets.served_models import BenchModel
from components.core.errors import MillError

_DIFFERENT_PROMPTS = 192
"""Before they come again: more than any cache of prompts of so small a server holds."""


@dataclass(frozen=True)
class RequestSizes:
    """Bounds of the lengths of a mix, in tokens; lengths are uniform within them."""

    prompt: tuple[int, int] = (8, 128)
    answer: tuple[int, int] = (32, 96)


MIXED = RequestSizes()


@dataclass(frozen=True)
class Saturation:
    """Most that a server does, all its slots in use."""

    requests_per_second: float
    tokens_per_second: float


def mix_requests(
    target: HttpTarget,
    model: BenchModel,
    count: int,
    seed: int,
    sizes: RequestSizes = MIXED,
) -> list[LoadRequest]:
    """Greedy requests of random lengths, the same for the same seed.

    Args:
        target: the server that is asked.
        model: makes the prompts.
        count: number of requests.
        seed: of lengths and prompts.
        sizes: bounds of the lengths.
    """
    chosen = random.Random(seed)  # noqa: S311 - a reproducible choice, no secret
    prompts = [
        model.make_prompt(chosen.randint(*sizes.prompt), chosen.randrange(1 << 30))
        for _ in range(min(count, _DIFFERENT_PROMPTS))
    ]
    requests = []
    for index in range(count):
        load = RoundLoad((), 1, chosen.randint(*sizes.answer))
        prompt = prompts[index % len(prompts)]
        requests.append(LoadRequest(target.message(prompt, load, index), label="mix"))
    return requests


def measure_saturation(
    target: HttpTarget, requests: Sequence[LoadRequest], streams: int
) -> Saturation:
    """Rates of a server that always has ``streams`` requests at work.

    Args:
        target: the server.
        requests: enough for some seconds.
        streams: as many as it has slots.

    Raises:
        MillError: a request failed.
    """
    began = time.perf_counter()
    records = LoadGenerator(target.server.port).run_closed(requests, streams)
    seconds = time.perf_counter() - began
    failed = [record for record in records if not record.whole]
    if failed:
        raise MillError(
            f"bench serve: {target.name} failed {len(failed)} of {len(records)} requests "
            f"(HTTP {failed[0].status})"
        )
    return Saturation(len(records) / seconds, count_tokens(records) / seconds)


def count_tokens(records: Sequence[StreamRecord]) -> int:
    """Tokens of all answers that are whole."""
    return sum(record.completion_tokens or 0 for record in records if record.whole)
