"""Runs a Bento's server in a process of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.errors import MillError
from components.core.process import shutdown
from components.core.process.ports import LOOPBACK, free_port
from components.core.process.process_tree import kill, marked
from components.core.settings import child_environment
from serving.bento.bento_sources import ROOT
from serving.gateway.exec_server import command

_MARK = "MODELMILL_SERVER"
_STOP_SECONDS = 10.0
_HURRY_SECONDS = 1.0
"""The same where the user has stopped the command that needs it."""
_TAIL_LINES = 4
GAVE_UP = b"Application startup failed"
"""Said by a worker that cannot start; its supervisor starts it again and again."""
_FRAME = re.compile(r"\s|Traceback|The above exception|During handling|.*\[INFO\] \[cli\]")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:+]+ ")
_REASON = re.compile(r"^components\.core\.errors\.\w+: (.+)", re.MULTILINE)
"""The last line of a traceback that one of our own errors ends."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    address: str
    """``http://127.0.0.1:…/v1``"""
    seconds: float
    """From its start until it was ready."""


@dataclass(frozen=True)
class Server:
    """A started server, ready or not."""

    process: subprocess.Popen[bytes]
    """Of its supervisor."""
    port: int
    log: Path
    mark: str
    """In the environment of every process of it."""

    @property
    def ready_address(self) -> str:
        """Answers with success when the model is loaded."""
        return f"http://{LOOPBACK}:{self.port}/readyz"


@contextmanager
def running(
    folder: Path, log: Path, environment: dict[str, str], seconds: float
) -> Iterator[Running]:
    """Serve a Bento on a free loopback port; everything it started is gone afterwards.

    Raises:
        MillError: it ended or was not ready in time; the message ends with its last lines.
    """
    started = time.monotonic()
    server = spawn(folder, log, environment)
    try:
        _wait(server, seconds)
        yield Running(f"http://{LOOPBACK}:{server.port}/v1", time.monotonic() - started)
    finally:
        stop(server)


def spawn(folder: Path, log: Path, environment: dict[str, str]) -> Server:
    """Start a Bento's server, which ends with this process; what it says goes to ``log``."""
    port, mark = free_port(), secrets.token_hex(8)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(folder, LOOPBACK, port, os.getpid()),
            cwd=ROOT,
            env=child_environment({**environment, _MARK: mark}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(process, port, log, mark)


def tail(log: Path, begins: int = 0) -> str:
    """The last lines of a log that tell something, as one: no stack frames, nothing twice.

    ``begins``: the byte from which on it is looked at.
    """
    return last_words(log.read_bytes()[begins:])


def last_words(said: bytes) -> str:
    """The same of what a server said; one of our own errors alone, where there is one."""
    text = said.decode("utf-8", "replace")
    if reasons := _REASON.findall(text):
        return str(reasons[-1])
    lines = [line for line in text.splitlines() if line and not _FRAME.match(line)]
    told = list(dict.fromkeys(_STAMP.sub("", line).strip() for line in lines))
    return " | ".join(told[-_TAIL_LINES:]) or "nothing"


def check(server: Server) -> None:
    """See that a server has not ended or given up.

    Raises:
        MillError: it has; the message ends with its last lines.
    """
    status, said = server.process.poll(), tail(server.log)
    if status is not None:
        raise MillError(f"the server ended ({status}); it said: {said}")
    if GAVE_UP in server.log.read_bytes():
        raise MillError(f"the server could not start; it said: {said}")


def late(server: Server, seconds: float) -> MillError:
    """What to say of a server that was not ready in time."""
    return MillError(f"the server was not ready within {seconds:g} s; it said: {tail(server.log)}")


def _wait(server: Server, seconds: float) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            check(server)
            try:
                if client.get(server.ready_address).is_success:
                    return
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
                continue
            time.sleep(_POLL_SECONDS)
    raise late(server, seconds)


def stop(server: Server) -> None:
    """Politely, then not: the supervisor first, then whatever of its workers is left.

    A supervisor that was killed leaves workers behind; they are found by their mark.
    """
    started = marked(_MARK, {server.mark})
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        seconds = _STOP_SECONDS if shutdown.asked() is None else _HURRY_SECONDS
        _, started = psutil.wait_procs(started, timeout=seconds)
    kill(started)
    server.process.wait()
