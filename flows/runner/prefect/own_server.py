"""A run's own Prefect server, where none is named: in a session of its own.

Ctrl+C goes to the terminal's whole process group. A server in that group would end before the run
could tell it that it was cancelled; so it stands apart, and ends when its run does, however that
dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from components.core.process.exec_with_parent import command
from components.core.settings import child_environment

_STOP_SECONDS = 0.7
"""A server is killed after that: what it was told stands in its database, which bears a kill."""


class OwnServer(SubprocessASGIServer):
    """Prefect's temporary server. Made first, it is the one that Prefect's clients find."""

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        """As Prefect starts it (without its UI), but apart and tied to this process."""
        arguments = [sys.executable, "-m", "uvicorn", "--app-dir"]
        arguments += [str(Path(prefect.__file__).parents[1]), "--factory"]
        arguments += ["prefect.server.api.server:create_app", "--host", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--log-level", "error", "--lifespan", "on"]
        marks = {
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        }
        given = get_current_settings().to_environment_variables(exclude_unset=True)
        return subprocess.Popen(
            command(os.getpid(), arguments),
            env=child_environment({**marks, **given}),
            start_new_session=True,
        )

    def end(self) -> None:
        """Stop it within a second, for a run that is stopped."""
        process = self.server_process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self.stop()
