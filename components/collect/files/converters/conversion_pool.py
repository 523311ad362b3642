"""Pool of worker processes for converters, which parse strangers' files in native code.

A conversion is bounded in seconds and in memory; one that crashes or hangs costs its own document.
Results come in the order of the tasks, whatever the number of workers.
"""

from __future__ import annotations

import importlib.util
import os
import resource
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

from pebble import CONSTS, ProcessExpired, ProcessPool

from components.collect.files.converters.convert_document import (
    CONVERTER_PACKAGES,
    Conversion,
    ConvertedText,
    convert_document,
)
from components.core.errors import DataError
from components.core.process.shutdown import block_interrupts
from components.core.process.usable_cores import usable_cores
from components.core.process.worker_context import WorkerContext
from components.core.store.executor import TERM_SECONDS, die_with_parent

_MEMORY_BYTES = 3 << 30
"""Address space that a worker may take beyond what it has at its start."""
_LOOKAHEAD = 4
"""Tasks in hand for each worker."""
Converter = Literal["document", "wikitext"]


@dataclass
class ConversionPool:
    """Workers that are started at the first conversion."""

    seconds: float
    """Longest time of one conversion."""
    workers: int = 0
    """Processes; 0 for one a core."""
    _pool: ProcessPool | None = None

    def __enter__(self) -> ConversionPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None

    def convert_all(
        self, tasks: Iterable[Conversion]
    ) -> Iterator[tuple[Conversion, ConvertedText | str]]:
        """Convert tasks in their order: each with its text, or the reason for which it has none."""
        pending: deque[tuple[Conversion, Any]] = deque()
        lookahead = _LOOKAHEAD * (self.workers or usable_cores())
        for task in tasks:
            pending.append((task, self._schedule(task)))
            if len(pending) >= lookahead:
                yield self._finish(*pending.popleft())
        while pending:
            yield self._finish(*pending.popleft())

    def _schedule(self, task: Conversion) -> Any:
        if self._pool is None:
            CONSTS.term_timeout = TERM_SECONDS
            self._pool = ProcessPool(
                max_workers=self.workers or usable_cores(),
                context=WorkerContext(),
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
        with block_interrupts():  # its threads and processes begin at the first task
            return self._pool.schedule(convert_document, args=(task,), timeout=self.seconds)

    def _finish(self, task: Conversion, future: Any) -> tuple[Conversion, ConvertedText | str]:
        try:
            return task, future.result()
        except FutureTimeout:
            return task, f"took more than {self.seconds:g} s to convert"
        except ProcessExpired as error:
            return task, f"ended its converter (exit {error.exitcode})"
        except BrokenProcessPool as error:
            raise DataError(f"{task.place}: no process can be started to convert it") from error
        except MemoryError:
            return task, f"needs more than {_MEMORY_BYTES} bytes of memory to convert"


def missing_converter(converter: Converter) -> str:
    """Reason for which a converter cannot be used; empty where its package is installed."""
    package = CONVERTER_PACKAGES[converter]
    if importlib.util.find_spec(package) is not None:
        return ""
    return (
        f"is read by {package}, which is not installed: "
        "pip install 'modelmill[documents]', then run the same command"
    )


def _start_worker(parent: int) -> None:
    """Bound the worker's memory, and its life by its parent's."""
    die_with_parent(parent)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
