"""Replace this process by the server of one Bento: ``python -m`` this, FOLDER HOST PORT [PARENT].

What the server says goes to standard error. With PARENT, the id of the process that started it,
it ends when that process does, however that dies.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.core.process.process_tree import end_with


def command(folder: Path, host: str, port: int, parent: int | None = None) -> list[str]:
    """The command line that starts this module."""
    ends_with = [] if parent is None else [str(parent)]
    return [
        sys.executable,
        "-m",
        "serving.gateway.exec_server",
        str(folder),
        host,
        str(port),
        *ends_with,
    ]


def serve(folder: Path, host: str, port: int) -> None:
    """Turn this process into BentoML's server, in its production mode; does not return."""
    server = [sys.executable, "-m", "bentoml", "serve", str(folder.resolve())]
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.chdir(folder / "src")  # so that no checkout's modules come before the Bento's own
    os.execv(sys.executable, [*server, "--host", host, "--port", str(port)])  # noqa: S606


if __name__ == "__main__":
    if len(sys.argv) > 4:
        end_with(int(sys.argv[4]))
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
