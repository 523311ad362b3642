"""Running processes of one workspace, identified by environment, folder and command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.settings import Settings

_HOMES = ("MODELMILL_HOME", "PREFECT_HOME", "BENTOML_HOME")


@dataclass(frozen=True)
class WorkspaceProcess:
    """Running process that works on the workspace."""

    pid: int
    parent: int
    created: float
    """Seconds since 1970."""
    command: tuple[str, ...]
    folder: str
    """Current folder; empty where this user may not see it."""
    environment: dict[str, str]

    @property
    def short_command(self) -> str:
        """Command line without the folders of its paths, cut to 100 characters."""
        words = [Path(word).name if word.startswith("/") else word for word in self.command]
        return " ".join(words)[:100]


def find_workspace_processes(settings: Settings) -> list[WorkspaceProcess]:
    """List the other processes that work on this workspace."""
    home = str(settings.home)
    return [
        process
        for process in _list_processes()
        if process.pid != os.getpid() and _works_on(process, home)
    ]


def _works_on(process: WorkspaceProcess, home: str) -> bool:
    places = [process.environment.get(name, "") for name in _HOMES]
    places += [process.folder, *process.command]
    return any(place == home or place.startswith(home + "/") for place in places)


def _list_processes() -> Iterator[WorkspaceProcess]:
    wanted = ["pid", "ppid", "create_time", "cmdline", "cwd", "environ"]
    for process in psutil.process_iter(wanted):
        facts = process.info
        if facts["cmdline"]:
            yield WorkspaceProcess(
                pid=facts["pid"],
                parent=facts["ppid"] or 0,
                created=facts["create_time"] or 0.0,
                command=tuple(facts["cmdline"]),
                folder=facts["cwd"] or "",
                environment=facts["environ"] or {},
            )
