"""Executors that map a function over shards, in processes that can be killed.

Workers are spawned, never forked (a forked worker keeps its parent's locks after a kill -9), and
die with their parent. On a cluster the same function runs as a Ray task.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessPool
from typing_extensions import override

from components.core.errors import DataError
from components.core.process.shutdown import block_interrupts
from components.core.process.usable_cores import usable_cores
from components.core.process.worker_context import WorkerContext

T = TypeVar("T")
R = TypeVar("R")
RetryTask = Callable[[T, "WorkerLost"], T]
"""Callback that, given a task and how its worker died, returns the task to run instead."""
_PR_SET_PDEATHSIG = 1
TERM_SECONDS = 0.1
"""Seconds between Pebble's SIGTERM and SIGKILL, 3 by default: a worker in native code never sees
the first, and a half-written result is written again."""
IDLE_SECONDS = 60.0
"""Idle time after which workers are stopped: stages after curation need their memory."""


class WorkerLost(DataError):
    """Death of a task's worker process; ``exitcode`` is negative for a signal."""

    def __init__(self, task: str, exitcode: int) -> None:
        super().__init__(f"{task}: its worker died (exit {exitcode})")
        self.exitcode = exitcode


class Executor(Protocol):
    """Interface that maps a function over tasks and yields results in the order of the tasks."""

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        retry: RetryTask[T] | None = None,
    ) -> Iterator[R]:
        """Map ``function`` over ``tasks``; results in the order of the tasks.

        Args:
            function: a top-level function, since it is pickled.
            tasks: picklable arguments.
            seconds: time limit of a task; None sets none.
            retry: called where a worker died, for the task to run instead.
        """
        ...

    def stop_idle(self) -> None:
        """Release workers that have been idle for a while; called between stages."""

    def close(self) -> None: ...


class InlineExecutor(Executor):
    """Executor of tests and tiny inputs: sequential, in this process."""

    @override
    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        retry: RetryTask[T] | None = None,
    ) -> Iterator[R]:
        return (function(task) for task in tasks)

    @override
    def stop_idle(self) -> None:
        """No-op: no worker process is held."""

    @override
    def close(self) -> None:
        """No-op: no worker process is held."""


def make_worker_pool(workers: int, prepare: Callable[[int], None]) -> ProcessPool:
    """Pool of spawned processes, which begin at its first task.

    Args:
        workers: their number.
        prepare: called first in each of them, with the process id of this one.
    """
    CONSTS.term_timeout = TERM_SECONDS
    return ProcessPool(
        max_workers=workers,
        context=WorkerContext(),
        initializer=prepare,
        initargs=(os.getpid(),),
    )


class ProcessExecutor(Executor):
    """Executor over spawned processes, started at first use and stopped after idle time."""

    def __init__(self, workers: int | None = None, idle_seconds: float = IDLE_SECONDS) -> None:
        self.workers = workers or usable_cores()
        self.idle_seconds = idle_seconds
        self._used = time.monotonic()
        self._pool: ProcessPool | None = None

    @override
    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        seconds: float | None = None,
        retry: RetryTask[T] | None = None,
    ) -> Iterator[R]:
        """Map ``function`` over ``tasks`` in worker processes; a hung or killed worker is an error.

        Raises:
            DataError: a task hung; names it.
            WorkerLost: a worker died, and ``again`` is not given or raises it; names the task.
        """
        if self._pool is None:
            self._pool = make_worker_pool(self.workers, die_with_parent)
        pool = self._pool
        with block_interrupts():  # its threads and processes begin at the first task
            futures = [pool.schedule(function, args=(t,), timeout=seconds) for t in tasks]
        try:
            for place, task in enumerate(tasks):
                while True:
                    try:
                        result = _result(futures[place], task, seconds)
                        break
                    except WorkerLost as lost:
                        if retry is None:
                            raise
                        task = retry(task, lost)
                        futures[place] = pool.schedule(function, args=(task,), timeout=seconds)
                yield result
        finally:
            for future in futures:
                future.cancel()  # type: ignore[no-untyped-call]
            self._used = time.monotonic()

    @override
    def stop_idle(self) -> None:
        """Stop workers that have been idle for ``idle_seconds``."""
        if time.monotonic() - self._used > self.idle_seconds:
            self.close()

    @override
    def close(self) -> None:
        """Stop the workers at once; the next ``map`` starts new ones."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None


def _result(future: Any, task: object, seconds: float | None) -> Any:
    try:
        return future.result()
    except FutureTimeout as error:
        raise DataError(f"{_task_name(task)}: was stopped after {seconds:g} s") from error
    except ProcessExpired as error:
        raise WorkerLost(_task_name(task), error.exitcode) from error


def _task_name(task: object) -> str:
    return getattr(task, "name", None) or repr(task)[:200]


def die_with_parent(parent: int) -> None:
    """End this worker process with its parent, and leave interrupts to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(ctypes.CDLL(None), "prctl"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)
