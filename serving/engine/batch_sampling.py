"""Draws of the next token for all rows of a step at once, none of which sorts its vocabulary.

The rule, for a row of weights exp((logit - highest) / temperature): min-p keeps the tokens at least
so likely, top-k those that fewer than k tokens are likelier than, and top-p, over what these two
leave, those whose likelier ones have less than that probability together. So equal logits are all
kept or all left out, the likeliest token is always kept, and one that crosses the threshold is too.

A nucleus is drawn by rejection: a token of the whole distribution is taken if it belongs to the
nucleus, which one sum over the likelier ones tells. Of those that are rejected the rest is drawn
again, from the likelier ones alone, so what is drawn follows the renormalised nucleus exactly.

Each row's arithmetic is its own, bit by bit, so that a seed gives the same text whatever else is in
the batch. Sums over blocks keep to it, since each block is summed by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engine.sampling import Logits, TokenSampler

BLOCK = 128
"""Tokens summed together. The sums are accumulated to find the block of a draw, then the block's
weights to find its token: 32 and 128 steps of 4,096, which take 9 us where they are all done. Too
short for BLAS to use threads, which would add in another order."""
CHUNK_ELEMENTS = 1 << 16
"""Logits that are drawn from together: weights and comparisons of so many (half a megabyte) stay in
a core's second cache, which of 16 rows of 32,000 tokens takes 40 % less time than all at once."""
MOST_RANKED = 128
"""Largest top-k whose tokens are put in order. Beyond, the whole row is weighed."""
LEAST_TEMPERATURE = 1e-30
"""Its inverse is a number of float32."""
LEAST_TOP_P = 1e-300

Weights = NDArray[np.float32]
Sums = NDArray[np.float64]
_ONES = np.ones(BLOCK, dtype=np.float32)


class RowGroup(Protocol):
    """Rows that are drawn together in one way."""

    def draw(self, logits: Logits) -> list[int]:
        """A token for each row of adjusted logits [rows, v], which stay as they are."""
        ...


class GreedyRows:
    """Rows of temperature 0."""

    def draw(self, logits: Logits) -> list[int]:
        """The likeliest token of each row."""
        tokens: list[int] = logits.argmax(axis=1).tolist()
        return tokens


class RowBuffers:
    """Memory for the weights of some rows, filled with 0 beyond the vocabulary.

    Fresh arrays of a quarter of a megabyte cost more in page faults than the arithmetic in them.

    Args:
        vocabulary: logits of a row.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.blocks = -(-vocabulary // BLOCK)
        self.most_rows = max(1, CHUNK_ELEMENTS // vocabulary)
        shape = (self.most_rows, self.blocks * BLOCK)
        self.weights: Weights = np.zeros(shape, dtype=np.float32)
        self.likelier: Weights = np.zeros(shape, dtype=np.float32)
        """Weights of some rows, 0 for the tokens that a sum leaves out."""

    def sum_blocks(self, count: int) -> Weights:
        """Weight of each block of the first rows [count, blocks]."""
        sums: Weights = np.vecdot(self._split(self.weights, count), _ONES)
        return sums

    def sum_likelier(self, rows: NDArray[np.intp], least: Weights) -> Sums:
        """Weight of the tokens that weigh more than so much, of some rows.

        Args:
            rows: places of theirs.
            least: weight for each.
        """
        likelier = self.likelier[: len(rows)]
        self.weights.take(rows, axis=0, out=likelier, mode="clip")  # "raise" copies once more
        likelier *= likelier > least[:, None]
        sums = np.vecdot(self._split(likelier, len(rows)), _ONES)
        # A reduction that casts adds in pieces of numpy's buffer, whatever rows they belong to.
        cumulated: Sums = np.add.accumulate(sums, axis=1, dtype=np.float64)
        return cumulated[:, -1]

    def read_blocks(self, blocks: NDArray[np.intp]) -> Weights:
        """Weights of one block of each row [rows, BLOCK]."""
        count = len(blocks)
        return self._split(self.weights, count)[np.arange(count), blocks]

    def _split(self, rows: Weights, count: int) -> Weights:
        return rows[:count].reshape(count, self.blocks, BLOCK)


class WeighedRows:
    """Rows drawn from the weights of their whole vocabulary, by rejection where it is truncated.

    Args:
        samplers: of the rows.
        buffers: for at least as many rows.
    """

    def __init__(self, samplers: Sequence[TokenSampler], buffers: RowBuffers) -> None:
        params = [sampler.sampling for sampler in samplers]
        self._samplers, self._buffers = samplers, buffers
        self._rows = np.arange(len(params))
        self._scale = _invert_temperatures(samplers, np.float32)
        self._top_p = np.array(
            [max(p.top_p, LEAST_TOP_P) if p.top_p < 1 else np.inf for p in params]
        )
        self._min_p = np.array([min(p.min_p, 1) for p in params], dtype=np.float32)
        self._counted = [
            (row, p.top_k) for row, p in enumerate(params) if 0 < p.top_k < buffers.vocabulary
        ]
        self._narrows = any(p.top_p < 1 for p in params)
        self._bounds = any(p.min_p > 0 for p in params)

    def draw(self, logits: Logits) -> list[int]:
        """A token for each row of adjusted logits [rows, v], which stay as they are."""
        with np.errstate(invalid="ignore", over="ignore"):  # a row that allows nothing
            self._weigh(logits)
        cumulated: Sums = np.add.accumulate(
            self._buffers.sum_blocks(len(logits)), axis=1, dtype=np.float64
        )
        totals = cumulated[:, -1]
        shares = np.array([(s.next_share(), s.next_share()) for s in self._samplers])
        blocks = (cumulated > (shares[:, 0] * totals)[:, None]).argmax(axis=1)
        inner: Sums = np.add.accumulate(self._buffers.read_blocks(blocks), axis=1, dtype=np.float64)
        places = (inner > (shares[:, 1] * inner[:, -1])[:, None]).argmax(axis=1)
        drawn = blocks * BLOCK + places
        tokens: list[int] = drawn.tolist()
        # The likeliest token weighs 1, so a row whose weights are less has no numbers.
        if not (totals >= 1).all():
            for row in np.flatnonzero(~(totals >= 1)).tolist():
                tokens[row] = int(logits[row].argmax())
        if self._narrows or self._bounds:
            self._redraw_rejected(tokens, drawn, totals)
        return tokens

    def _weigh(self, logits: Logits) -> None:
        """Fill the buffer with each row's weights, 0 for what top-k leaves out."""
        weights = self._buffers.weights[: len(logits), : logits.shape[1]]
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=weights)
        weights *= self._scale
        np.exp(weights, out=weights)
        for row, count in self._counted:
            least = np.partition(logits[row], -count)[-count]
            weights[row] *= logits[row] >= least

    def _redraw_rejected(self, tokens: list[int], drawn: NDArray[np.intp], totals: Sums) -> None:
        """Draw again where the drawn tokens are outside of min-p or the nucleus.

        Args:
            tokens: of the rows, to be changed.
            drawn: the same.
            totals: weight of each row; not a number for those that keep their token.
        """
        weighs = self._buffers.weights[self._rows, drawn]
        bounds, rejected = totals, weighs < self._min_p
        if self._narrows:
            if self._bounds:  # the nucleus is one of what min-p leaves
                below = np.nextafter(self._min_p, np.float32(-1))
                bounds = self._buffers.sum_likelier(self._rows, below)
            nuclei = self._top_p * bounds
            # Without it the others weigh less than the nucleus: so do those that are likelier.
            unsure = np.flatnonzero(bounds - weighs >= nuclei)
            if len(unsure):
                likelier = self._buffers.sum_likelier(unsure, weighs[unsure])
                rejected[unsure] |= likelier >= nuclei[unsure]
            bounds = nuclei
        for row in np.flatnonzero(rejected).tolist():
            tokens[row] = self._draw_likelier(row, weighs[row], float(bounds[row]))

    def _draw_likelier(self, row: int, rejected: np.float32, nucleus: float) -> int:
        """Draw from the kept tokens of a row, all of which are likelier than a rejected one.

        Args:
            row: its place.
            rejected: weight of the token that was not kept.
            nucleus: weight at which the nucleus ends.
        """
        weights = self._buffers.weights[row]
        ranked = weights[weights > rejected]
        ranked.sort()
        ranked = ranked[::-1]
        cumulated = ranked.cumsum(dtype=np.float64)
        edge = min(int(cumulated.searchsorted(nucleus)), len(ranked) - 1)
        kept = int(np.count_nonzero(ranked >= max(ranked[edge], self._min_p[row])))
        share = self._samplers[row].next_share()
        rank = int(cumulated.searchsorted(share * cumulated[kept - 1], side="right"))
        equals = np.flatnonzero(weights == ranked[rank])
        # Equal weights rank in the vocabulary's order.
        tie = rank - np.count_nonzero(ranked > ranked[rank]) if len(equals) > 1 else 0
        return int(equals[tie])


class RankedRows:
    """Rows of a small top-k, drawn from their likeliest tokens in order.

    Args:
        samplers: of the rows.
        buffers: of the vocabulary.
    """

    def __init__(self, samplers: Sequence[TokenSampler], buffers: RowBuffers) -> None:
        params = [sampler.sampling for sampler in samplers]
        self._samplers, self._buffers = samplers, buffers
        self._rows = np.arange(len(params))
        self._scale = _invert_temperatures(samplers, np.float64)
        self._top_p = np.array([p.top_p if p.top_p < 1 else np.inf for p in params])
        self._min_p = np.array([[min(p.min_p, 1)] for p in params])
        self._top_k = np.array([p.top_k for p in params])
        self._narrows = any(p.top_p < 1 for p in params)
        self._bounds = any(p.min_p > 0 for p in params)
        # One more than are kept tells if the last one has an equal.
        self._width = int(self._top_k.max()) + 1

    def draw(self, logits: Logits) -> list[int]:
        """A token for each row of adjusted logits [rows, v], which stay as they are."""
        ranked = self._rank(logits)
        finite = np.isfinite(ranked[:, 0])
        if not finite.all():  # rows that allow nothing or hold no numbers: anything for now
            ranked[~finite] = np.where(np.arange(self._width) > 0, -np.inf, 0)
        weights: Sums = np.exp((ranked - ranked[:, :1]) * self._scale)
        cumulated = weights.cumsum(axis=1)
        totals = cumulated[self._rows, self._truncate(ranked, weights, cumulated) - 1]
        shares = np.array([sampler.next_share() for sampler in self._samplers])
        ranks = (cumulated > (shares * totals)[:, None]).argmax(axis=1)
        chosen = ranked[self._rows, ranks][:, None]
        matches = logits == chosen
        tokens: list[int] = matches.argmax(axis=1).tolist()
        if np.count_nonzero(matches) > len(tokens):
            ties = ranks - (ranked > chosen).sum(axis=1)
            for row in np.flatnonzero(ties).tolist():
                tokens[row] = int(np.flatnonzero(matches[row])[ties[row]])
        for row in np.flatnonzero(~finite).tolist():
            tokens[row] = int(logits[row].argmax())
        straddles = ranked[self._rows, self._top_k - 1] == ranked[self._rows, self._top_k]
        if straddles.any():
            # A row of fewer tokens than top-k ends in many that are not allowed.
            for row in np.flatnonzero(straddles & (weights[self._rows, self._top_k] > 0)).tolist():
                tokens[row] = self._draw_whole(row, logits)
        return tokens

    def _rank(self, logits: Logits) -> Sums:
        """The highest logits of each row, the highest first [rows, width]."""
        parted = self._buffers.likelier[: len(logits), : logits.shape[1]]
        parted[:] = logits
        parted.partition(-self._width, axis=1)
        ranked = np.sort(parted[:, -self._width :], axis=1)[:, ::-1]
        return ranked.astype(np.float64, order="C")

    def _truncate(self, ranked: Sums, weights: Sums, cumulated: Sums) -> NDArray[np.intp]:
        """Ranks that are kept in each row.

        Args:
            ranked: highest logits, the highest first.
            weights: of them.
            cumulated: their sums.
        """
        kept = self._top_k
        if self._bounds:
            kept = np.minimum(kept, np.add.reduce(weights >= self._min_p, axis=1))
        if self._narrows:
            nuclei = self._top_p * cumulated[self._rows, kept - 1]
            edges = np.add.reduce(cumulated < nuclei[:, None], axis=1)
            edges = ranked[self._rows, np.minimum(edges, kept - 1)]
            kept = np.minimum(kept, np.add.reduce(ranked >= edges[:, None], axis=1))
        return kept

    def _draw_whole(self, row: int, logits: Logits) -> int:
        """Draw for a row whose last kept token has an equal among those left out."""
        alone = WeighedRows(self._samplers[row : row + 1], self._buffers)
        return alone.draw(logits[row : row + 1])[0]


class BatchSampler:
    """Sampler of many rows; not safe to use from two threads at once."""

    def __init__(self) -> None:
        self._buffers = RowBuffers(1)
        self._samplers: list[TokenSampler] = []
        self._groups: list[tuple[NDArray[np.intp], RowGroup]] = []

    def draw(self, samplers: Sequence[TokenSampler], logits: Logits) -> list[int]:
        """Draw a token for each row.

        Args:
            samplers: of the rows.
            logits: adjusted [rows, v]; they stay as they are.
        """
        # As a rule the rows are those of the step before.
        if self._samplers != samplers or self._buffers.vocabulary != logits.shape[1]:
            self._group_rows(list(samplers), logits.shape[1])
        if len(self._groups) == 1:
            return self._groups[0][1].draw(logits)
        tokens = np.empty(len(logits), dtype=np.intp)
        for rows, group in self._groups:
            adjacent = rows[-1] - rows[0] + 1 == len(rows)
            tokens[rows] = group.draw(logits[rows[0] : rows[-1] + 1] if adjacent else logits[rows])
        drawn: list[int] = tokens.tolist()
        return drawn

    def _group_rows(self, samplers: list[TokenSampler], vocabulary: int) -> None:
        """Note which rows are drawn together, in which way."""
        if self._buffers.vocabulary != vocabulary:
            self._buffers = RowBuffers(vocabulary)
        self._samplers, self._groups = samplers, []
        kinds: dict[type[RowGroup], list[int]] = {}
        for row, sampler in enumerate(samplers):
            kinds.setdefault(_choose_group(sampler, vocabulary), []).append(row)
        for kind, rows in kinds.items():
            if kind is GreedyRows:
                self._groups.append((np.array(rows), GreedyRows()))
                continue
            build = RankedRows if kind is RankedRows else WeighedRows
            for start in range(0, len(rows), self._buffers.most_rows):
                chunk = rows[start : start + self._buffers.most_rows]
                group = build([samplers[row] for row in chunk], self._buffers)
                self._groups.append((np.array(chunk), group))


def _choose_group(sampler: TokenSampler, vocabulary: int) -> type[RowGroup]:
    """The way a row is drawn, which depends on nothing but its own parameters."""
    params = sampler.sampling
    if params.temperature <= 0:
        return GreedyRows
    ranks = 0 < params.top_k <= MOST_RANKED and params.top_k < vocabulary
    return RankedRows if ranks else WeighedRows


def _invert_temperatures(samplers: Sequence[TokenSampler], kind: type) -> NDArray[np.floating]:
    scale: NDArray[np.floating] = np.array(
        [[1 / max(s.sampling.temperature, LEAST_TEMPERATURE)] for s in samplers], dtype=kind
    )
    # One number for all rows is multiplied in a third of the time.
    return scale[:1, :1].reshape(()) if (scale == scale[0]).all() else scale
