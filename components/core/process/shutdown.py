"""Graceful shutdown on SIGINT (Ctrl+C) and SIGTERM, with a forced exit as the last resort.

The first signal raises ``Stopped`` in the main thread, where stages work; context managers on the
way out clean up. Code that must not be interrupted half-way (Prefect's engine between two steps)
runs under ``defer_signals``: the signal is recorded, and raised where our own code continues.
Native code that does not return to the interpreter, and code that swallows the exception, is ended
by a watching thread ``FORCE_AFTER_SECONDS`` after the first signal; a second signal does the same
at once.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.util import _run_finalizers  # type: ignore[attr-defined]
from types import FrameType
from typing import Any, NoReturn

import psutil

from components.core.log import get_logger

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FORCE_AFTER_SECONDS = 3.5
"""From the first signal to the forced exit: of the 5 s promised to a user, 1.5 s remain for it."""
FORCED_EXIT_MESSAGE = "ended by force"
RESUMABLE_MESSAGE = "stopped; the same command goes on from here"
SAME_SIGNAL_SECONDS = 0.2
"""A wrapper may forward the signal that its process group received too: two signals within this
time count as one."""
_CALLBACK_SECONDS = 1.0
"""Time limit of all callbacks of a forced exit together, but for the command's own."""
_OWN_CALLBACK_SECONDS = 0.2
"""Least time for the first callback, which writes the command's record."""
_TRACKER = "multiprocessing.resource_tracker"
"""Spared: it ends by itself once the process whose semaphores it releases has ended."""
_SHOW_CURSOR = "\x1b[?25h"
log = get_logger(__name__)


class Stopped(KeyboardInterrupt):
    """Request to end this process, from the user or from its parent.

    A ``KeyboardInterrupt``, since asyncio and other libraries propagate those from anywhere.
    """

    def __init__(self, sign: int = signal.SIGINT) -> None:
        self.sign = signal.Signals(sign)
        super().__init__(f"stopped by {self.sign.name}")

    @property
    def exit_code(self) -> int:
        """Exit code by the shells' convention: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.sign


@dataclass
class _SignalState:
    """Signal state of the process; the only module-level state, since signals are per process."""

    first_signal: int = 0
    """Number of the first signal; 0 before one came."""
    deliver_at_once: bool = True
    """True: a signal is raised where the main thread is; False: ``raise_if_stopped`` raises it."""
    depth: int = 0
    watched: bool = False
    """True while a thread stands by to force the exit."""
    message: str = "stopped"
    """Line that the user sees."""
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    """Callbacks of a forced exit, the command's own first."""
    exit_lock: threading.Lock = field(default_factory=threading.Lock)


_state = _SignalState()


def requested_stop() -> Stopped | None:
    """The stop that was requested; None if there was none."""
    return Stopped(_state.first_signal) if _state.first_signal else None


def raise_if_stopped() -> None:
    """Raise the requested stop, if there is one.

    Raises:
        Stopped: a signal came.
    """
    if _state.first_signal:
        raise Stopped(_state.first_signal)


@contextmanager
def handle_signals(
    *, force: bool = False, term_seconds: float = FORCE_AFTER_SECONDS
) -> Iterator[None]:
    """Handle SIGINT and SIGTERM within the block; does nothing outside the main thread.

    Args:
        force: force the exit if the process does not end by itself, and at a second signal. For
            programs, not for callers of a library. Once stopped, the process stays watched until
            the interpreter shuts down, which nobody watches: see ``exit_after_stop``.
        term_seconds: from SIGTERM to the forced exit, of a program that has work to finish first;
            a user's Ctrl+C waits ``FORCE_AFTER_SECONDS``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {sign: signal.signal(sign, _handle_signal) for sign in SIGNALS}
    watch = _SignalWatch(term_seconds) if force else None
    _state.watched = _state.watched or force
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if watch is None or not _state.first_signal:
            _restore_handlers(former, watch)
        if not _state.depth and watch is None:
            _state.first_signal = 0


def _restore_handlers(former: Mapping[signal.Signals, Any], watch: _SignalWatch | None) -> None:
    if watch is not None:
        watch.close()
        _state.watched = False
    for sign, handler in former.items():
        signal.signal(sign, handler)


@contextmanager
def request_stop(sign: int = signal.SIGINT) -> Iterator[None]:
    """Let the work of other threads stop at its next progress, as if a signal had come.

    For a caller of the library whose own thread was interrupted while another one works for it.
    """
    former, _state.first_signal = _state.first_signal, _state.first_signal or sign
    try:
        yield
    finally:
        _state.first_signal = former


@contextmanager
def defer_signals() -> Iterator[None]:
    """Record signals within the block, and raise after it.

    Raises:
        Stopped: a signal came.
    """
    former = _state.deliver_at_once
    try:
        _state.deliver_at_once = False
        yield
    finally:
        _state.deliver_at_once = former
    if former:
        raise_if_stopped()


@contextmanager
def deliver_signals() -> Iterator[None]:
    """Raise signals at once within this part of a ``defer_signals`` block.

    Raises:
        Stopped: a signal came, possibly before the block.
    """
    former = _state.deliver_at_once
    try:
        _state.deliver_at_once = True
        # After the assignment: one that came before it was recorded, one that comes now is raised.
        raise_if_stopped()
        yield
    finally:
        _state.deliver_at_once = former


def stop_message() -> str:
    """Line by which a user is told of the stop."""
    return _state.message


@contextmanager
def mark_resumable() -> Iterator[None]:
    """Tell the user, if stopped within the block, that the same command resumes the work."""
    former, _state.message = _state.message, RESUMABLE_MESSAGE
    yield
    _state.message = former  # not where it was stopped: the command has yet to say so


@contextmanager
def before_forced_exit(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` (in a thread of its own) before a forced exit within the block."""
    _state.callbacks.append(callback)
    try:
        yield
    finally:
        _state.callbacks.remove(callback)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT in threads and processes started within the block; processes keep it blocked.

    Ctrl+C goes to every process of the terminal's foreground group. Workers, which are ended by
    their parent, must not see it, not even while they import, before they could ignore it.
    """
    # Started by the first process of ours that multiprocessing spawns, it would unblock the signal.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def load_native_code(load: Callable[[], None]) -> None:
    """Run ``load``, which imports native code, in a thread of its own, and wait for it.

    Signals are raised in the main thread. One that meets torch while it initialises aborts the
    process; here it interrupts the waiting, and the thread ends with the process.

    Raises:
        Stopped: a signal came.
        BaseException: what ``load`` raised.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            load()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def force_exit(sign: int) -> None:
    """Kill the descendants of this process and exit at once. Does not return."""
    if not _state.exit_lock.acquire(blocking=False):
        return
    _state.first_signal = _state.first_signal or sign
    deadline = time.monotonic() + _CALLBACK_SECONDS
    # In parallel: a server that hangs must not keep the record from being written. The command's
    # own callback, which was registered first, runs last: it knows how the others ended.
    _call_all(_state.callbacks[1:], deadline)
    log.warning(FORCED_EXIT_MESSAGE)
    _call_all(_state.callbacks[:1], max(deadline, time.monotonic() + _OWN_CALLBACK_SECONDS))
    kill_descendants()
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)  # a live line hides it
        sys.stderr.flush()
    os._exit(128 + _state.first_signal)


def exit_after_stop(exit_code: int) -> NoReturn:
    """Exit a stopped program that has cleaned up, without the interpreter's own shutdown.

    What MLflow, Prefect and torch do there takes seconds and is of no use any more.
    """
    _run_finalizers()  # else its tracker would speak of semaphores that leaked
    kill_descendants(spare=_TRACKER)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def kill_descendants(spare: str = "") -> None:
    """Kill every descendant of this process, except those with ``spare`` in their command line."""
    for process in psutil.Process().children(recursive=True):
        try:
            if not spare or spare not in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue  # it has ended meanwhile


def _call_all(callbacks: Sequence[Callable[[], None]], deadline: float) -> None:
    threads = [
        threading.Thread(target=_call_logged, args=(callback,), daemon=True)
        for callback in callbacks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _call_logged(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception as error:
        log.warning("a callback of the forced exit failed: %s", error)


def _handle_signal(sign: int, frame: FrameType | None) -> None:
    if _state.first_signal and _state.watched:
        return  # a second one: the watching thread forces the exit
    _state.first_signal = _state.first_signal or sign
    if _state.deliver_at_once:
        raise Stopped(sign)


class _SignalWatch:
    """Thread that learns of signals even while the main thread is in native code.

    The interpreter's C handler writes each signal's number to a pipe at once
    (``signal.set_wakeup_fd``).
    """

    def __init__(self, term_seconds: float) -> None:
        self._term_seconds = term_seconds
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._former = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="stopping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(self._former)
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._writer)
        os.close(self._reader)

    def _watch(self) -> None:
        first, began = 0, 0.0
        while True:
            seconds = self._term_seconds if first == signal.SIGTERM else FORCE_AFTER_SECONDS
            left = None if not first else max(0.0, began + seconds - time.monotonic())
            if not select.select([self._reader], [], [], left)[0]:
                force_exit(first)
            for sign in os.read(self._reader, 64):
                if not sign:
                    return
                if sign not in SIGNALS:
                    continue
                if not first:
                    first, began = sign, time.monotonic()
                elif time.monotonic() - began > SAME_SIGNAL_SECONDS:
                    force_exit(first)
