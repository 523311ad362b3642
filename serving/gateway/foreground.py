"""Keeps a Bento's server in the foreground: ``python -m serving.gateway.foreground FOLDER HOST PORT
[--json]``.

The server is a process of its own, in a session of its own: Ctrl+C reaches this one alone, which
ends the server with all its workers and says so in its exit code (130, and 143 for SIGTERM).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from components.core.errors import DataError
from components.core.process import shutdown
from components.core.process.failure_line import tell_failure
from components.core.process.process_tree import kill, marked
from components.core.settings import child_environment
from serving.gateway.exec_server import command
from serving.gateway.server_process import GAVE_UP, last_words

_JSON = "--json"
_MARK = "MODELMILL_SERVER"
_STOP_SECONDS = 2.0
"""Longer than a request in hand of a small model; then it is killed."""
_HOLD_SECONDS = 120.0
"""After so long a server that has not said that it is ready may say everything."""
_READY, _NEWS = b" initialized", b"[INFO]"
_OUTPUT_SECONDS = 1.0
_RECENT_LINES = 400
"""More than a worker that cannot start says."""


def become(folder: Path, host: str, port: int, *, as_json: bool = False) -> None:
    """Turn this process, which holds all that found the model, into a small one that waits."""
    words = [str(folder.resolve()), host, str(port), *([_JSON] if as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", "serving.gateway.foreground", *words])  # noqa: S606


class Relay(threading.Thread):
    """Passes on what a server says, and ends a server that cannot start.

    Its supervisor would start the broken worker for ever. Until the worker is ready, all but its
    news is held back: of a start that failed one line is told in place of its tracebacks.
    """

    def __init__(self, server: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.reason: str | None = None
        """Why the server cannot start."""
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
                self.reason = last_words(b"".join(self._recent))
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

    def finish(self) -> None:
        """Wait for the last words of a server that ended, and pass on what is held."""
        self.join(_OUTPUT_SECONDS)
        if self.reason is None:
            _write(b"".join(self._held or ()))


def _write(said: bytes) -> None:
    sys.stderr.buffer.write(said)
    sys.stderr.flush()


def keep(folder: Path, host: str, port: int) -> int:
    """Run the server until it ends, or a signal ends it; its exit code.

    Raises:
        DataError: it cannot start; with its last words.
        Stopped: a signal came; nothing is left of the server.
    """
    mark = secrets.token_hex(8)
    server = subprocess.Popen(
        command(folder, host, port, os.getpid()),
        env=child_environment({_MARK: mark}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stderr is not None
    relay = Relay(server, server.stderr)
    relay.start()
    try:
        code = server.wait()
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
        kill(marked(_MARK, {mark}))
        server.wait()
        relay.finish()
    if relay.reason is not None:
        raise DataError(f"the server could not start; it said: {relay.reason}")
    return code


def main() -> None:
    """The program."""
    as_json = _JSON in sys.argv[4:]
    with shutdown.listening(hard=True):
        try:
            code = keep(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
        except shutdown.Stopped as stop:
            tell_failure("stopped", "Stopped", stop.exit_code, as_json=as_json)
            shutdown.finish(stop.exit_code)
        except DataError as error:
            sys.exit(tell_failure(str(error), "DataError", error.exit_code, as_json=as_json))
    code = code if code >= 0 else 128 - code
    if code:
        told = f"serve: the server ended by itself (exit {code}); what it said is above"
        tell_failure(told, "ServerEnded", code, as_json=as_json)
    sys.exit(code)


if __name__ == "__main__":
    main()
