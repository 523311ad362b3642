"""Sampling of the next token: penalties, bias, constraint, then temperature, min-p, top-k, top-p.

In this order, as vLLM has it:

1. repetition penalty over the tokens of prompt and answer (CTRL, arXiv:1909.05858), presence and
   frequency penalty over those of the answer (OpenAI's API reference), logit bias
2. the constraint, which leaves the tokens that may come next
3. temperature; min-p (arXiv:2407.01082), top-k, top-p (nucleus, arXiv:1904.09751), each over the
   distribution that the one before leaves, renormalised

Reported log probabilities are the model's own, before any of it.
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
        self._random = np.random.default_rng(sampling.seed)
        self._prompt = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts: dict[int, int] = {}

    def draw(self, logits: Logits, allowed: Mask | None = None) -> int:
        """Draw the next token from logits [v], among those allowed [v]."""
        adjusted = self._adjust(logits)
        if allowed is not None:
            adjusted = np.where(allowed[: len(adjusted)], adjusted, -np.inf)
        token = self._pick(adjusted)
        self._counts[token] = self._counts.get(token, 0) + 1
        return token

    def describe(self, logits: Logits, token: int) -> TokenLogprobs | None:
        """Log probabilities of a drawn token; None where the request wants none."""
        count = self.sampling.logprobs
        if count is None:
            return None
        wide = logits.astype(np.float64)
        logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        likeliest = np.argsort(-logprobs, kind="stable")[:count]
        top = tuple((int(other), float(logprobs[other])) for other in likeliest)
        return TokenLogprobs(token, float(logprobs[token]), top)

    def _adjust(self, logits: Logits) -> Logits:
        """Logits after penalties and bias; the given array stays as it is."""
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
        return adjusted

    def _pick(self, logits: Logits) -> int:
        params = self.sampling
        if params.temperature <= 0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()).astype(np.float64) / params.temperature)
        order = np.argsort(-weights, kind="stable")
        ranked = weights[order]
        kept = int(np.count_nonzero(ranked >= params.min_p))  # the likeliest weight is 1
        if params.top_k > 0:
            kept = min(kept, params.top_k)
        cumulated = ranked[:kept].cumsum()
        if params.top_p < 1:
            # The token that crosses the threshold still belongs to the nucleus.
            kept = int(np.searchsorted(cumulated, params.top_p * cumulated[-1])) + 1
        return int(order[self._pick_rank(cumulated[:kept])])

    def _pick_rank(self, cumulated: NDArray[np.float64]) -> int:
        """A rank, each as likely as its step in ``cumulated`` is high."""
        share = self._random.random() * cumulated[-1]
        return min(int(np.searchsorted(cumulated, share, side="right")), len(cumulated) - 1)
