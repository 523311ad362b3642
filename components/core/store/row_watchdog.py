"""Which row a worker has in hand, so that a row which takes its process along is set aside alone.

An endless loop in native code, or a crash there, is no exception that could be caught. So a row's
number is written down before the work on it begins, and the kernel's timer bounds the processor
time of each row: it ends the process whoever holds the interpreter's lock. Processor time, not the
clock's: what a row costs is the same beside other programs.
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
MOST_LOST = 50
"""Rows of one file that may take their worker along; more is an error of its own."""


class InHand:
    """Told of every row before it is worked on, in the worker.

    In the process that the user started, time has no bound: to end that one would end the run.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._path = path
        self._seconds = seconds if multiprocessing.parent_process() is not None else 0.0

    def close(self) -> None:
        """All rows are done."""
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    @contextmanager
    def take(self, number: int) -> Iterator[None]:
        """Row ``number`` is worked on meanwhile."""
        os.pwrite(self._file, _NUMBER.pack(number), 0)
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def in_hand(path: Path) -> int | None:
    """The row that a dead worker had in hand; None where it had none yet."""
    try:
        return int(_NUMBER.unpack(path.read_bytes())[0])
    except (OSError, struct.error):
        return None


@dataclass(frozen=True)
class Losses:
    """What is known of the rows of one file that took their worker along."""

    reasons: dict[int, str] = field(default_factory=dict)
    """Row -> why it is set aside."""
    doubted: int | None = None
    """A row whose worker died once: the killer may have been another's hunger for memory."""

    def after(self, lost: WorkerLost, path: Path, seconds: float) -> Losses:
        """With the row that was in hand when the worker died.

        Raises:
            WorkerLost: no row had been begun, or too many were lost.
        """
        row = in_hand(path)
        path.unlink(missing_ok=True)
        if row is None or row in self.reasons or len(self.reasons) >= MOST_LOST:
            raise lost
        late = lost.exitcode == -signal.SIGPROF
        if not late and row != self.doubted:
            return replace(self, doubted=row)
        reason = f"took more than {seconds:g} s of processor time" if late else _died(lost.exitcode)
        return replace(self, reasons={**self.reasons, row: reason}, doubted=None)


def _died(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended its process twice (exit {exitcode})"
    return f"ended its process twice ({signal.Signals(-exitcode).name})"
