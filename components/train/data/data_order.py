"""Order of the training data: a batch is a pure function of (seed, corpus digest, step).

An epoch shuffles all documents, concatenates them, and cuts the stream into blocks of equal length,
which are shuffled again. Each document begins with the end-of-text token of the one before it, from
which its first token is predicted, so every token is a target exactly once an epoch (except for a
remainder shorter than a block, another one each epoch).

Blocks are numbered from 0 on, over all epochs; step s takes the numbers from s * rows on. Ranks
share a step's blocks out in order, so the blocks of all ranks, concatenated, are the batch, however
many ranks there are and however each cuts its share into micro-batches.

Positions count through a block and do not restart with a document: rotary attention sees
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
class TokenBlocks:
    """Inputs, next-token targets and document numbers, each [blocks, sequence length].

    ``documents`` rises within a row, from any number. ``real``, bool, is False where a position is
    padding; None where there is none.
    """

    inputs: Ids
    targets: Ids
    documents: Ids
    real: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        """Number of real targets."""
        return self.targets.size if self.real is None else int(self.real.sum())

    def split_blocks(self, sequence_length: int) -> TokenBlocks:
        """The same tokens in shorter blocks; ``sequence_length`` must divide the present one."""
        return self._map_arrays(lambda array: array.reshape(-1, sequence_length))

    def take_blocks(self, start: int, end: int) -> TokenBlocks:
        """Blocks from ``start`` to before ``end``."""
        return self._map_arrays(lambda array: array[start:end])

    def _map_arrays(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> TokenBlocks:
        real = None if self.real is None else change(self.real)
        return TokenBlocks(change(self.inputs), change(self.targets), change(self.documents), real)


class BlockSource(Protocol):
    """Endless source of numbered blocks: pure in the number, fastest when read in sequence."""

    sequence_length: int
    """Tokens a block."""
    blocks_per_epoch: int
    """Number of blocks that hold every document once."""

    def read_block(self, number: int) -> TokenBlocks:
        """One block, [1, sequence length]."""
        ...


def concatenate_blocks(parts: Iterable[TokenBlocks]) -> TokenBlocks:
    """Concatenate blocks of equal length."""
    blocks = list(parts)
    real = None
    if any(part.real is not None for part in blocks):
        masks = [np.ones(p.inputs.shape, np.bool_) if p.real is None else p.real for p in blocks]
        real = np.concatenate(masks)
    return TokenBlocks(
        np.concatenate([part.inputs for part in blocks]),
        np.concatenate([part.targets for part in blocks]),
        np.concatenate([part.documents for part in blocks]),
        real,
    )


def rank_share(rows: int, rank: int, world: int) -> tuple[int, int]:
    """Rows (start, end) that a rank takes of a step; shares differ by at most one row.

    Args:
        rows: rows of the step.
        rank: rank of this process among those that share the rows.
        world: number of these processes.
    """
    return rank * rows // world, (rank + 1) * rows // world


class BatchOrder:
    """Batches of ``rows`` consecutive blocks of a source."""

    def __init__(self, source: BlockSource, rows: int) -> None:
        self.source, self.rows = source, rows
        self.sequence_length, self.blocks_per_epoch = (
            source.sequence_length,
            source.blocks_per_epoch,
        )

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TokenBlocks:
        """A rank's blocks of a step; a batch may cross the end of an epoch.

        Args:
            step: number of the batch.
            rank: rank of this process among those that share the rows.
            world: number of these processes.
        """
        start, end = rank_share(self.rows, rank, world)
        numbers = range(step * self.rows + start, step * self.rows + end)
        return concatenate_blocks(self.source.read_block(number) for number in numbers)


class TokenStream:
    """Shuffled documents in one stream, cut into blocks of ``sequence_length`` tokens.

    A corpus shorter than that gives shorter blocks.

    Raises:
        DataError: the split holds less than one token beside the end of text.
    """

    def __init__(self, split: TokenSplit, *, sequence_length: int, seed: int, digest: str) -> None:
        if len(split.tokens) < 2:
            raise DataError("the corpus holds no token to train on; is everything filtered out?")
        self._split, self._epoch_generator = split, epoch_generator(seed, digest)
        self.sequence_length = min(sequence_length, len(split.tokens))
        self.blocks_per_epoch = len(split.tokens) // self.sequence_length
        self._epoch: tuple[int, Ids, Ids, Ids] | None = None

    def read_block(self, number: int) -> TokenBlocks:
        epoch, index = divmod(number, self.blocks_per_epoch)
        order, offsets, starts = self._open_epoch(epoch)
        block = self._read_tokens(order, offsets, int(starts[index]))[None]
        inputs = block[:, :-1]
        return TokenBlocks(inputs, block[:, 1:], number_documents(inputs, self._split.eos))

    def _open_epoch(self, epoch: int) -> tuple[Ids, Ids, Ids]:
        """(order of the documents, their offsets in the stream, shuffled starts of the blocks)."""
        if self._epoch is None or self._epoch[0] != epoch:
            draw = self._epoch_generator(epoch)
            order = draw.permutation(len(self._split.documents) - 1)
            offsets = np.concatenate(([0], np.cumsum(np.diff(self._split.documents)[order])))
            spare = len(self._split.tokens) - self.blocks_per_epoch * self.sequence_length
            first = int(draw.integers(0, spare + 1))
            starts = first + self.sequence_length * draw.permutation(self.blocks_per_epoch)
            self._epoch = (epoch, order, offsets.astype(np.int64), starts.astype(np.int64))
        return self._epoch[1], self._epoch[2], self._epoch[3]

    def _read_tokens(self, order: Ids, offsets: Ids, start: int) -> Ids:
        """[sequence length + 1] tokens of the stream, led by an end of text, read from disk."""
        end = start + self.sequence_length  # in documents: the leading token stands before them
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


def epoch_generator(seed: int, digest: str) -> Callable[[int], np.random.Generator]:
    """Function from an epoch to its random generator, which depends on seed and corpus too."""
    corpus = int(digest[:16] or "0", 16)
    return lambda epoch: np.random.default_rng([seed, corpus, epoch])


def number_documents(inputs: Ids, eos: int) -> Ids:
    """Number of the document that each input position belongs to, counted within its row."""
    return np.asarray((inputs == eos).cumsum(axis=1))
