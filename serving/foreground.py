"""Keeps a Bento's server in the foreground: ``python -m serving.foreground FOLDER HOST PORT
[--json]``.

The server is a process of its own, in a session of its own: Ctrl+C reaches this one alone, which
ends the server with all its workers and says so in its exit code (130, and 143 for SIGTERM).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from components.core import stopping
from components.core.failure import tell_failure
from components.core.processes import kill, marked
from components.core.settings import child_environment
from serving.launch import command

_JSON = "--json"
_MARK = "MODELMILL_SERVER"
_STOP_SECONDS = 2.0
"""Longer than a request in hand of a small model; then it is killed."""


def become(folder: Path, host: str, port: int, *, as_json: bool = False) -> None:
    """Turn this process, which holds all that found the model, into a small one that waits."""
    words = [str(folder.resolve()), host, str(port), *([_JSON] if as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", "serving.foreground", *words])  # noqa: S606


def keep(folder: Path, host: str, port: int) -> int:
    """Run the server until it ends, or a signal ends it; its exit code.

    Raises:
        Stopped: a signal came; nothing is left of the server.
    """
    mark = secrets.token_hex(8)
    server = subprocess.Popen(
        command(folder, host, port, os.getpid()),
        env=child_environment({_MARK: mark}),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return server.wait()
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
        kill(marked(_MARK, {mark}))
        server.wait()


def main() -> None:
    """The program."""
    as_json = _JSON in sys.argv[4:]
    with stopping.listening(hard=True):
        try:
            code = keep(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
        except stopping.Stopped as stop:
            tell_failure("stopped", "Stopped", stop.exit_code, as_json=as_json)
            stopping.finish(stop.exit_code)
    code = code if code >= 0 else 128 - code
    if code:
        told = f"serve: the server ended by itself (exit {code}); what it said is above"
        tell_failure(told, "ServerEnded", code, as_json=as_json)
    sys.exit(code)


if __name__ == "__main__":
    main()
