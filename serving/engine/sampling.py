"""Sampling of the next token: greedy, or with a temperature and top-p (arXiv:1904.09751)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.text.chat.chat_tokenizer import TEMPERATURE


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters of one request."""

    temperature: float = TEMPERATURE
    """0 is greedy."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability."""
    seed: int | None = None
    """Equal seeds give equal draws; None draws anew each time."""


class TokenSampler:
    """Random draws of one request."""

    def __init__(self, sampling: SamplingParams) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def draw(self, logits: NDArray[np.float32]) -> int:
        """Draw the next token from logits [v]."""
        if self.sampling.temperature <= 0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()).astype(np.float64) / self.sampling.temperature)
        if self.sampling.top_p >= 1:
            return self._pick(weights.cumsum())
        order = np.argsort(-weights, kind="stable")
        cumulated = weights[order].cumsum()
        # The token that crosses the threshold still belongs to the nucleus.
        nucleus = int(np.searchsorted(cumulated, self.sampling.top_p * cumulated[-1])) + 1
        return int(order[self._pick(cumulated[:nucleus])])

    def _pick(self, cumulated: NDArray[np.float64]) -> int:
        """An index, each as likely as its step in ``cumulated`` is high."""
        share = self._random.random() * cumulated[-1]
        return min(int(np.searchsorted(cumulated, share, side="right")), len(cumulated) - 1)
