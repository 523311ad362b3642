"""Runs a Bento's server in a process of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.errors import MillError
from components.core.settings import child_environment
from serving.launch import command
from serving.sources import ROOT

LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 10.0
_TAIL_LINES = 4
_GAVE_UP = b"Application startup failed"
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
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(folder, LOOPBACK, port, os.getpid()),
            cwd=ROOT,
            env=child_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, log, seconds)
        yield Running(f"http://{LOOPBACK}:{port}/v1", time.monotonic() - started)
    finally:
        _stop(process)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path) -> str:
    """The last lines of a log that tell something, as one: no stack frames, nothing twice."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line and not _FRAME.match(line)]
    said = list(dict.fromkeys(_STAMP.sub("", line).strip() for line in lines))
    return " | ".join(said[-_TAIL_LINES:]) or "nothing"


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise MillError(f"the server ended ({process.returncode}); it said: {tail(log)}")
            if _GAVE_UP in log.read_bytes():  # its supervisor would start it again and again
                raise MillError(f"the server could not start; it said: {tail(log)}")
            try:
                if client.get(f"http://{LOOPBACK}:{port}/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
                continue
            time.sleep(_POLL_SECONDS)
    raise MillError(f"the server was not ready within {seconds:g} s; it said: {tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Politely, then not: the supervisor first, then whatever of its workers is left."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for survivor in alive:
        survivor.kill()
    process.wait()
