"""Which keys a living process works with, so that a collection beside a run takes none of them.

    store/uses/<process>-<n>   one a process: a key a line, locked for as long as the process lives
    store/uses.lock            shared while a key is added, exclusive while a collection looks

A key is added before it is looked up. So a collection either sees it, or has finished moving things
away before the look-up, which is then a miss. The locks go with their processes: no clock and no
process number is trusted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USES, LOCK = "uses", "uses.lock"


class Leases:
    """The keys in use below one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mine: int | None = None
        self._taken: set[str] = set()

    def take(self, key: str) -> None:
        """Keep ``key`` from being collected until this process ends."""
        if key in self._taken:
            return
        with self._guard(fcntl.LOCK_SH):
            if self._mine is None:
                self._mine = self._open()
            os.write(self._mine, f"{key}\n".encode())
        self._taken.add(key)

    @contextmanager
    def frozen(self) -> Iterator[frozenset[str]]:
        """The keys of all living processes; none is added while this is held.

        Files of processes that are gone are deleted.
        """
        with self._guard(fcntl.LOCK_EX):
            yield self._used(clear=True)

    def used(self) -> frozenset[str]:
        """The keys of all living processes at this moment."""
        return self._used(clear=False)

    def _used(self, *, clear: bool) -> frozenset[str]:
        found: set[str] = set(self._taken)
        for path in (self.root / USES).glob("*"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _is_free(descriptor):
                    if clear:
                        path.unlink()
                    continue
                found.update(path.read_text(encoding="ascii").split())
            finally:
                os.close(descriptor)
        return frozenset(found)

    def _open(self) -> int:
        folder = self.root / USES
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    @contextmanager
    def _guard(self, how: int) -> Iterator[None]:
        path = self.root / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Whether nobody holds the lock of an open file; leaves it free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file ``path``; one that is not there is not held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _is_free(descriptor)
    finally:
        os.close(descriptor)
