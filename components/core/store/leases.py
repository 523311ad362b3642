"""Leases on keys of the store, so that a garbage collection beside a run takes none in use.

    store/uses/<process>-<n>   one a process: one key a line, locked for as long as the process runs
    store/uses.lock            shared while a key is added, exclusive while a collection looks

A key is added before it is looked up. So a collection either sees it, or has moved things away
before the look-up, which is then a miss. Locks go with their processes: no clock and no process id
is trusted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.core.io.locks import create_locked_file, hold_lock, is_locked

LEASES_FOLDER, LEASES_LOCK_FILE = "uses", "uses.lock"


class Leases:
    """Keys in use below one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mine: int | None = None
        self._held: set[str] = set()

    def take_lease(self, key: str) -> None:
        """Protect ``key`` from collection until this process ends."""
        if key in self._held:
            return
        with hold_lock(self.root / LEASES_LOCK_FILE, shared=True):
            if self._mine is None:
                name = f"{os.getpid()}-{time.monotonic_ns()}"
                self._mine = create_locked_file(self.root / LEASES_FOLDER / name)
            os.write(self._mine, f"{key}\n".encode())
        self._held.add(key)

    @contextmanager
    def freeze_keys(self) -> Iterator[frozenset[str]]:
        """Keys in use by all processes; none is added within the block.

        Files of processes that have ended are deleted.
        """
        with hold_lock(self.root / LEASES_LOCK_FILE):
            yield self._read_keys(clear=True)

    def keys_in_use(self) -> frozenset[str]:
        """Keys in use by all processes at this moment."""
        return self._read_keys(clear=False)

    def _read_keys(self, *, clear: bool) -> frozenset[str]:
        keys: set[str] = set(self._held)
        for path in (self.root / LEASES_FOLDER).glob("*"):
            if is_locked(path):
                with suppress(FileNotFoundError):  # its process ended just now
                    keys.update(path.read_text(encoding="ascii").split())
            elif clear:
                path.unlink()
        return frozenset(keys)
