"""Runs a Bento's server in a process of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.errors import MillError
from components.core.ports import LOOPBACK, free_port
from components.core.processes import kill, session
from components.core.settings import child_environment
from serving.launch import command
from serving.sources import ROOT

READY_PATH = "/readyz"
_STOP_SECONDS = 10.0
_TAIL_LINES = 4
GAVE_UP = b"Application startup failed"
"""Said by a worker that cannot start; its supervisor starts it again and again."""
_FRAME = re.compile(r"\s|Traceback|The above exception|During handling|.*\[INFO\] \[cli\]")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:+]+ ")
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    address: str
    """``http://127.0.0.1:…/v1``"""
    seconds: float
    """From its start until it was ready."""


@contextmanager
def running(
    folder: Path, log: Path, environment: dict[str, str], seconds: float
) -> Iterator[Running]:
    """Serve a Bento on a free loopback port; everything it started is gone afterwards.

    Raises:
        MillError: it ended or was not ready in time; the message ends with its last lines.
    """
    port = free_port()
    started = time.monotonic()
    process = spawn(folder, port, log, environment)
    try:
        _wait(process, port, log, seconds)
        yield Running(f"http://{LOOPBACK}:{port}/v1", time.monotonic() - started)
    finally:
        stop(process)


def spawn(
    folder: Path, port: int, log: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a Bento's server, which ends with this process; what it says goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            command(folder, LOOPBACK, port, os.getpid()),
            cwd=ROOT,
            env=child_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def tail(log: Path) -> str:
    """The last lines of a log that tell something, as one: no stack frames, nothing twice."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line and not _FRAME.match(line)]
    said = list(dict.fromkeys(_STAMP.sub("", line).strip() for line in lines))
    return " | ".join(said[-_TAIL_LINES:]) or "nothing"


def check(process: subprocess.Popen[bytes], log: Path) -> None:
    """See that a server has not ended or given up.

    Raises:
        MillError: it has; the message ends with its last lines.
    """
    if process.poll() is not None:
        raise MillError(f"the server ended ({process.returncode}); it said: {tail(log)}")
    if GAVE_UP in log.read_bytes():
        raise MillError(f"the server could not start; it said: {tail(log)}")


def late(log: Path, seconds: float) -> MillError:
    """What to say of a server that was not ready in time."""
    return MillError(f"the server was not ready within {seconds:g} s; it said: {tail(log)}")


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            check(process, log)
            try:
                if client.get(f"http://{LOOPBACK}:{port}{READY_PATH}").is_success:
                    return
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
                continue
            time.sleep(_POLL_SECONDS)
    raise late(log, seconds)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Politely, then not: the supervisor first, then whatever of its workers is left.

    A supervisor that was killed leaves workers, which are found by their session.
    """
    started = session(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    else:
        kill(started)
    _, alive = psutil.wait_procs(started, timeout=_STOP_SECONDS)
    kill(alive)
    process.wait()
