"""Draws for all rows of a step at once, the same as ``TokenSampler`` draws for each alone.

Ordering 16 rows of 4,096 tokens takes longer than the model. A nucleus is nearly always among the
likeliest hundred, which a partition finds without sorting the others. Where it reaches further,
the row is drawn by the order of its whole vocabulary. Each row's arithmetic is its own, bit by
bit, so that a seed gives the same text whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.engine.sampling import Logits, TokenSampler

CANDIDATES = 128
"""Likeliest weights that are sorted. Of 64, 16 rows take 20 us less, but each row that needs more
than there are takes 60."""
SMALL_VOCABULARY = 8192
"""Up to here a single row is ordered as a whole: 143 us of 4,096 tokens, 179 by a partition, whose
many small steps cost more than they save. Of 32,000 tokens it is 450 to 265."""
Weights = NDArray[np.float64]


class SamplingColumns:
    """Sampling parameters of some rows as arrays."""

    def __init__(self, samplers: Sequence[TokenSampler], vocabulary: int) -> None:
        params = [sampler.sampling for sampler in samplers]
        self.samplers = list(samplers)
        self.rows = np.arange(len(params))
        self.scale = np.array([[1 / p.temperature] for p in params])
        self.min_p = np.array([[p.min_p] for p in params])
        self.top_k = np.array([p.top_k or vocabulary for p in params])
        self.top_p = np.array([p.top_p for p in params])
        self.bounds_likelihood = self.min_p[:, 0] > 0
        self.has_min_p = bool(self.bounds_likelihood.any())
        self.narrows = self.top_p < 1
        self.has_top_p = bool(self.narrows.any())


class BatchSampler:
    """Sampler of many rows; not safe to use from two threads at once.

    Args:
        candidates: likeliest weights that are sorted.
    """

    def __init__(self, candidates: int = CANDIDATES) -> None:
        self._candidates = candidates
        # Fresh arrays of half a megabyte cost more in page faults than the arithmetic in them.
        self._shifted: Logits = np.empty((0, 0), dtype=np.float32)
        self._parted: Logits = np.empty((0, 0), dtype=np.float32)
        self._weights: Weights = np.empty((0, 0), dtype=np.float64)
        self._columns: SamplingColumns | None = None

    def draw(self, samplers: Sequence[TokenSampler], logits: Logits) -> list[int]:
        """Draw a token for each row.

        Args:
            samplers: of the rows.
            logits: adjusted [rows, v]; they stay as they are.
        """
        sampled = [row for row, s in enumerate(samplers) if s.sampling.temperature > 0]
        if len(sampled) == len(samplers):
            return self._draw_sampled(samplers, logits)
        tokens: list[int] = logits.argmax(axis=1).tolist()
        if sampled:
            chosen = self._draw_sampled([samplers[row] for row in sampled], logits[sampled])
            for row, token in zip(sampled, chosen, strict=True):
                tokens[row] = token
        return tokens

    def _draw_sampled(self, samplers: Sequence[TokenSampler], logits: Logits) -> list[int]:
        """Draw for rows whose temperature is above 0."""
        if len(samplers) == 1 and logits.shape[1] <= SMALL_VOCABULARY:
            return [samplers[0].pick(logits[0])]
        columns = self._columns
        if columns is None or columns.samplers != samplers:  # as a rule the rows stay the same
            columns = self._columns = SamplingColumns(samplers, logits.shape[1])
        shifted, ranked = self._rank(logits)
        weights = np.exp(ranked * columns.scale)
        cumulated = weights.cumsum(axis=1)
        # The sum over the vocabulary costs as much as all else: not where no row needs it.
        needs_sums = int(columns.top_k.max()) > ranked.shape[1]
        sums = self._sum_weights(shifted, columns.scale) if needs_sums else cumulated[:, -1]
        kept, total, settled = _truncate(columns, weights, cumulated, sums, logits.shape[1])
        shares = np.array([sampler.next_share() for sampler in samplers])
        rank = np.minimum((cumulated <= (shares * total)[:, None]).sum(axis=1), kept - 1)
        settled &= rank < ranked.shape[1]
        chosen = ranked[columns.rows, np.minimum(rank, ranked.shape[1] - 1)]
        ties = rank - (ranked > chosen[:, None]).sum(axis=1)
        matches = shifted == chosen[:, None]
        tokens: list[int] = matches.argmax(axis=1).tolist()
        for row in np.flatnonzero(~settled | (ties > 0)).tolist():
            if settled[row]:  # equal logits rank in the vocabulary's order
                tokens[row] = int(np.flatnonzero(matches[row])[ties[row]])
            else:
                tokens[row] = samplers[row].pick(logits[row], float(shares[row]))
        return tokens

    def _rank(self, logits: Logits) -> tuple[Logits, Logits]:
        """Logits below each row's highest [rows, v]; the highest in order [rows, candidates]."""
        count, vocabulary = logits.shape
        if self._shifted.shape[0] < count or self._shifted.shape[1] != vocabulary:
            self._shifted = np.empty((count, vocabulary), dtype=np.float32)
            self._parted = np.empty((count, vocabulary), dtype=np.float32)
            self._weights = np.empty((count, vocabulary), dtype=np.float64)
        shifted, parted = self._shifted[:count], self._parted[:count]
        with np.errstate(invalid="ignore"):  # a row that allows nothing
            np.subtract(logits, logits.max(axis=1, keepdims=True), out=shifted)
        np.negative(shifted, out=parted)
        width = min(self._candidates, vocabulary)
        if width < vocabulary:
            parted.partition(width - 1, axis=1)
        return shifted, -np.sort(parted[:, :width], axis=1)

    def _sum_weights(self, shifted: Logits, scale: Weights) -> Weights:
        """Weight of the whole vocabulary [rows]."""
        weights = self._weights[: len(shifted)]
        weights[:] = shifted
        weights *= scale
        sums: Weights = np.exp(weights, out=weights).sum(axis=1)
        return sums


def _truncate(
    columns: SamplingColumns,
    ranked: Weights,
    cumulated: Weights,
    sums: Weights,
    vocabulary: int,
) -> tuple[NDArray[np.intp], Weights, NDArray[np.bool_]]:
    """Apply min-p, top-k and top-p, as far as the candidates tell.

    Args:
        columns: parameters of the rows.
        ranked: the highest weights, the highest first.
        cumulated: their sums.
        sums: of the weights of the whole vocabulary.
        vocabulary: its size.

    Returns:
        Ranks kept in each row, the weight they have together, and the rows where this is certain.
    """
    width, rows = ranked.shape[1], columns.rows
    kept = np.minimum(columns.top_k, vocabulary)
    whole = kept == vocabulary
    if columns.has_min_p:
        likely = np.maximum((ranked >= columns.min_p).sum(axis=1), 1)
        if width < vocabulary:
            # As many as there are candidates may be more; never all, as far as they tell.
            likely = np.where(likely < width, likely, vocabulary)
            whole &= ~columns.bounds_likelihood
        kept = np.minimum(kept, likely)
        whole &= kept == vocabulary
    settled = whole | (kept <= width)
    total = np.where(whole, sums, cumulated[rows, np.minimum(kept, width) - 1])
    if columns.has_top_p:
        threshold = columns.top_p * total
        nucleus = np.minimum((cumulated < threshold[:, None]).sum(axis=1) + 1, kept)
        settled &= ~columns.narrows | (nucleus <= width)
        kept = np.where(columns.narrows, nucleus, kept)
        total = np.where(columns.narrows, cumulated[rows, np.minimum(kept, width) - 1], total)
    return kept, total, settled
