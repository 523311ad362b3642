"""The living processes of one workspace, told by their environment and their command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.settings import Settings

_HOMES = ("MODELMILL_HOME", "PREFECT_HOME", "BENTOML_HOME")


@dataclass(frozen=True)
class Living:
    """One process."""

    pid: int
    parent: int
    created: float
    """Seconds since 1970."""
    command: tuple[str, ...]
    folder: str
    """Its current folder; empty where it may not be seen."""
    environment: dict[str, str]

    @property
    def line(self) -> str:
        """Its command line, short."""
        words = [Path(word).name if word.startswith("/") else word for word in self.command]
        return " ".join(words)[:100]


def living(settings: Settings) -> list[Living]:
    """Processes that work on this workspace, this one left out."""
    home = str(settings.home)
    return [found for found in _look() if found.pid != os.getpid() and _belongs(found, home)]


def _belongs(found: Living, home: str) -> bool:
    places = [found.environment.get(name, "") for name in _HOMES]
    places += [found.folder, *found.command]
    return any(place == home or place.startswith(home + "/") for place in places)


def _look() -> Iterator[Living]:
    wanted = ["pid", "ppid", "create_time", "cmdline", "cwd", "environ"]
    for process in psutil.process_iter(wanted):
        facts = process.info
        if facts["cmdline"]:
            yield Living(
                pid=facts["pid"],
                parent=facts["ppid"] or 0,
                created=facts["create_time"] or 0.0,
                command=tuple(facts["cmdline"]),
                folder=facts["cwd"] or "",
                environment=facts["environ"] or {},
            )
