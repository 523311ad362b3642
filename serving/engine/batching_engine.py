"""Continuous-batching engine: one model, many requests, each at its own position, one event loop.

Every turn is schedule -> run -> postprocess. Scheduling and handing out happen on the event loop;
the model runs in one thread, which leaves Python's lock while it computes. A request that joins,
finishes or disconnects changes the batch at the next turn, not at the end of the others.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from components.core.log import get_logger
from serving.api.limits import EndpointLimits
from serving.engine.generation import AnswerOptions, EngineFailed, Generation
from serving.engine.sampling import Logits, SamplingParams, TokenLogprobs
from serving.engine.scheduler import BatchStep, DecodingSequence, Scheduler

log = get_logger(__name__)

DEFAULT_OPTIONS = AnswerOptions()


DrawnToken = tuple[Generation, int, TokenLogprobs | None]


class DecodingBatch(Protocol):
    """Interface of a model's batch: rows that grow, join and leave (``RaggedBatch``)."""

    def join(self, adapter: int = 0) -> int: ...

    def leave(self, row: int) -> int | None: ...

    def feed(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Logits]: ...

    def step(self, tokens: Sequence[int]) -> Logits: ...


@dataclass
class EngineCounts:
    """Counters of an engine since it started."""

    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Engine:
    """Serves one model.

    Args:
        make_batch: an empty batch of this many slots; called again if the model fails.
        context: most tokens in a row.
        stops: tokens that end an answer.
    """

    def __init__(
        self,
        make_batch: Callable[[int], DecodingBatch],
        context: int,
        stops: frozenset[int],
        limits: EndpointLimits,
    ) -> None:
        self.context, self.stops, self.limits = context, stops, limits
        self.counts = EngineCounts()
        self._make_batch = make_batch
        self._batch = make_batch(limits.slots)
        self._scheduler = self._new_scheduler()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._step_loop: asyncio.Task[None] | None = None

    @property
    def busy(self) -> tuple[int, int]:
        """(rows in use, requests waiting)."""
        return len(self._scheduler.rows), len(self._scheduler.waiting)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        limit: int,
        options: AnswerOptions = DEFAULT_OPTIONS,
    ) -> Generation:
        """Start answering (from a coroutine of the event loop that serves).

        Args:
            prompt: token ids.
            sampling: parameters of the draws.
            limit: most tokens of the answer; the context may allow fewer.
            options: further rules of the answer.

        Raises:
            QueueFull: try again later.
            ValueError: the prompt is empty or leaves no room for an answer.
        """
        room = self.context - len(prompt)
        if not prompt or room < 1 or limit < 1:
            raise ValueError(f"a prompt of {len(prompt)} tokens in a context of {self.context}")
        generation = Generation(prompt, sampling, min(limit, room), self.stops, options)
        try:
            self._scheduler.submit(generation)
        except Exception:
            self.counts.refused += 1
            raise
        self.counts.requests += 1
        self.counts.prompt_tokens += len(prompt)
        if self._step_loop is None or self._step_loop.done():
            self._step_loop = asyncio.get_running_loop().create_task(self._run_steps())
        return generation

    def answer_nothing(self, prompt: Sequence[int]) -> Generation:
        """An answer without a token, ended: to a prompt that asks nothing."""
        generation = Generation(prompt, SamplingParams(), 1, self.stops, DEFAULT_OPTIONS)
        generation.end("stop")
        return generation

    async def _run_steps(self) -> None:
        """Run step after step, until there is nothing left to do."""
        loop = asyncio.get_running_loop()
        while not (plan := self._scheduler.schedule_step()).empty:
            try:
                drawn = await loop.run_in_executor(self._thread, execute_step, self._batch, plan)
            except Exception as error:
                log.exception("the model failed")
                self._start_over(error)
                return
            for generation, token, logprobs in drawn:
                generation.accept_token(token, logprobs)
            self.counts.completion_tokens += len(drawn)

    def _start_over(self, error: Exception) -> None:
        for job in self._scheduler.clear():
            assert isinstance(job, Generation)
            job.fail(EngineFailed(str(error)))
        self._batch = self._make_batch(self.limits.slots)

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(self.limits.slots, self.limits.queue, self.limits.prefill_tokens)


def execute_step(batch: DecodingBatch, plan: BatchStep) -> list[DrawnToken]:
    """Run one step on the model and draw a token for every row that got logits."""
    for row in plan.leaves:
        batch.leave(row)
    for job in plan.joined:
        batch.join(job.adapter)
    drawn: list[DrawnToken] = []
    for piece in plan.chunks:
        logits = batch.feed(piece.row, [piece.tokens])[0]
        if piece.last:
            drawn.append(_draw(piece.job, logits[-1]))
    if plan.decodes:
        stepped = batch.step(plan.tokens)
        rows = zip(plan.rows, plan.tokens, stepped, strict=True)
        drawn += [_draw(job, logits) for job, token, logits in rows if token >= 0]
    return drawn


def _draw(job: DecodingSequence, logits: Logits) -> DrawnToken:
    assert isinstance(job, Generation)
    token = job.draw(logits)
    return job, token, job.sampler.describe(logits, token)


@dataclass
class MemoryBatch:
    """Stand-in for tests: its next token depends on every token so far, and on nothing else."""

    vocabulary: int
    slots: int
    rows: list[list[int]] = field(default_factory=list)

    def join(self, adapter: int = 0) -> int:
        assert len(self.rows) < self.slots
        self.rows.append([-adapter] if adapter else [])  # an adapter answers otherwise
        return len(self.rows) - 1

    def leave(self, row: int) -> int | None:
        last = self.rows.pop()
        if row == len(self.rows):
            return None
        self.rows[row] = last
        return len(self.rows)

    def feed(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Logits]:
        return [
            np.stack([self._grow(first + offset, token) for token in piece])
            for offset, piece in enumerate(pieces)
        ]

    def step(self, tokens: Sequence[int]) -> Logits:
        assert len(tokens) == len(self.rows)
        nothing = np.zeros(self.vocabulary, dtype=np.float32)
        return np.stack(
            [self._grow(r, token) if token >= 0 else nothing for r, token in enumerate(tokens)]
        )

    def _grow(self, row: int, token: int) -> Logits:
        self.rows[row].append(token)
        digest = zlib.crc32(repr(self.rows[row]).encode())
        logits = np.random.default_rng(digest).normal(size=self.vocabulary) * 3
        return logits.astype(np.float32)
