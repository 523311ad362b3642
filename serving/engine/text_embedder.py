"""Vectors of texts: the mean of a decoder's last hidden states, of length 1.

A decoder is trained to continue texts, not to place like ones together, so the vectors are worse at
search than those of an embedding model. Texts are read in pieces, in a row and a thread of their
own, which the system lets run where nothing else wants the core: of all ways that were tried it
costs running answers least. A piece between two steps costs them its own time, and the shortest
takes longer than a small model's step. Requests take turns text by text.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engine.waiting_queue import QueueFull

_PIECE_TOKENS = 64
"""Some milliseconds of reading, after which it may be given up."""
_LEAST_PRIORITY = 19
"""Linux's lowest: a sixty-seventh of a core that another thread wants as well."""
Vector = NDArray[np.float32]


class EmbeddingGivenUp(Exception):
    """Nobody waits for the vectors any more."""


class StatesBatch(Protocol):
    """Interface of a batch that gives hidden states (``RaggedBatch``)."""

    def join(self, adapter: int = 0) -> int: ...

    def leave(self, row: int) -> int | None: ...

    def hidden_states(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Vector]: ...


class TextEmbedder:
    """Embeds texts of one model.

    Args:
        make_batch: a batch of one row, which computes in the thread that calls it alone; called at
            the first text.
        width: numbers of a vector.
        queue: requests that may wait.
    """

    def __init__(self, make_batch: Callable[[], StatesBatch], width: int, queue: int) -> None:
        self.width, self._queue = width, queue
        self._make_batch = make_batch
        self._batch: StatesBatch | None = None
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="embed", initializer=_lower_priority
        )
        self._lock = asyncio.Lock()
        self._requests = 0

    async def embed(
        self,
        texts: Sequence[Sequence[int]],
        adapter: int = 0,
        given_up: Callable[[], bool] = lambda: False,
    ) -> list[Vector]:
        """A vector [c] of each text's token ids; none may be empty.

        Args:
            texts: token ids of each.
            adapter: number of the adapter that they are computed with; 0 is none.
            given_up: asked before each piece.

        Raises:
            QueueFull: as many requests wait as may.
            EmbeddingGivenUp: ``given_up`` said so.
        """
        if self._requests > self._queue:
            raise QueueFull
        self._requests += 1
        try:
            return [await self._embed_text(ids, adapter, given_up) for ids in texts]
        finally:
            self._requests -= 1

    async def _embed_text(
        self, ids: Sequence[int], adapter: int, given_up: Callable[[], bool]
    ) -> Vector:
        loop = asyncio.get_running_loop()
        total = np.zeros(self.width, dtype=np.float64)
        async with self._lock:
            for start in range(0, len(ids), _PIECE_TOKENS):
                if given_up():
                    raise EmbeddingGivenUp
                piece = ids[start : start + _PIECE_TOKENS]
                begins = adapter if start == 0 else None
                try:
                    total += await loop.run_in_executor(self._thread, self._read, piece, begins)
                except asyncio.CancelledError:
                    self._batch = None  # the thread may still write to it
                    raise
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


def _lower_priority() -> None:
    """Let every other thread go first (where the system knows priorities of threads)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
