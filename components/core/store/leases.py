"""Which keys a living process works with, so that a collection beside a run takes none of them.

    store/uses/<process>-<n>   one a process: a key a line, locked for as long as the process lives
    store/uses.lock            shared while a key is added, exclusive while a collection looks

A key is added before it is looked up. So a collection either sees it, or has finished moving things
away before the look-up, which is then a miss. The locks go with their processes: no clock and no
process number is trusted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.core.io.locks import create_locked_file, hold_lock, is_locked

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
        with hold_lock(self.root / LOCK, shared=True):
            if self._mine is None:
                name = f"{os.getpid()}-{time.monotonic_ns()}"
                self._mine = create_locked_file(self.root / USES / name)
            os.write(self._mine, f"{key}\n".encode())
        self._taken.add(key)

    @contextmanager
    def frozen(self) -> Iterator[frozenset[str]]:
        """The keys of all living processes; none is added while this is held.

        Files of processes that are gone are deleted.
        """
        with hold_lock(self.root / LOCK):
            yield self._used(clear=True)

    def used(self) -> frozenset[str]:
        """The keys of all living processes at this moment."""
        return self._used(clear=False)

    def _used(self, *, clear: bool) -> frozenset[str]:
        found: set[str] = set(self._taken)
        for path in (self.root / USES).glob("*"):
            if is_locked(path):
                with suppress(FileNotFoundError):  # its process ended just now
                    found.update(path.read_text(encoding="ascii").split())
            elif clear:
                path.unlink()
        return frozenset(found)
