"""Vectors of texts: the mean of a decoder's last hidden states, of length 1.

A decoder is trained to continue texts, not to place like ones together, so the vectors are worse at
search than those of an embedding model. Texts are read one after another in pieces, in a thread and
a row of their own, so running answers are not held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engine.waiting_queue import QueueFull

_PIECE_TOKENS = 64
"""Some milliseconds of reading, after which another thread may have the cores."""
Vector = NDArray[np.float32]


class StatesBatch(Protocol):
    """Interface of a batch that gives hidden states (``RaggedBatch``)."""

    def join(self, adapter: int = 0) -> int: ...

    def leave(self, row: int) -> int | None: ...

    def hidden_states(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Vector]: ...


class TextEmbedder:
    """Embeds texts of one model.

    Args:
        make_batch: a batch of one row; called at the first text.
        width: numbers of a vector.
        queue: requests that may wait.
    """

    def __init__(self, make_batch: Callable[[], StatesBatch], width: int, queue: int) -> None:
        self.width, self._queue = width, queue
        self._make_batch = make_batch
        self._batch: StatesBatch | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._lock = asyncio.Lock()
        self._requests = 0

    async def embed(self, texts: Sequence[Sequence[int]], adapter: int = 0) -> list[Vector]:
        """A vector [c] of each text's token ids; none may be empty.

        Args:
            texts: token ids of each.
            adapter: number of the adapter that they are computed with; 0 is none.

        Raises:
            QueueFull: as many requests wait as may.
        """
        if self._requests > self._queue:
            raise QueueFull
        self._requests += 1
        try:
            async with self._lock:
                return [await self._embed_text(ids, adapter) for ids in texts]
        finally:
            self._requests -= 1

    async def _embed_text(self, ids: Sequence[int], adapter: int) -> Vector:
        loop = asyncio.get_running_loop()
        total = np.zeros(self.width, dtype=np.float64)
        for start in range(0, len(ids), _PIECE_TOKENS):
            piece = ids[start : start + _PIECE_TOKENS]
            begins = adapter if start == 0 else None
            total += await loop.run_in_executor(self._thread, self._read, piece, begins)
        # A model without a fault gives no zero vector; should one, it stays zero.
        length = max(float(np.linalg.norm(total)), np.finfo(np.float64).tiny)
        return (total / length).astype(np.float32)

    def _read(self, piece: Sequence[int], begins: int | None) -> NDArray[np.float64]:
        """Sum of the states of a piece [c], behind those before it.

        Args:
            piece: token ids.
            begins: the adapter of a text that begins with this piece; None where one goes on.
        """
        batch = self._batch
        if batch is None:
            batch = self._batch = self._make_batch()
            batch.join(begins or 0)
        elif begins is not None:
            batch.leave(0)
            batch.join(begins)
        try:
            (states,) = batch.hidden_states(0, [piece])
        except Exception:
            self._batch = None  # its row may hold anything
            raise
        total: NDArray[np.float64] = states.sum(axis=0, dtype=np.float64)
        return total
