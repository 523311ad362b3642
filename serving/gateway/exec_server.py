"""Exec of one Bento's server: ``python -m`` this, FOLDER HOST PORT [PARENT].

The server's output goes to standard error. With PARENT, the id of the process that started it,
the server gets SIGTERM when that process dies.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.core.endpoint_settings import bentoml_home
from components.core.environment import child_environment
from components.core.process.process_tree import terminate_with_parent
from serving.gateway.server_home import make_server_home


def server_command(folder: Path, host: str, port: int, parent: int | None = None) -> list[str]:
    """The command line that starts this module.

    Args:
        folder: folder of the Bento.
        host: address to listen on.
        port: port to listen on.
        parent: process id; the server ends with that process.
    """
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


def exec_bento_server(folder: Path, host: str, port: int) -> None:
    """Replace this process by BentoML's server in its production mode; does not return.

    Args:
        folder: folder of the Bento.
        host: address to listen on.
        port: port to listen on.
    """
    server = [sys.executable, "-m", "bentoml", "serve", str(folder.resolve())]
    home = make_server_home(bentoml_home(), os.getpid())
    environment = child_environment({"BENTOML_HOME": str(home)})
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.chdir(folder / "src")  # so that no checkout's modules come before the Bento's own
    server += ["--host", host, "--port", str(port)]
    os.execve(sys.executable, server, environment)  # noqa: S606


if __name__ == "__main__":
    if len(sys.argv) > 4:
        terminate_with_parent(int(sys.argv[4]))
    exec_bento_server(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
