"""Ctrl+C within a call of the library, held back while a module is being imported.

An interrupt inside an import leaves half a package in ``sys.modules`` (the module goes, those it
imported stay), and with native code that cannot be undone: the same call would fail in that process
for good. So a SIGINT that meets an import is delivered right behind it, any other one at once.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

R = TypeVar("R")
_IMPORT_MACHINERY = "<frozen importlib._bootstrap"
"""Beginning of the file name in frames of every import, whichever way it was asked for."""
_RETRY_SECONDS = 0.02
"""Until an interrupt that met an import is tried again; a person notices no such delay."""


def deliver_between_imports(work: Callable[[], R]) -> R:
    """Result of ``work``; a SIGINT within it goes to the program's own handler between imports.

    Changes nothing outside of the main thread, which alone gets signals, and where the program has
    no handler. An import around this call, as of a script that another one imports, does not count.

    Raises:
        KeyboardInterrupt: the caller was interrupted (or what the program's handler raises).
        BaseException: what ``work`` raised.
    """
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        return work()
    held = _HeldInterrupt(former, sys._getframe())
    signal.signal(signal.SIGINT, held.handle)
    try:
        return work()
    finally:
        held.close()


class _HeldInterrupt:
    """Handler of SIGINT that calls the former one once no import is under way."""

    def __init__(
        self, former: Callable[[int, FrameType | None], Any], outer: FrameType | None
    ) -> None:
        self._former = former
        self._outer = outer
        self._is_held = False
        self._lock = threading.Lock()

    def handle(self, sign: int, frame: FrameType | None) -> None:
        """Call the former handler, or try again later."""
        if not self._meets_import(frame):
            self._is_held = False
            self._former(sign, frame)
        elif not self._is_held:
            self._is_held = True
            # Not by threading, whose lock the interrupted code may hold.
            _thread.start_new_thread(self._retry, ())

    def close(self) -> None:
        """Put the former handler back, and deliver what is still held.

        Raises:
            KeyboardInterrupt: an interrupt was held (or what the program's handler raises).
        """
        try:
            with self._lock:
                held, self._is_held = self._is_held, False
        finally:
            signal.signal(signal.SIGINT, self._former)
            self._outer = None
        if held:
            self._former(signal.SIGINT, None)

    def _meets_import(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._outer:
            if frame.f_code.co_filename.startswith(_IMPORT_MACHINERY):
                return True
            frame = frame.f_back
        return False

    def _retry(self) -> None:
        main = threading.main_thread().ident
        while True:
            time.sleep(_RETRY_SECONDS)
            with self._lock:
                if not self._is_held or main is None:
                    return
                signal.pthread_kill(main, signal.SIGINT)
