"""One answer as it grows: its tokens, its log probabilities, and why it ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.engine.sampling import Logits, Mask, SamplingParams, TokenLogprobs, TokenSampler
from serving.engine.token_constraint import TokenConstraint
from serving.engine.waiting_queue import DecodingSequence
from serving.speculation.prompt_lookup import PromptLookup

FinishReason = Literal["stop", "length"]


class EngineFailed(Exception):
    """The model failed; every request in progress is told so."""


class EngineStopping(Exception):
    """The server ends, and the time for answers in progress is over."""


@dataclass(frozen=True)
class AnswerOptions:
    """Rules of one answer beside its sampling and its length."""

    stop_tokens: frozenset[int] = frozenset()
    """Tokens that end the answer, beside the model's own."""
    ignores_end: bool = False
    """The model's own end tokens are ordinary ones; with a constraint none is drawn while the
    grammar has another way on."""
    min_tokens: int = 0
    """No end token is drawn before, unless a constraint leaves nothing else."""
    constraint: TokenConstraint | None = None
    adapter: int = 0
    """Number of the adapter that the answer is computed with; 0 is none."""
    client: str = ""
    """Clients take turns: those who ask much do not hold up those who ask little."""


_COLLECTED: ContextVar[list[Generation] | None] = ContextVar("collected", default=None)


@contextmanager
def collect_generations() -> Iterator[list[Generation]]:
    """The answers that are begun in this context, as they are added: those of one request."""
    collected: list[Generation] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


class Generation(DecodingSequence):
    """The tokens of one answer, as they come.

    Args:
        prompt: token ids.
        sampling: parameters of the draws.
        limit: most tokens of the answer.
        ends: the model's own end tokens.
        options: further rules.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        limit: int,
        ends: frozenset[int],
        options: AnswerOptions,
    ) -> None:
        super().__init__(prompt, options.client, options.adapter)
        self.sampler = TokenSampler(sampling, prompt)
        self.limit, self.ends, self.options = limit, ends, options
        # A constraint says where an answer may end, so its end tokens are no ordinary ones.
        ignores_end = options.ignores_end and options.constraint is None
        self.stops = options.stop_tokens | (frozenset() if ignores_end else ends)
        self._always_adjusts = self.sampler.adjusts or options.constraint is not None
        self.observes_draws = self._always_adjusts or sampling.logprobs is not None
        """A drawn token is counted, described, or may be another in the end."""
        self._is_greedy = sampling.temperature <= 0 and sampling.logprobs is None
        self.tokens: list[int] = []
        """Tokens drawn so far, the end token left out."""
        self.logprobs: list[TokenLogprobs] = []
        """Of each of the tokens, where the request wants them."""
        self.finish_reason: FinishReason | None = None
        """Why the tokens ended; None while they come, and of an answer that was given up."""
        self.end_token: int | None = None
        """The token that ended the answer, if one did."""
        self.first_token: float | None = None
        """Moment of the first token, by the scheduler's clock."""
        self.lookup: PromptLookup | None = None
        """Guesses the next tokens of an answer that nothing but the likeliest token decides."""
        self.listener: Callable[[], None] | None = None
        """Called on the event loop when there are tokens, a row or an end; raises nothing."""
        self.patience = 0.0
        """Seconds that news of a token may wait for the next one, to be read together with it."""
        self.has_news = False
        """There are tokens that nobody was told of."""
        self._told = -math.inf
        """Moment of the last news, by the scheduler's clock."""
        self._news: asyncio.Future[None] | None = None
        collected = _COLLECTED.get()
        if collected is not None:
            collected.append(self)

    async def wait_admitted(self) -> None:
        """Wait until there is a row for the answer.

        Raises:
            EngineFailed: the model failed.
            QueueFull: it was refused, since it waited too long, or for the sake of others.
        """
        while self.admitted is None and not self.finished:
            await self._wait()
        if self.failure is not None:
            raise self.failure

    async def wait_beyond(self, count: int) -> None:
        """Wait until there are more than ``count`` tokens, or no more come.

        Raises:
            EngineFailed: the model failed.
            QueueFull: it was refused, since it waited too long, or for the sake of others.
        """
        while len(self.tokens) <= count and not self.finished:
            await self._wait()
        if self.failure is not None:
            raise self.failure

    def cancel(self) -> None:
        """Give up: the row is free at the next step. Harmless when finished."""
        self.finished = True
        self.notify()

    @property
    def is_plain(self) -> bool:
        """The likeliest token is the next one, whatever the rules, and nothing is reported."""
        return self._is_greedy and not self.adjusts

    @property
    def adjusts(self) -> bool:
        """Logits are changed before a draw."""
        return self._always_adjusts or len(self.tokens) < self.options.min_tokens

    def adjust(self, logits: Logits) -> Logits:
        """Logits [v] after all rules of the answer; the given ones stay as they are."""
        allowed = None
        if self.options.constraint is not None:
            allowed = self.options.constraint.allowed_tokens(self.limit - len(self.tokens))
        adjusted = self.sampler.adjust(logits, allowed)
        postponed: frozenset[int] = frozenset()
        if len(self.tokens) < self.options.min_tokens:
            postponed = self.stops
        elif self.options.ignores_end and allowed is not None:
            postponed = self.ends
        if postponed and (allowed is None or _allows_others(allowed, postponed)):
            adjusted[list(postponed)] = -np.inf
        return adjusted

    def settle(self, token: int) -> int:
        """The token to take in place of a drawn one: the constraint may close the answer."""
        constraint = self.options.constraint
        return token if constraint is None else constraint.settle_token(token)

    def accept_token(self, token: int, logprobs: TokenLogprobs | None = None) -> None:
        """Append a token that was drawn; ``tell_tokens`` tells of it, an end of itself."""
        if self.finished:
            return
        constraint = self.options.constraint
        if token in self.stops:
            self.end_token = token
            self._end_naturally()
            return
        if constraint is not None:
            constraint.accept_token(token)
        self.last_token = token
        self.tokens.append(token)
        if self.lookup is not None:
            self.lookup.add(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        if constraint is not None and constraint.ended:
            self._end_naturally()
        elif len(self.tokens) == self.limit:
            self.end("length")

    def cached_tokens(self) -> Sequence[int]:
        """Tokens of prompt and answer in the cache."""
        return [*self.prompt[: self.cached], *self.tokens[: self.fed]]

    def admit(self, now: float) -> None:
        """Take a row."""
        super().admit(now)
        self.notify()

    def fail(self, error: Exception) -> None:
        """End with an error, which the reader gets."""
        self.mark_failed(error)
        self.notify()

    def mark_failed(self, error: Exception) -> None:
        """The same in whatever thread a step runs; ``notify`` tells of it."""
        super().fail(error)

    def run_out(self) -> None:
        """End since its time is over."""
        self.end("length")

    def end(self, finish: FinishReason) -> None:
        """No more tokens come."""
        self.finish_reason, self.finished = finish, True
        self.notify()

    def tell_tokens(self, now: float, until_next: float) -> None:
        """Tell of new tokens, unless those of the next step come soon enough to wait for.

        Args:
            now: moment of the step, by the scheduler's clock.
            until_next: seconds that the next step is expected to take.
        """
        if now + until_next - self._told < self.patience:
            self.has_news = True
        else:
            self._told = now
            self.notify()

    def notify(self) -> None:
        """Tell the listener, and who waits, of news."""
        self.has_news = False
        if self.listener is not None:
            self.listener()
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _end_naturally(self) -> None:
        """End by an end token or a grammar's end; ``length`` where the tokens that ran out are why
        it came."""
        constraint = self.options.constraint
        self.end("length" if constraint is not None and constraint.was_cut else "stop")

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news


def _allows_others(allowed: Mask, tokens: frozenset[int]) -> bool:
    """True where more than these tokens is allowed."""
    return int(np.count_nonzero(allowed)) > sum(bool(allowed[token]) for token in tokens)
