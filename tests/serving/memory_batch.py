"""Model of the tests: a batch whose next token depends on all tokens so far and on nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from serving.engine.decoding_batch import SavedPrefix
from serving.engine.sampling import Logits


@dataclass
class MemoryBatch:
    """Batch of token lists in place of keys and values."""

    vocabulary: int
    slots: int
    rows: list[list[int]] = field(default_factory=list)

    def join(self, adapter: int = 0) -> int:
        assert len(self.rows) < self.slots
        self.rows.append([])
        return len(self.rows) - 1

    def leave(self, row: int) -> int | None:
        last = self.rows.pop()
        if row == len(self.rows):
            return None
        self.rows[row] = last
        return len(self.rows)

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        for row, piece in zip(rows, pieces, strict=True):
            self.rows[row].extend(piece)
        return np.stack([self._logits(row) for row in rows])

    def opens_sessions(self, rows: int) -> bool:
        return False

    def read_prefix(self, row: int, length: int) -> SavedPrefix:
        assert 0 < length <= len(self.rows[row])
        return np.array(self.rows[row][:length])

    def write_prefix(self, row: int, prefix: SavedPrefix, length: int) -> None:
        assert not self.rows[row]
        assert length <= len(prefix)
        self.rows[row] = prefix[:length].tolist()

    steps_as_it_reads: ClassVar[bool] = True
    most_guesses: ClassVar[int] = 0

    def check_guesses(self, tokens: Sequence[int]) -> Logits:
        (row,) = self.rows
        logits = []
        for token in tokens:
            row.append(token)
            logits.append(self._logits(0))
        return np.stack(logits)

    def rewind(self, row: int, length: int) -> None:
        del self.rows[row][length:]

    def step(self, tokens: Sequence[int]) -> Logits:
        assert len(tokens) == len(self.rows)
        nothing = np.zeros(self.vocabulary, dtype=np.float32)
        for row, token in enumerate(tokens):
            if token >= 0:
                self.rows[row].append(token)
        return np.stack(
            [self._logits(r) if token >= 0 else nothing for r, token in enumerate(tokens)]
        )

    def _logits(self, row: int) -> Logits:
        digest = zlib.crc32(repr([int(token) for token in self.rows[row]]).encode())
        logits = np.random.default_rng(digest).normal(size=self.vocabulary) * 3
        return logits.astype(np.float32)


class MemoryStates:
    """One row's hidden states in place of a graph's: equal texts have equal ones."""

    width = 8

    def join(self, adapter: int = 0) -> int:
        return 0

    def leave(self, row: int) -> int | None:
        return None

    def hidden_states(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Logits]:
        return [
            np.stack([np.random.default_rng(token).normal(size=self.width) for token in piece])
            for piece in pieces
        ]


@dataclass
class ScriptedBatch(MemoryBatch):
    """Its favourite token is the script's next one, however it is fed; then the model's end."""

    script: Sequence[int] = ()
    logit: float = 9
    """Of the favourite; that of every other token is 0."""

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        return np.stack([self._favour(0)] * len(pieces))

    def read_prefix(self, row: int, length: int) -> SavedPrefix:
        return np.zeros(length)

    def write_prefix(self, row: int, prefix: SavedPrefix, length: int) -> None:
        """The prompt changes nothing in the answer."""

    def step(self, tokens: Sequence[int]) -> Logits:
        for row, token in zip(self.rows, tokens, strict=True):
            row += [token] if token >= 0 else []
        return np.stack([self._favour(len(row)) for row in self.rows])

    def _favour(self, at: int) -> Logits:
        logits = np.zeros(self.vocabulary, dtype=np.float32)
        logits[self.script[at] if at < len(self.script) else 4] = self.logit
        return logits
