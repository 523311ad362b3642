"""Sampling of the next token: penalties, bias, constraint, then temperature, min-p, top-k, top-p.

In this order, as vLLM has it:

1. repetition penalty over the tokens of prompt and answer (CTRL, arXiv:1909.05858), presence and
   frequency penalty over those of the answer (OpenAI's API reference), logit bias
2. the constraint, which leaves the tokens that may come next
3. temperature; min-p (arXiv:2407.01082), top-k, top-p (nucleus, arXiv:1904.09751), each over the
   distribution that the one before leaves, renormalised: ``batch_sampling``, for all rows of a
   step at once

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

SHARES_AHEAD = 64
"""Random numbers drawn at once."""
BELOW_ONE = 1 - 2**-50
"""A share of a sum, rounded, would else reach the sum once in 10^16 draws."""


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
        self._shares: list[float] = []
        """Random numbers drawn ahead, the next one last."""
        self._prompt = np.unique(np.asarray(prompt if needs_prompt else (), dtype=np.int64))
        self._counts: dict[int, int] = {}

    def describe(self, logits: Logits, token: int) -> TokenLogprobs | None:
        """Log probabilities of a drawn token; None where the request wants none."""
        count = self.sampling.logprobs
        if count is None:
            return None
        highest = logits.max()
        total = np.exp(logits - highest).sum(dtype=np.float64)
        log_total = float(highest) + float(np.log(total))
        top = likeliest(logits, count).tolist()
        return TokenLogprobs(
            token,
            float(logits[token]) - log_total,
            tuple((other, float(logits[other]) - log_total) for other in top),
        )

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
            np.copyto(adjusted, -np.inf, where=~allowed[: len(adjusted)])
        return adjusted

    def count(self, token: int) -> None:
        """Count a drawn token for the penalties of those to come."""
        if self.sampling.penalizes:
            self._counts[token] = self._counts.get(token, 0) + 1

    def next_share(self) -> float:
        """The next random number of the answer's draws, from 0 to just below 1."""
        if not self._shares:
            assert self._random is not None
            # Many at once are the same numbers as one by one, at a third of the time.
            self._shares = (self._random.random(SHARES_AHEAD) * BELOW_ONE).tolist()[::-1]
        return self._shares.pop()


def likeliest(values: Logits, count: int) -> NDArray[np.intp]:
    """Places of the ``count`` highest values, the highest first, equal ones in their order."""
    if not 0 < count < len(values):
        return np.argsort(-values, kind="stable")[:count]
    least = np.partition(values, len(values) - count)[len(values) - count]
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")][:count]
