"""Processes: which one it is, whether it lives, and its end with all that it started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterable

import psutil

_PR_SET_PDEATHSIG = 1
_KILL_SECONDS = 5.0
_CLOCK_SECONDS = 2.0
"""A process's start is told by the wall clock, which may be set; no id comes round this soon."""


def create_time(pid: int) -> float:
    """When a process began: with its id, what tells it from a later one; 0.0 if it is gone."""
    try:
        began: float = psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0
    return began


def alive(pid: int, began: float) -> bool:
    """Whether that very process runs (one that ended and was not waited for does not)."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - began) < _CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def alive_since(pid: int, before: float) -> bool:
    """Whether process ``pid`` lives and was there at ``before``; one that may not be seen counts.

    For records that know when they were written, not when their process began.
    """
    try:
        process = psutil.Process(pid)
        born = process.create_time()
        return process.status() != psutil.STATUS_ZOMBIE and born <= before + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def marked(name: str, values: Collection[str]) -> list[psutil.Process]:
    """Processes of this user, other than this one, that carry ``name`` in their environment,
    as one of ``values``.

    What a process starts inherits the mark, so it finds what outlived its parents.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) in values:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or gone meanwhile
    return found


def end(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Ask each to end; after ``seconds`` kill what is left. Processes that are gone are fine."""
    asked = list(processes)
    for process in asked:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(asked, timeout=seconds)
    kill(left)


def kill(processes: Iterable[psutil.Process]) -> None:
    """End processes that would not; ones that are gone are fine."""
    left = list(processes)
    for process in left:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_KILL_SECONDS)


def kill_tree(pid: int) -> None:
    """End a process with all that it started; one that is gone is fine."""
    try:
        process = psutil.Process(pid)
        kill([*process.children(recursive=True), process])
    except psutil.NoSuchProcess:
        return


def _send(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)  # psutil looks whether the id still means the same process
    except psutil.Error:
        return


def end_with(parent: int) -> None:
    """Ask the system for SIGTERM when ``parent`` dies; it outlives ``exec``.

    The system means the thread that started this process: start it from one that stays.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
