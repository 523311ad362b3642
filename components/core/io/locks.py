"""Advisory file locks (``flock``) between processes; a lock goes with the process that holds it.

No clock and no process number is trusted: a lock file that was left behind is free.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(
    path: Path, *, shared: bool = False, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock file ``path``, made if need be; waits while another process holds it.

    Args:
        path: the lock file. Whoever holds it alone may delete it: who waited for the deleted
            file locks a new one.
        shared: held together with others that share it.
        on_wait: called once where another process holds it, before waiting.
    """
    descriptor = _open_locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Try to hold the lock file ``path``; False, at once, where another process holds it."""
    descriptor = _open(path)
    try:
        yield _take(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def create_locked_file(path: Path) -> int:
    """Create the file ``path``, which must not exist, locked until this process ends.

    Returns:
        its descriptor, open for writing; closing it gives the lock back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_locked(path: Path) -> bool:
    """True if a process holds the lock file ``path`` exclusively; an absent one is not held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two that look at the same moment do not take each other for a holder.
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _open_locked(path: Path, mode: int, on_wait: Callable[[], None] | None) -> int:
    while True:
        descriptor = _open(path)
        if not _take(descriptor, mode):
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, mode)
        if os.fstat(descriptor).st_nlink > 0:  # else it was deleted while we waited
            return descriptor
        os.close(descriptor)


def _take(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
