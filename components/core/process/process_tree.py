"""Identity, liveness and termination of processes and of all that they started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterable

import psutil

_PR_SET_PDEATHSIG = 1
_KILL_SECONDS = 5.0
_CLOCK_TOLERANCE_SECONDS = 2.0
"""Start times come from the wall clock, which may be set; no process id is reused this soon."""


def process_start_time(pid: int) -> float:
    """Start time of a process, which with its id identifies it; 0.0 if it is gone."""
    try:
        began: float = psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0
    return began


def is_running(pid: int, began: float) -> bool:
    """True if the process of this id and start time runs; a zombie does not."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - began) < _CLOCK_TOLERANCE_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_running_since(pid: int, before: float) -> bool:
    """True if process ``pid`` runs and had started by ``before``, or may not be inspected.

    For records that hold the time they were written, not when their process started.
    """
    try:
        process = psutil.Process(pid)
        born = process.create_time()
        return (
            process.status() != psutil.STATUS_ZOMBIE and born <= before + _CLOCK_TOLERANCE_SECONDS
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def find_marked_processes(name: str, values: Collection[str]) -> list[psutil.Process]:
    """Other processes of this user with ``name`` set to one of ``values`` in their environment.

    Children inherit the variable, so this finds those that outlived their parents too.
    """
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) in values:
                processes.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or gone meanwhile
    return processes


def terminate_processes(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Send SIGTERM to each process, and after ``seconds`` SIGKILL to those that still run."""
    targets = list(processes)
    for process in targets:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(targets, timeout=seconds)
    kill_processes(left)


def kill_processes(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to each process and wait for its end; those that are gone are skipped."""
    targets = list(processes)
    for process in targets:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(targets, timeout=_KILL_SECONDS)


def kill_process_tree(pid: int) -> None:
    """Kill a process and all its descendants; nothing if it is gone."""
    try:
        process = psutil.Process(pid)
        kill_processes([*process.children(recursive=True), process])
    except psutil.NoSuchProcess:
        return


def _send(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)  # psutil looks whether the id still means the same process
    except psutil.Error:
        return


def terminate_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when ``parent`` dies; the setting survives ``exec``.

    By parent the kernel means the thread that started this process: start it from one that
    lives on.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
