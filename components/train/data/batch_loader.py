"""Batches made ahead by a thread beside the step at work; the order is the caller's alone.

A batch is a pure function of its number, so it does not matter when it is made. What is asked for
next is begun while the present step computes; what turns out not to be asked for is dropped. The
thread runs numpy and Python, none of torch's parallel operations, whose threads would take the
processors from the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

M = TypeVar("M")
AHEAD = 2
"""Batches made before they are asked for."""


class Loader(Generic[M]):
    """``fetch`` of numbers, some of them in advance."""

    def __init__(self, fetch: Callable[[int], Sequence[M]]) -> None:
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._begun: dict[int, Future[Sequence[M]]] = {}
        self.wait_seconds = 0.0
        """Seconds that steps waited for a batch, first ones and those after a setback included."""
        self.starved = 0
        """Steps whose batch had been begun in time and still was not ready."""

    def __enter__(self) -> Loader[M]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, number: int, following: Iterable[int]) -> Sequence[M]:
        """The batch ``number``, and a beginning with those that will be asked for next."""
        begun = self._begun.pop(number, None)
        found = begun or self._pool.submit(self._fetch, number)
        wanted = list(following)
        self._drop(set(self._begun) - set(wanted))
        for one in wanted:
            if one not in self._begun:
                self._begun[one] = self._pool.submit(self._fetch, one)
        if found.done():
            return found.result()
        self.starved += begun is not None
        began = time.monotonic()
        batch = found.result()
        self.wait_seconds += time.monotonic() - began
        return batch

    def forget(self) -> None:
        """Drop what was made ahead: numbers stand for other batches from now on."""
        self._drop(set(self._begun))

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers:
            self._begun.pop(number).cancel()
