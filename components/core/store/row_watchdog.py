"""Watchdog of the rows that a worker processes: a row that kills its process is set aside alone.

An endless loop or a crash in native code is no exception that could be caught. So a row's number is
written to a file before the row is processed, and a kernel timer (``ITIMER_PROF``) bounds the
processor time of each row: it ends the process whoever holds the interpreter's lock. It counts
processor time, since that is the same beside other programs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.core.store.executor import WorkerLost

_NUMBER = struct.Struct("<q")
MAX_LOST_ROWS = 50
"""Rows of one file that may kill their worker; more of them fail the file."""


class RowWatchdog:
    """Record of the current row, with a time limit, in the worker.

    In the process that the user started there is no limit: ending it would end the run.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._path = path
        self._seconds = seconds if multiprocessing.parent_process() is not None else 0.0

    def close(self) -> None:
        """Delete the record: all rows are processed."""
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    @contextmanager
    def watch_row(self, number: int) -> Iterator[None]:
        """Record and time row ``number`` within the block."""
        os.pwrite(self._file, _NUMBER.pack(number), 0)
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def read_current_row(path: Path) -> int | None:
    """Row that a dead worker was processing; None before its first."""
    try:
        return int(_NUMBER.unpack(path.read_bytes())[0])
    except (OSError, struct.error):
        return None


@dataclass(frozen=True)
class LostRows:
    """Rows of one file that killed their worker."""

    reasons: dict[int, str] = field(default_factory=dict)
    """Row -> reason for setting it aside."""
    suspect: int | None = None
    """Row whose worker died once: the cause may have been another process's use of memory."""

    def add_lost_worker(self, lost: WorkerLost, path: Path, seconds: float) -> LostRows:
        """Add the row that a dead worker was processing.

        Args:
            lost: death of the worker.
            path: record of its current row; deleted.
            seconds: time limit of a row.

        Raises:
            WorkerLost: no row had been begun, or too many were lost.
        """
        row = read_current_row(path)
        path.unlink(missing_ok=True)
        if row is None or row in self.reasons or len(self.reasons) >= MAX_LOST_ROWS:
            raise lost
        late = lost.exitcode == -signal.SIGPROF
        if not late and row != self.suspect:
            return replace(self, suspect=row)
        reason = (
            f"took more than {seconds:g} s of processor time"
            if late
            else _describe_exit(lost.exitcode)
        )
        return replace(self, reasons={**self.reasons, row: reason}, suspect=None)


def _describe_exit(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended its process twice (exit {exitcode})"
    return f"ended its process twice ({signal.Signals(-exitcode).name})"
