"""Stopping on Ctrl+C (SIGINT) and SIGTERM: at once, in order, and in the end by force.

The first signal raises ``Stopped`` in the main thread, where stages work; everything on the way
out tidies up. Code that must not be cut in the middle (Prefect's engine between two steps) runs
``deferred``: the signal is noted and raised where our own code goes on. Native code that does not
come back to the interpreter, and whatever swallows an exception, is ended from a thread of its own
after ``HARD_SECONDS``; a second signal does the same at once.
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
HARD_SECONDS = 3.5
"""From the first signal to the end by force: of the 5 s promised to a user, 1.5 s remain for it."""
BY_FORCE = "ended by force"
RESUMES = "stopped; the same command goes on from here"
SAME_SECONDS = 0.2
"""A wrapper may pass on the signal that its process group got too; so soon it counts as one."""
_WORDS_SECONDS = 1.0
"""What the last words of an end by force may take together."""
_LINE_SECONDS = 0.2
"""What is left for the command's own line in any case."""
_TRACKER = "multiprocessing.resource_tracker"
"""Ends with the process that it tidies up after."""
_SHOW_CURSOR = "\x1b[?25h"
log = get_logger(__name__)


class Stopped(KeyboardInterrupt):
    """The user, or whoever started this process, wants it to end.

    A ``KeyboardInterrupt``: asyncio and other libraries pass those on from wherever they are.
    """

    def __init__(self, sign: int = signal.SIGINT) -> None:
        self.sign = signal.Signals(sign)
        super().__init__(f"stopped by {self.sign.name}")

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for Ctrl+C, 143 for SIGTERM."""
        return 128 + self.sign


@dataclass
class _State:
    """Signals belong to the process, so this is the one state that a module keeps."""

    sign: int = 0
    """The first signal; 0 while there was none."""
    prompt: bool = True
    """Whether a signal is raised where the main thread is; else it waits for ``check``."""
    depth: int = 0
    watched: bool = False
    """Whether a thread ends this process by force where it must be."""
    line: str = "stopped"
    """What the user is told."""
    words: list[Callable[[], None]] = field(default_factory=list)
    """What is still done before an end by force."""
    ending: threading.Lock = field(default_factory=threading.Lock)


_state = _State()


def asked() -> Stopped | None:
    """The stop that was asked for; None where there was none."""
    return Stopped(_state.sign) if _state.sign else None


def check() -> None:
    """Raise the stop that was asked for, where there is one.

    Raises:
        Stopped: a signal came.
    """
    if _state.sign:
        raise Stopped(_state.sign)


@contextmanager
def listening(*, hard: bool = False) -> Iterator[None]:
    """Take SIGINT and SIGTERM meanwhile; in another thread than the main one this does nothing.

    Args:
        hard: end the process by force where it does not end by itself, and at a second signal:
            for a program, not for a library's caller. Once stopped it is watched until the
            interpreter ends, whose own end goes unwatched: see ``finish``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {sign: signal.signal(sign, _handle) for sign in SIGNALS}
    watch = _Watch() if hard else None
    _state.watched = _state.watched or hard
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if watch is None or not _state.sign:
            _unlisten(former, watch)
        if not _state.depth and watch is None:
            _state.sign = 0


def _unlisten(former: Mapping[signal.Signals, Any], watch: _Watch | None) -> None:
    if watch is not None:
        watch.close()
        _state.watched = False
    for sign, handler in former.items():
        signal.signal(sign, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Note signals, and raise them only behind this block.

    Raises:
        Stopped: one came.
    """
    former = _state.prompt
    try:
        _state.prompt = False
        yield
    finally:
        _state.prompt = former
    if former:
        check()


@contextmanager
def prompt() -> Iterator[None]:
    """Raise signals at once within this part of a ``deferred`` block.

    Raises:
        Stopped: one came, maybe before.
    """
    former = _state.prompt
    try:
        _state.prompt = True
        check()  # behind it: one that came just before is noted, one that comes now is raised
        yield
    finally:
        _state.prompt = former


def line() -> str:
    """What a user is told of the stop."""
    return _state.line


@contextmanager
def resumable() -> Iterator[None]:
    """What is stopped meanwhile goes on where it was, at the same command."""
    former, _state.line = _state.line, RESUMES
    yield
    _state.line = former  # not where it was stopped: the command has yet to say so


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """Let ``say`` be called (in a thread) before an end by force that comes meanwhile."""
    _state.words.append(say)
    try:
        yield
    finally:
        _state.words.remove(say)


@contextmanager
def shielded() -> Iterator[None]:
    """Block SIGINT for what is started meanwhile: threads, and processes for good.

    Ctrl+C goes to every process of the terminal's group. Those that we end ourselves must not see
    it, nor while they still import, before they could ignore it.
    """
    # Started by the first process of ours that multiprocessing spawns, it would unblock the signal.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def load_uninterrupted(load: Callable[[], None]) -> None:
    """Run ``load``, which loads native code, in a thread of its own, and wait for it.

    Signals are raised in the main thread. One that meets torch while it is being loaded ends the
    process by abort; here it cuts the waiting, and the thread ends with the process.

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


def end_now(sign: int) -> None:
    """End this process by force, with all that it started. Does not return."""
    if not _state.ending.acquire(blocking=False):
        return
    _state.sign = _state.sign or sign
    deadline = time.monotonic() + _WORDS_SECONDS
    # Side by side: a server that hangs must not keep the record from being written. The command's
    # own, which began first, are the last to be said.
    _speak_all(_state.words[1:], deadline)
    log.warning(BY_FORCE)
    _speak_all(_state.words[:1], max(deadline, time.monotonic() + _LINE_SECONDS))
    kill_descendants()
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)  # a live line hides it
        sys.stderr.flush()
    os._exit(128 + _state.sign)


def finish(exit_code: int) -> NoReturn:
    """End a stopped program that has tidied up, without the interpreter's own exit.

    What MLflow, Prefect and torch do there takes seconds, and nobody needs it any more.
    """
    _run_finalizers()  # else its tracker would speak of semaphores that leaked
    kill_descendants(spare=_TRACKER)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def kill_descendants(spare: str = "") -> None:
    """Kill every process below this one, but for those with ``spare`` in their command line."""
    for process in psutil.Process().children(recursive=True):
        try:
            if not spare or spare not in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue  # it has ended meanwhile


def _speak_all(words: Sequence[Callable[[], None]], deadline: float) -> None:
    speakers = [threading.Thread(target=_speak, args=(say,), daemon=True) for say in words]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(max(0.0, deadline - time.monotonic()))


def _speak(say: Callable[[], None]) -> None:
    try:
        say()
    except Exception as error:
        log.warning("at the end by force: %s", error)


def _handle(sign: int, frame: FrameType | None) -> None:
    if _state.sign and _state.watched:
        return  # again: the watch ends this process
    _state.sign = _state.sign or sign
    if _state.prompt:
        raise Stopped(sign)


class _Watch:
    """A thread that hears of signals even while the main one is in native code.

    The interpreter's own C handler writes each signal's number to a pipe, at once.
    """

    def __init__(self) -> None:
        self._out, into = os.pipe()
        os.set_blocking(into, False)
        self._into = into
        self._former = signal.set_wakeup_fd(into, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="stopping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more."""
        signal.set_wakeup_fd(self._former)
        os.write(self._into, b"\0")
        self._thread.join()
        os.close(self._into)
        os.close(self._out)

    def _watch(self) -> None:
        first, began = 0, 0.0
        while True:
            left = None if not first else max(0.0, began + HARD_SECONDS - time.monotonic())
            if not select.select([self._out], [], [], left)[0]:
                end_now(first)
            for sign in os.read(self._out, 64):
                if not sign:
                    return
                if sign not in SIGNALS:
                    continue
                if not first:
                    first, began = sign, time.monotonic()
                elif time.monotonic() - began > SAME_SECONDS:
                    end_now(first)
