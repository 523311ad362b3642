"""Which tokens make which batch: a pure function of (seed, corpus digest, step).

An epoch puts all documents in a new order, one behind another, and cuts the stream into blocks
of equal length, which are put in a new order again. Each document begins with the end-of-text
token of the one before it, from which its first token is predicted, so every token is a target
exactly once an epoch (but for a rest shorter than a block, another one each epoch).

Blocks are numbered from 0 on, over all epochs; step s takes the numbers from s * rows on. Ranks
share a step's blocks out in order, so the blocks of all ranks one behind another are the batch,
however many ranks there are and however each cuts its share into micro-batches.

Positions go on through a block and do not begin anew with a document: rotary attention sees
differences of positions alone, and the mask keeps documents apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.core.errors import DataError
from components.text.token_arrays import TokenSplit

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """Inputs, next-token targets, and what document each input is of, each [blocks, positions].

    ``documents`` counts within a row from anything upward. ``real``, bool, is False where a
    position only fills its block up; None where all are real.
    """

    inputs: Ids
    targets: Ids
    documents: Ids
    real: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        """Targets to learn from."""
        return self.targets.size if self.real is None else int(self.real.sum())

    def split(self, positions: int) -> Blocks:
        """The same tokens in shorter blocks; ``positions`` must divide the present length."""
        return self._each(lambda array: array.reshape(-1, positions))

    def part(self, start: int, end: int) -> Blocks:
        """Some of the blocks."""
        return self._each(lambda array: array[start:end])

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Blocks:
        real = None if self.real is None else change(self.real)
        return Blocks(change(self.inputs), change(self.targets), change(self.documents), real)


class Rows(Protocol):
    """Numbered blocks without end: pure in the number, at their best one after another."""

    positions: int
    """Tokens a block."""
    per_epoch: int
    """Blocks after which every document has been there."""

    def row(self, number: int) -> Blocks:
        """One block, [1, positions]."""
        ...


def joined(parts: Iterable[Blocks]) -> Blocks:
    """Blocks of equal length one behind another."""
    some = list(parts)
    real = None
    if any(part.real is not None for part in some):
        masks = [np.ones(p.inputs.shape, np.bool_) if p.real is None else p.real for p in some]
        real = np.concatenate(masks)
    return Blocks(
        np.concatenate([part.inputs for part in some]),
        np.concatenate([part.targets for part in some]),
        np.concatenate([part.documents for part in some]),
        real,
    )


def share(rows: int, rank: int, world: int) -> tuple[int, int]:
    """From which to before which of ``rows`` a rank takes; the ranks' shares differ by one."""
    return rank * rows // world, (rank + 1) * rows // world


class Order:
    """Batches of ``rows`` blocks."""

    def __init__(self, source: Rows, rows: int) -> None:
        self.source, self.rows = source, rows
        self.positions, self.per_epoch = source.positions, source.per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Blocks:
        """A rank's blocks of ``step``; a batch may reach over the end of an epoch."""
        start, end = share(self.rows, rank, world)
        numbers = range(step * self.rows + start, step * self.rows + end)
        return joined(self.source.row(number) for number in numbers)


class Stream:
    """Documents in one row, cut into blocks of ``positions`` tokens (fewer: a shorter corpus).

    Raises:
        DataError: the split holds less than one token beside the end of text.
    """

    def __init__(self, split: TokenSplit, *, positions: int, seed: int, digest: str) -> None:
        if len(split.tokens) < 2:
            raise DataError("the corpus holds no token to train on; is everything filtered out?")
        self._split, self._draw = split, drawer(seed, digest)
        self.positions = min(positions, len(split.tokens))
        self.per_epoch = len(split.tokens) // self.positions
        self._epoch: tuple[int, Ids, Ids, Ids] | None = None

    def row(self, number: int) -> Blocks:
        epoch, index = divmod(number, self.per_epoch)
        order, offsets, starts = self._open(epoch)
        block = self._read(order, offsets, int(starts[index]))[None]
        inputs = block[:, :-1]
        return Blocks(inputs, block[:, 1:], document_numbers(inputs, self._split.eos))

    def _open(self, epoch: int) -> tuple[Ids, Ids, Ids]:
        """The epoch's documents, where each begins in their row, where its blocks do, shuffled."""
        if self._epoch is None or self._epoch[0] != epoch:
            draw = self._draw(epoch)
            order = draw.permutation(len(self._split.documents) - 1)
            offsets = np.concatenate(([0], np.cumsum(np.diff(self._split.documents)[order])))
            spare = len(self._split.tokens) - self.per_epoch * self.positions
            first = int(draw.integers(0, spare + 1))
            starts = first + self.positions * draw.permutation(self.per_epoch)
            self._epoch = (epoch, order, offsets.astype(np.int64), starts.astype(np.int64))
        return self._epoch[1], self._epoch[2], self._epoch[3]

    def _read(self, order: Ids, offsets: Ids, start: int) -> Ids:
        """[positions + 1] of the row, which an end of text leads; read where it lies on disk."""
        end = start + self.positions  # of the documents: the leading token stands before them
        parts: list[NDArray[np.integer]] = []
        if start == 0:
            parts.append(np.array([self._split.eos]))
        at = max(start - 1, 0)
        index = int(np.searchsorted(offsets, at, side="right")) - 1
        while at < end:
            document = self._split.document(int(order[index]))
            low = at - int(offsets[index])
            parts.append(document[low : low + end - at])
            at += len(parts[-1])
            index += 1
        return np.concatenate(parts).astype(np.int64)


def drawer(seed: int, digest: str) -> Callable[[int], np.random.Generator]:
    """An epoch's own random numbers, which hang on seed and corpus too."""
    corpus = int(digest[:16] or "0", 16)
    return lambda epoch: np.random.default_rng([seed, corpus, epoch])


def document_numbers(inputs: Ids, eos: int) -> Ids:
    """Which document each input position belongs to, counted within its row."""
    return np.asarray((inputs == eos).cumsum(axis=1))
