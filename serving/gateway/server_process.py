"""Process of a Bento's server: start, readiness, log, end."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.errors import MillError
from components.core.process import shutdown
from components.core.process.child_programs import start_program
from components.core.process.ports import LOOPBACK, free_port
from components.core.process.process_tree import find_marked_processes, kill_processes
from serving.bento.bento_sources import ROOT
from serving.gateway.exec_server import server_command

SERVER_MARK = "MODELMILL_SERVER"
"""Variable that all processes of one server have in their environment."""
STOP_SECONDS = 10.0
_HURRY_SECONDS = 1.0
"""The same where the user has stopped the command that needs the server."""
_TAIL_LINES = 4
GAVE_UP = b"Application startup failed"
"""In the log of a worker that cannot start; its supervisor starts it again and again."""
_FRAME = re.compile(r"\s|Traceback|The above exception|During handling|.*\[INFO\] \[cli\]")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:+]+ ")
_REASON = re.compile(r"^components\.core\.errors\.\w+: (.+)", re.MULTILINE)
"""The last line of a traceback that one of our own errors ends."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    address: str
    """``http://127.0.0.1:…/v1``"""
    seconds: float
    """From its start until it was ready."""


@dataclass(frozen=True)
class ServerProcess:
    """A started server, ready or not."""

    process: subprocess.Popen[bytes]
    """Of its supervisor."""
    port: int
    log: Path
    mark: str
    """In the environment of every process of it."""

    @property
    def ready_address(self) -> str:
        """Address that answers with success when the model is loaded."""
        return f"http://{LOOPBACK}:{self.port}/readyz"


@contextmanager
def run_server(
    folder: Path, log: Path, environment: dict[str, str], seconds: float
) -> Iterator[RunningServer]:
    """Serve a Bento on a free loopback port; everything it started is gone afterwards.

    Args:
        folder: folder of the Bento.
        log: file for its output.
        environment: variables beside those of this process that a child gets.
        seconds: until it must be ready.

    Raises:
        MillError: it ended or was not ready in time; the message ends with its last lines.
    """
    started = time.monotonic()
    server = spawn_server(folder, log, environment)
    try:
        _wait_ready(server, seconds)
        yield RunningServer(f"http://{LOOPBACK}:{server.port}/v1", time.monotonic() - started)
    finally:
        stop_server(server)


def spawn_server(folder: Path, log: Path, environment: dict[str, str]) -> ServerProcess:
    """Start a Bento's server, which ends with this process.

    Args:
        folder: folder of the Bento.
        log: file for its output.
        environment: variables beside those of this process that a child gets.
    """
    port, mark = free_port(), secrets.token_hex(8)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = start_program(
            server_command(folder, LOOPBACK, port, os.getpid()),  # which ties itself
            environment={**environment, SERVER_MARK: mark},
            output=output,
            folder=ROOT,
            ends_with_parent=False,
        )
    return ServerProcess(process, port, log, mark)


def log_tail(log: Path, begins: int = 0) -> str:
    """The last telling lines of a log, as one: no stack frames, nothing twice.

    Args:
        log: the file.
        begins: byte from which on it is looked at.
    """
    return summarize_output(log.read_bytes()[begins:])


def summarize_output(output: bytes) -> str:
    """The same of a server's output; one of our own errors alone, where there is one."""
    text = output.decode("utf-8", "replace")
    if reasons := _REASON.findall(text):
        return str(reasons[-1])
    lines = [line for line in text.splitlines() if line and not _FRAME.match(line)]
    telling = list(dict.fromkeys(_STAMP.sub("", line).strip() for line in lines))
    return " | ".join(telling[-_TAIL_LINES:]) or "nothing"


def check_alive(server: ServerProcess) -> None:
    """Check that a server has not ended or given up.

    Raises:
        MillError: it has; the message ends with its last lines.
    """
    status, output = server.process.poll(), log_tail(server.log)
    if status is not None:
        raise MillError(f"the server ended ({status}); it said: {output}")
    if GAVE_UP in server.log.read_bytes():
        raise MillError(f"the server could not start; it said: {output}")


def not_ready_error(server: ServerProcess, seconds: float) -> MillError:
    """The error of a server that was not ready in time."""
    return MillError(
        f"the server was not ready within {seconds:g} s; it said: {log_tail(server.log)}"
    )


def _wait_ready(server: ServerProcess, seconds: float) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            check_alive(server)
            try:
                if client.get(server.ready_address).is_success:
                    return
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
                continue
            time.sleep(_POLL_SECONDS)
    raise not_ready_error(server, seconds)


def cut_answers(server: ServerProcess) -> None:
    """Have a server end its answers at once, by an error, once it is told to end."""
    for worker in find_marked_processes(SERVER_MARK, {server.mark}):
        if worker.pid != server.process.pid:
            with suppress(psutil.Error):
                worker.send_signal(signal.SIGINT)


def stop_server(server: ServerProcess, seconds: float = STOP_SECONDS) -> None:
    """End a server: SIGTERM for the supervisor first, then kill the workers that are left.

    A supervisor that was killed leaves workers behind; they are found by their mark.

    Args:
        server: the server.
        seconds: for it to end by itself, its answers included.
    """
    started = find_marked_processes(SERVER_MARK, {server.mark})
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        hurries = shutdown.requested_stop() is not None
        _, started = psutil.wait_procs(started, timeout=_HURRY_SECONDS if hurries else seconds)
    kill_processes(started)
    server.process.wait()
