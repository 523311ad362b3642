"""Continuous-batching engine: one model, many requests, each at its own position, one event loop.

Every turn is schedule -> run -> postprocess. Scheduling and handing out happen on the event loop;
so does the model's step while it is short, else it runs in one thread, which leaves Python's lock
while it computes. A request that joins, finishes or disconnects changes the batch at the next turn,
not at the end of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from components.core.log import get_logger
from serving.api.limits import EndpointLimits
from serving.engine.batch_sampling import BatchSampler
from serving.engine.decoding_batch import DecodingBatch, StepOutcome, execute_step
from serving.engine.generation import (
    AnswerOptions,
    EngineFailed,
    EngineStopping,
    Generation,
)
from serving.engine.prefix_cache import PrefixCache
from serving.engine.sampling import SamplingParams
from serving.engine.scheduler import BatchStep, Scheduler
from serving.engine.step_timing import StepTimes
from serving.speculation.prompt_lookup import GuessingPace

log = get_logger(__name__)

DEFAULT_OPTIONS = AnswerOptions()


@dataclass
class EngineCounts:
    """Counters of an engine since it started."""

    requests: int = 0
    refused: int = 0
    """Refused at once, or while they waited."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    stepped_rows: int = 0
    """Rows decoded, summed over the steps."""
    prefix_hits: int = 0
    """Prompts that began like one read before."""
    prefix_tokens: int = 0
    """Tokens of theirs that were not read again."""
    waiting_seconds: float = 0.0
    """For rows, summed over the requests."""


Observe = Callable[[str, float], None]
"""Takes a figure's name and its value. Names: ``queue_seconds`` (of a request, for a row),
``first_token_seconds`` (from its arrival), ``token_seconds`` (of an answer, the mean after the
first), ``step_seconds`` and ``step_rows`` (of a step that decodes)."""


def observe_nothing(name: str, value: float) -> None:
    """Observer of an engine that nobody watches."""


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
        self.observe: Observe = observe_nothing
        self.stopping = False
        """The server ends: nothing new should be asked."""
        self._make_batch = make_batch
        self._batch = make_batch(limits.slots)
        self._scheduler = self._new_scheduler()
        self._sampler, self._pace = BatchSampler(), GuessingPace(allowed=limits.guesses)
        self._times = StepTimes(limits.prefill_tokens)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._step_loop: asyncio.Task[None] | None = None

    @property
    def prefix_bytes(self) -> int:
        """Memory in use for prompts read before."""
        return self._scheduler.prefixes.used_bytes

    @property
    def busy(self) -> tuple[int, int]:
        """(rows in use, requests waiting)."""
        scheduler = self._scheduler
        return sum(not job.finished for job in scheduler.rows), len(scheduler.waiting)

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
        finally:
            self.counts.refused = self._scheduler.waiting.refused
        self.counts.requests += 1
        self.counts.prompt_tokens += len(prompt)
        if self._step_loop is None or self._step_loop.done():
            self._step_loop = asyncio.get_running_loop().create_task(self._run_steps())
        return generation

    def end_answers(self) -> None:
        """End all that is answered or waits, since the server ends; its readers are told."""
        for job in (*self._scheduler.rows, *self._scheduler.waiting):
            if not job.finished:
                job.fail(EngineStopping())

    def check_queue(self, client: str) -> None:
        """Refuse a client's request that could not be queued now, before its prompt is read.

        Raises:
            QueueFull: try again later.
        """
        try:
            self._scheduler.check_queue(client)
        finally:
            self.counts.refused = self._scheduler.waiting.refused

    def answer_nothing(self, prompt: Sequence[int]) -> Generation:
        """An answer without a token, ended: to a prompt that asks nothing."""
        generation = Generation(prompt, SamplingParams(), 1, self.stops, DEFAULT_OPTIONS)
        generation.end("stop")
        return generation

    async def _run_steps(self) -> None:
        """Run step after step, until there is nothing left to do."""
        loop = asyncio.get_running_loop()
        scheduler = self._scheduler
        while True:
            plan = scheduler.repeat_step() or self._schedule_step()
            if plan.empty:
                return
            self.counts.refused = scheduler.waiting.refused
            inline = self._runs_inline(plan)
            try:
                outcome = (
                    self._execute(plan)
                    if inline
                    else await loop.run_in_executor(self._thread, self._execute, plan)
                )
            except Exception as error:
                log.exception("the model failed")
                self._start_over(error)
                return
            self._hand_out(plan, outcome)
            if inline:
                held = outcome.prompt_seconds + outcome.decode_seconds
                for _ in range(self._times.turns_to_yield(held)):
                    await asyncio.sleep(0)

    def _schedule_step(self) -> BatchStep:
        """The next step, which may take long: what was held back for it is told before."""
        scheduler = self._scheduler
        for job in scheduler.rows:
            if isinstance(job, Generation) and job.has_news:
                job.notify()
        return scheduler.schedule_step(self._times.prompt_budget(decoding=scheduler.decoding))

    def _runs_inline(self, plan: BatchStep) -> bool:
        short = self._times.runs_inline(plan.prompt_tokens, decoding=plan.decodes)
        return short and not self._batch.opens_sessions(len(plan.rows))

    def _execute(self, plan: BatchStep) -> StepOutcome:
        return execute_step(self._batch, plan, self._sampler, self._scheduler.prefixes, self._pace)

    def _hand_out(self, plan: BatchStep, outcome: StepOutcome) -> None:
        """Give the drawn tokens to their answers, and note the step's figures."""
        self._note_step(plan, outcome)
        now, took = self._scheduler.clock(), outcome.prompt_seconds + outcome.decode_seconds
        before: Generation | None = None
        for generation, token, logprobs in outcome.drawn:
            if before is not None and before is not generation:
                before.tell_tokens(now, took)
            before = generation
            generation.accept_token(token, logprobs)
            if generation.first_token is None:
                generation.first_token = now
                self.observe("first_token_seconds", now - generation.arrived)
            elif generation.finished and len(generation.tokens) > 1:
                seconds = (now - generation.first_token) / (len(generation.tokens) - 1)
                self.observe("token_seconds", seconds)
        if before is not None:
            before.tell_tokens(now, took)  # of all of its tokens at once, where guesses were right

    def _note_step(self, plan: BatchStep, outcome: StepOutcome) -> None:
        counts = self.counts
        counts.completion_tokens += len(outcome.drawn)
        decode_seconds = outcome.decode_seconds if plan.decodes else None
        self._times.note_step(plan.prompt_tokens, outcome.prompt_seconds, decode_seconds)
        if plan.decodes:
            rows = len(plan.active)
            counts.steps += 1
            counts.stepped_rows += rows
            self.observe("step_seconds", outcome.prompt_seconds + outcome.decode_seconds)
            self.observe("step_rows", rows)
        for copy in plan.copies:
            counts.prefix_hits += 1
            counts.prefix_tokens += copy.length
        for job in plan.rows[len(plan.rows) - plan.joins :]:
            seconds = (job.admitted or job.arrived) - job.arrived
            counts.waiting_seconds += seconds
            self.observe("queue_seconds", seconds)

    def _start_over(self, error: Exception) -> None:
        for job in self._scheduler.clear():
            assert isinstance(job, Generation)
            job.fail(EngineFailed(str(error)))
        self._batch = self._make_batch(self.limits.slots)

    def _new_scheduler(self) -> Scheduler:
        limits = self.limits
        prefixes = PrefixCache(limits.prefix_bytes)
        return Scheduler(
            limits.slots,
            limits.queue,
            prefixes,
            limits.queue_seconds,
            limits.answer_seconds,
            limits.wait_seconds,
            least_queue=max(limits.slots, limits.choices),
            keeps_answers=self._batch.steps_as_it_reads,
        )
