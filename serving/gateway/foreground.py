"""Foreground run of a Bento's server: ``python -m`` this, FOLDER HOST PORT [--json].

The server is a process of its own, in a session of its own: Ctrl+C reaches this one alone, which
ends the server with all its workers and says so in its exit code (130, and 143 for SIGTERM).
SIGTERM lets answers in progress go on for a while (``drain_seconds``), Ctrl+C cuts them at once; a
second signal ends everything by force.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from components.core.endpoint_settings import drain_seconds
from components.core.environment import child_environment
from components.core.errors import DataError
from components.core.process import shutdown
from components.core.process.failure_line import report_failure
from components.core.process.process_tree import find_marked_processes, kill_processes
from serving.gateway.exec_server import server_command
from serving.gateway.server_process import GAVE_UP, summarize_output

_JSON = "--json"
_MARK = "MODELMILL_SERVER"
_STOP_SECONDS = 2.0
"""For a server to end that is in a hurry; then it is killed."""
_END_SECONDS, _FORCE_SECONDS = 3.0, 5.0
"""Beyond the time for its answers, until it is killed, and this process with it."""
_HOLD_SECONDS = 120.0
"""After so long the output of a server that is not ready is no longer held back."""
_READY, _NEWS = b"Completed async startup hook", b"[INFO]"
"""BentoML's words once the model is loaded, and the mark of a line that is no error."""
_OUTPUT_SECONDS = 1.0
_RECENT_LINES = 400
"""More than a worker that cannot start says."""


def exec_foreground(folder: Path, host: str, port: int, *, as_json: bool = False) -> None:
    """Replace this process, which holds all that found the model, by a small one that waits.

    Args:
        folder: folder of the Bento.
        host: address to listen on.
        port: port to listen on.
        as_json: report a failure as one JSON object.
    """
    words = [str(folder.resolve()), host, str(port), *([_JSON] if as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", "serving.gateway.foreground", *words])  # noqa: S606


class OutputRelay(threading.Thread):
    """Pass on a server's output, and end a server that cannot start.

    Its supervisor would start the broken worker for ever. Until the worker is ready, everything but
    INFO lines is held back: of a start that failed one line is shown in place of its tracebacks.
    """

    def __init__(self, server: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.reason: str | None = None
        """Reason why the server cannot start."""
        self._server, self._output = server, output
        self._held: list[bytes] | None = []
        self._recent: deque[bytes] = deque(maxlen=_RECENT_LINES)
        self._since = time.monotonic()

    def run(self) -> None:
        for line in self._output:
            if self.reason is not None:
                continue  # the pipe is emptied, so that the server can end
            self._recent.append(line)
            if GAVE_UP in line:
                self.reason = summarize_output(b"".join(self._recent))
                self._server.terminate()
                continue
            self._pass_on(line)

    def _pass_on(self, line: bytes) -> None:
        if self._held is not None and _NEWS not in line:
            self._held.append(line)
        else:
            _write(line)
        if _READY in line or time.monotonic() - self._since > _HOLD_SECONDS:
            _write(b"".join(self._held or ()))
            self._held = None

    @property
    def is_ready(self) -> bool:
        """The server has said that it answers."""
        return self._held is None

    def finish(self) -> None:
        """Wait for the last output of a server that ended, and pass on what is held."""
        self.join(_OUTPUT_SECONDS)
        if self.reason is None:
            _write(b"".join(self._held or ()))


def _write(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.flush()


def run_in_foreground(folder: Path, host: str, port: int) -> int:
    """Run the server until it ends, or a signal ends it; returns its exit code.

    Args:
        folder: folder of the Bento.
        host: address to listen on.
        port: port to listen on.

    Raises:
        DataError: it cannot start; with its last output.
        Stopped: a signal came; nothing is left of the server.
    """
    mark = secrets.token_hex(8)
    server = subprocess.Popen(
        server_command(folder, host, port, os.getpid()),
        env=child_environment({_MARK: mark}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stderr is not None
    relay = OutputRelay(server, server.stderr)
    relay.start()
    try:
        code = server.wait()
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(_await_answers(server, mark, relay))
        kill_processes(find_marked_processes(_MARK, {mark}))
        server.wait()
        relay.finish()
    if relay.reason is not None:
        raise DataError(f"the server could not start; it said: {relay.reason}")
    return code


def _await_answers(server: subprocess.Popen[bytes], mark: str, relay: OutputRelay) -> float:
    """Seconds that a server which is told to end may take; one in a hurry cuts its answers.

    Args:
        server: the supervisor.
        mark: of all its processes.
        relay: of its output.
    """
    stop = shutdown.requested_stop()
    if stop is not None and stop.sign == signal.SIGTERM:
        return drain_seconds() + _END_SECONDS
    if relay.is_ready:  # before, a worker would answer with a traceback
        for worker in find_marked_processes(_MARK, {mark}):
            if worker.pid != server.pid:
                with suppress(psutil.Error):
                    worker.send_signal(signal.SIGINT)
    return _STOP_SECONDS


def main() -> None:
    """Run the module as a program."""
    as_json = _JSON in sys.argv[4:]
    with shutdown.handle_signals(force=True, term_seconds=drain_seconds() + _FORCE_SECONDS):
        try:
            code = run_in_foreground(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
        except shutdown.Stopped as stop:
            report_failure("stopped", "Stopped", stop.exit_code, as_json=as_json)
            shutdown.exit_after_stop(stop.exit_code)
        except DataError as error:
            sys.exit(report_failure(str(error), "DataError", error.exit_code, as_json=as_json))
    code = code if code >= 0 else 128 - code
    if code:
        message = f"serve: the server ended by itself (exit {code}); what it said is above"
        report_failure(message, "ServerEnded", code, as_json=as_json)
    sys.exit(code)


if __name__ == "__main__":
    main()
