"""Best-fit packing (Ding et al. 2024, arXiv:2404.10830): blocks of whole documents.

A document longer than a block is cut into whole blocks and a remainder; remainders and short
documents are put, longest first, each into the fullest block that still takes it. So hardly any
document is cut that could stay whole, and a few positions at the end of blocks stay empty
(``TokenBlocks.real``).

A document's first token is predicted from an end of text, a later piece's first token from the one
before it; each token is a target exactly once an epoch. Each epoch shuffles pieces of equal length,
and the order of the blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.core.errors import DataError
from components.text.token_arrays import TokenSplit
from components.train.data.data_order import Ids, TokenBlocks, epoch_generator


def assign_blocks(lengths: Ids, size: int) -> Ids:
    """Block number of each piece; ``lengths`` are in falling order and at most ``size``.

    Linear in the number of pieces: blocks lie on one stack for each remaining room, and the bits
    of ``held`` mark the stacks that are not empty.
    """
    stacks: list[list[int]] = [[] for _ in range(size + 1)]
    open_rooms, opened = 0, 0
    block_of = np.empty(len(lengths), np.int64)
    for piece, length in enumerate(lengths.tolist()):
        fitting = open_rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            block = stacks[room].pop()
            if not stacks[room]:
                open_rooms ^= 1 << room
        else:
            room, block, opened = size, opened, opened + 1
        block_of[piece] = block
        if room > length:
            stacks[room - length].append(block)
            open_rooms |= 1 << (room - length)
    return block_of


class BestFitPacking:
    """Documents packed into blocks of ``sequence_length`` tokens; a shorter corpus gives fewer.

    Raises:
        DataError: the split holds less than one token beside the end of text.
    """

    def __init__(self, split: TokenSplit, *, sequence_length: int, seed: int, digest: str) -> None:
        if len(split.tokens) < 2:
            raise DataError("the corpus holds no token to train on; is everything filtered out?")
        self._split, self._epoch_generator = split, epoch_generator(seed, digest)
        self.sequence_length = min(sequence_length, len(split.tokens))
        self._starts, self._first, lengths = _cut_documents(split.documents, self.sequence_length)
        self._falling = np.argsort(-lengths, kind="stable")
        self._lengths = lengths[self._falling]
        block_of = assign_blocks(self._lengths, self.sequence_length)
        self.blocks_per_epoch = int(block_of.max()) + 1
        self._by_block = np.argsort(block_of, kind="stable")
        self._bounds = np.searchsorted(
            block_of[self._by_block], np.arange(self.blocks_per_epoch + 1)
        )
        self._epoch: tuple[int, Ids, Ids] | None = None

    def read_block(self, number: int) -> TokenBlocks:
        epoch, index = divmod(number, self.blocks_per_epoch)
        pieces, blocks = self._open_epoch(epoch)
        inputs = np.full(self.sequence_length, self._split.eos, np.int64)
        targets, documents = inputs.copy(), np.zeros(self.sequence_length, np.int64)
        block, at = blocks[index], 0
        for place in self._by_block[self._bounds[block] : self._bounds[block + 1]]:
            piece, end = pieces[place], at + int(self._lengths[place])
            start = int(self._starts[piece])
            targets[at:end] = self._split.tokens[start : start + end - at]
            inputs[at + 1 : end] = targets[at : end - 1]
            if not self._first[piece]:
                inputs[at] = self._split.tokens[start - 1]
            documents[at:end] = documents[at - 1] + 1 if at else 1
            at = end
        real = None if at == self.sequence_length else (np.arange(self.sequence_length) < at)[None]
        return TokenBlocks(inputs[None], targets[None], documents[None], real)

    def _open_epoch(self, epoch: int) -> tuple[Ids, Ids]:
        """(piece at each place of falling length, order of the blocks) of an epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            draw = self._epoch_generator(epoch)
            drawn = draw.permutation(len(self._lengths))
            pieces = self._falling[drawn[np.argsort(-self._lengths[drawn], kind="stable")]]
            self._epoch = (epoch, pieces, draw.permutation(self.blocks_per_epoch))
        return self._epoch[1], self._epoch[2]


def _cut_documents(documents: Ids, size: int) -> tuple[Ids, NDArray[np.bool_], Ids]:
    """(first token, whether it begins its document, length) of every piece, in corpus order.

    A document's pieces are whole blocks and, last, its remainder.
    """
    lengths = np.diff(documents)
    counts = -(-lengths // size)
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = documents[document] + within * size
    return starts, within == 0, np.minimum(documents[document + 1] - starts, size)
