"""Sampling of the next token: penalties, bias, constraint, then temperature, min-p, top-k, top-p.

In this order, as vLLM has it:

1. repetition penalty over the tokens of prompt and answer (CTRL, arXiv:1909.05858), presence and
   frequency penalty over those of the answer (OpenAI's API reference), logit bias
2. the constraint, which leaves the tokens that may come next
3. temperature; min-p (arXiv:2407.01082), top-k, top-p (nucleus, arXiv:1904.09751), each over the
   distribution that the one before leaves, renormalised

Reported log probabilities are the model's own, before any of it. ``batch_sampling`` draws the
same tokens for all rows of a step at once; a row that needs the whole order of its vocabulary
comes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.text.chat.chat_tokenizer import TEMPERATURE

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters of one answer."""

    temperature: float = TEMPERATURE
    """0 is greedy."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 is no limit."""
    min_p: float = 0.0
    """Only tokens at least so likely, as a share of the likeliest one."""
    repetition_penalty: float = 1.0
    """Divides positive logits, multiplies negative ones, of tokens seen in prompt or answer."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted as often as a token is in the answer."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token -> added to its logit."""
    seed: int | None = None
    """Equal seeds give equal draws; None draws anew each time."""
    logprobs: int | None = None
    """Likeliest tokens reported with each drawn one; None reports no log probabilities."""

    @property
    def penalizes(self) -> bool:
        """Some logits depend on the tokens before."""
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True)
class TokenLogprobs:
    """Log probabilities of a drawn token and of the likeliest ones in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """(token, log probability), the likeliest first."""


class TokenSampler:
    """Draws of one answer, with the counts that penalties need.

    Args:
        sampling: parameters of the draws.
        prompt: tokens that the repetition penalty counts as seen.
    """

    def __init__(self, sampling: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self.adjusts = sampling.penalizes or bool(sampling.logit_bias)
        """Logits are changed before a draw."""
        # A greedy answer needs no generator, which takes 20 us to seed.
        self._random = np.random.default_rng(sampling.seed) if sampling.temperature > 0 else None
        needs_prompt = sampling.repetition_penalty != 1
        self._prompt = np.unique(np.asarray(prompt if needs_prompt else (), dtype=np.int64))
        self._counts: dict[int, int] = {}

    def draw(self, logits: Logits, allowed: Mask | None = None) -> int:
        """Draw the next token from logits [v], among those allowed [v]."""
        token = self.pick(self.adjust(logits, allowed))
        self.count(token)
        return token

    def describe(self, logits: Logits, token: int) -> TokenLogprobs | None:
        """Log probabilities of a drawn token; None where the request wants none."""
        count = self.sampling.logprobs
        if count is None:
            return None
        wide = logits.astype(np.float64)
        logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        top = tuple((int(other), float(logprobs[other])) for other in likeliest(logprobs, count))
        return TokenLogprobs(token, float(logprobs[token]), top)

    def adjust(self, logits: Logits, allowed: Mask | None = None) -> Logits:
        """Logits after penalties, bias and constraint; the given array stays as it is."""
        params = self.sampling
        adjusted = logits.astype(np.float32, copy=True)
        drawn = np.fromiter(self._counts, dtype=np.int64)
        if params.repetition_penalty != 1:
            seen = np.union1d(self._prompt, drawn)
            value = adjusted[seen]
            factor = np.where(value > 0, 1 / params.repetition_penalty, params.repetition_penalty)
            adjusted[seen] = value * factor
        if len(drawn) and (params.presence_penalty or params.frequency_penalty):
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            adjusted[drawn] -= params.presence_penalty + params.frequency_penalty * counts
        for token, bias in params.logit_bias.items():
            adjusted[token] += bias
        if allowed is not None:
            adjusted = np.where(allowed[: len(adjusted)], adjusted, -np.inf).astype(np.float32)
        return adjusted

    def count(self, token: int) -> None:
        """Count a drawn token for the penalties of those to come."""
        if self.sampling.penalizes:
            self._counts[token] = self._counts.get(token, 0) + 1

    def pick(self, logits: Logits, share: float | None = None) -> int:
        """Draw from adjusted logits [v], by the order of the whole vocabulary.

        Args:
            logits: after ``adjust``.
            share: the draw's random number; None takes the next one.
        """
        params = self.sampling
        if params.temperature <= 0:
            return int(logits.argmax())
        highest = logits.max()
        if not np.isfinite(highest):  # no token is allowed, or the model gave no number
            return int(logits.argmax())
        shifted = logits - highest
        ranked = -np.sort(-shifted)
        weights = np.exp(ranked.astype(np.float64) * (1 / params.temperature))
        kept = max(1, int(np.count_nonzero(weights >= params.min_p)))  # the likeliest weight is 1
        if params.top_k > 0:
            kept = min(kept, params.top_k)
        cumulated = weights[:kept].cumsum()
        total = cumulated[-1]
        if kept == len(weights):  # in the vocabulary's order, a sum that needs no sorting
            total = np.exp(shifted.astype(np.float64) * (1 / params.temperature)).sum()
        if params.top_p < 1:
            # The token that crosses the threshold still belongs to the nucleus.
            kept = min(int(np.searchsorted(cumulated, params.top_p * total)) + 1, kept)
            total = cumulated[kept - 1]
        share = self.next_share() if share is None else share
        rank = min(int(np.searchsorted(cumulated[:kept], share * total, side="right")), kept - 1)
        # Equal logits rank in the vocabulary's order, so values are sorted and places are not.
        ties = rank - int(np.searchsorted(-ranked, -ranked[rank]))
        return int(np.flatnonzero(shifted == ranked[rank])[ties])

    def next_share(self) -> float:
        """The draw's random number, from 0 to 1, before it is taken."""
        assert self._random is not None
        return float(self._random.random())


def likeliest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Places of the ``count`` highest values, the highest first, equal ones in their order."""
    if not 0 < count < len(values):
        return np.argsort(-values, kind="stable")[:count]
    least = np.partition(values, len(values) - count)[len(values) - count]
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")][:count]
