"""Batch loader that prepares the next batches in a background thread.

A batch is a pure function of its number, so it does not matter when it is made. The batches that
will be asked for next are begun while the present step computes; those that are not asked for
after all are dropped. The thread runs numpy and Python, none of torch's parallel operations, whose
threads would take the processors from the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

M = TypeVar("M")
AHEAD = 2
"""Batches prepared in advance: one for the next step and one in reserve."""


class BatchLoader(Generic[M]):
    """Results of ``fetch`` by batch number, some of them computed in advance."""

    def __init__(self, fetch: Callable[[int], Sequence[M]]) -> None:
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._begun: dict[int, Future[Sequence[M]]] = {}
        self.wait_seconds = 0.0
        """Seconds that steps waited for a batch, the first and those after a rollback included."""
        self.late_batches = 0
        """Steps whose batch was begun in advance and still was not ready."""

    def __enter__(self) -> BatchLoader[M]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take_batch(self, number: int, next_numbers: Iterable[int]) -> Sequence[M]:
        """Return batch ``number`` and begin those of ``next_numbers``, asked for next."""
        begun = self._begun.pop(number, None)
        future = begun or self._pool.submit(self._fetch, number)
        numbers = list(next_numbers)
        self._drop(set(self._begun) - set(numbers))
        for ahead in numbers:
            if ahead not in self._begun:
                self._begun[ahead] = self._pool.submit(self._fetch, ahead)
        if future.done():
            return future.result()
        self.late_batches += begun is not None
        began = time.monotonic()
        batch = future.result()
        self.wait_seconds += time.monotonic() - began
        return batch

    def drop_pending(self) -> None:
        """Drop all batches made in advance: their numbers stand for others from now on."""
        self._drop(set(self._begun))

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers:
            self._begun.pop(number).cancel()
