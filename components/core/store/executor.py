"""Maps a function over shards, on this machine, in processes that can be killed.

Workers are spawned, never forked (a forked worker keeps its parent's locks after a kill -9), and
die with their parent. On a cluster the same function runs as a Ray task.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessPool

from components.core.errors import DataError
from components.core.process.shutdown import shielded
from components.core.process.usable_cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")
Again = Callable[[T, "WorkerLost"], T]
"""Given a task and how its worker died: the task to run in its place."""
_PR_SET_PDEATHSIG = 1
TERM_SECONDS = 0.1
"""Between Pebble's SIGTERM and its SIGKILL, in place of 3 s: a worker in native code never hears
the first, and what a worker leaves half done is written anew."""
IDLE_SECONDS = 60.0
"""Workers that did nothing for so long hold memory that the stages after curation need."""


class WorkerLost(DataError):
    """A task's process died; ``exitcode`` is negative for a signal."""

    def __init__(self, task: str, exitcode: int) -> None:
        super().__init__(f"{task}: its worker died (exit {exitcode})")
        self.exitcode = exitcode


class Executor(Protocol):
    """Runs ``function(task)`` for each task and yields results in the order of the tasks."""

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        again: Again[T] | None = None,
    ) -> Iterator[R]: ...

    def rest(self) -> None:
        """Called between stages: give up what has not been used for a while."""

    def close(self) -> None: ...


class Inline:
    """The twin for tests and for tiny inputs: everything in this process, one after another."""

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        again: Again[T] | None = None,
    ) -> Iterator[R]:
        return (function(task) for task in tasks)

    def rest(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


class Pool:
    """``workers`` spawned processes, started at use and kept until they have been idle a while."""

    def __init__(self, workers: int | None = None, idle_seconds: float = IDLE_SECONDS) -> None:
        self.workers = workers or usable_cores()
        self.idle_seconds = idle_seconds
        self._used = time.monotonic()
        self._pool: ProcessPool | None = None

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        again: Again[T] | None = None,
    ) -> Iterator[R]:
        """As ``Executor.map``; a task that outlasts ``seconds`` or kills its worker is an error.

        ``again`` is asked, where a worker died, what to run in its task's place.

        Raises:
            DataError: a task hung; names it.
            WorkerLost: a worker died, and ``again`` is not given or raises it; names the task.
        """
        if self._pool is None:
            CONSTS.term_timeout = TERM_SECONDS
            self._pool = ProcessPool(
                max_workers=self.workers,
                context=multiprocessing.get_context("spawn"),
                initializer=_die_with_parent,
                initargs=(os.getpid(),),
            )
        pool = self._pool
        with shielded():  # its threads and processes begin at the first task
            futures = [pool.schedule(function, args=(t,), timeout=seconds) for t in tasks]
        try:
            for place, task in enumerate(tasks):
                while True:
                    try:
                        result = _result(futures[place], task, seconds)
                        break
                    except WorkerLost as lost:
                        if again is None:
                            raise
                        task = again(task, lost)
                        futures[place] = pool.schedule(function, args=(task,), timeout=seconds)
                yield result
        finally:
            for future in futures:
                future.cancel()  # type: ignore[no-untyped-call]
            self._used = time.monotonic()

    def rest(self) -> None:
        """Stop workers that have been idle for ``idle_seconds``."""
        if time.monotonic() - self._used > self.idle_seconds:
            self.close()

    def close(self) -> None:
        """Stop the workers, whatever they are at; the next ``map`` starts new ones."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None


def _result(future: Any, task: object, seconds: float | None) -> Any:
    try:
        return future.result()
    except FutureTimeout as error:
        raise DataError(f"{_named(task)}: was stopped after {seconds:g} s") from error
    except ProcessExpired as error:
        raise WorkerLost(_named(task), error.exitcode) from error


def _named(task: object) -> str:
    return getattr(task, "name", None) or repr(task)[:200]


def _die_with_parent(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(ctypes.CDLL(None), "prctl"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)
