"""Which tokens make which batch: a pure function of (seed, corpus digest, step).

An epoch puts all documents in a new order, one behind another, and cuts the stream into blocks
of equal length, which are put in a new order again. Each document begins with the end-of-text
token of the one before it, from which its first token is predicted, so every token is a target
exactly once an epoch (but for a rest shorter than a block, another one each epoch).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.errors import DataError
from components.text.tokens import TokenSplit

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """Inputs and next-token targets, each [blocks, positions]."""

    inputs: Ids
    targets: Ids

    def split(self, positions: int) -> Blocks:
        """The same tokens in shorter blocks; ``positions`` must divide the present length."""
        return Blocks(self.inputs.reshape(-1, positions), self.targets.reshape(-1, positions))


class Order:
    """Batches of ``rows`` blocks of ``positions`` tokens (fewer where the corpus is shorter).

    Raises:
        DataError: the split holds less than one token beside the end of text.
    """

    def __init__(
        self, split: TokenSplit, *, rows: int, positions: int, seed: int, digest: str
    ) -> None:
        if len(split.tokens) < 2:
            raise DataError("the corpus holds no token to train on; is everything filtered out?")
        self._split, self.rows, self._seed = split, rows, seed
        self.positions = min(positions, len(split.tokens))
        self.per_epoch = len(split.tokens) // self.positions
        self._digest = int(digest[:16] or "0", 16)
        self._epoch: tuple[int, Ids, Ids] | None = None

    def batch(self, step: int) -> Blocks:
        """The blocks of ``step``; a batch may reach over the end of an epoch."""
        numbers = range(step * self.rows, (step + 1) * self.rows)
        blocks = np.stack([self._block(*divmod(number, self.per_epoch)) for number in numbers])
        return Blocks(blocks[:, :-1], blocks[:, 1:])

    def _block(self, epoch: int, index: int) -> Ids:
        """[positions + 1]: one block and the token after it."""
        stream, starts = self._open(epoch)
        start = starts[index]
        return stream[start : start + self.positions + 1]

    def _open(self, epoch: int) -> tuple[Ids, Ids]:
        """The epoch's stream, led by an end of text, and where its blocks start, shuffled."""
        if self._epoch is None or self._epoch[0] != epoch:
            draw = np.random.default_rng([self._seed, self._digest, epoch])
            order = draw.permutation(len(self._split.documents) - 1)
            parts = [self._split.document(int(index)) for index in order]
            lead = np.array([self._split.eos], dtype=np.int64)
            stream = np.concatenate([lead, *parts]).astype(np.int64)
            spare = len(stream) - 1 - self.per_epoch * self.positions
            first = int(draw.integers(0, spare + 1))
            starts = first + self.positions * draw.permutation(self.per_epoch)
            self._epoch = (epoch, stream, starts.astype(np.int64))
        return self._epoch[1], self._epoch[2]


def document_numbers(inputs: Ids, eos: int) -> Ids:
    """Which document each input position belongs to, counted within its row."""
    return np.asarray((inputs == eos).cumsum(axis=1))
