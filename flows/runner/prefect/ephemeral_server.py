"""Ephemeral Prefect server of one run, where no server is named, in a session of its own.

Ctrl+C goes to the terminal's whole process group. A server in that group would end before the run
could report that it was cancelled; so it has a session of its own, and receives SIGTERM when its
run dies, however that dies.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from components.core.process.child_programs import start_program

_STOP_SECONDS = 0.7
"""Seconds until a server is killed: its database has what was reported, and survives a kill."""


class EphemeralServer(SubprocessASGIServer):
    """Prefect's subprocess server; made before any client, it is the one that clients find."""

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        """Start it as Prefect does (without its UI), in a new session and tied to this process."""
        arguments = [sys.executable, "-m", "uvicorn", "--app-dir"]
        arguments += [str(Path(prefect.__file__).parents[1]), "--factory"]
        arguments += ["prefect.server.api.server:create_app", "--host", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--log-level", "error", "--lifespan", "on"]
        marks = {
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        }
        own_settings = get_current_settings().to_environment_variables(exclude_unset=True)
        return start_program(arguments, environment={**marks, **own_settings})

    def stop_promptly(self) -> None:
        """Stop the server within a second, for a run that is stopped."""
        process = self.server_process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self.stop()
