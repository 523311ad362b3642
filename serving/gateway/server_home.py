"""BentoML's home of one server: its metrics lie there, and no other server's.

BentoML clears the metrics of its home when it starts. Two servers of one workspace (a swap, `serve`
beside `up`) in one home would so delete each other's, and count together what is left.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from components.core.io.trash import delete_path

SERVERS_FOLDER = "servers"
"""Below BentoML's home; in it a folder for each server, called as its process id."""


def make_server_home(home: Path, pid: int) -> Path:
    """A new, empty home of the server with a process id; those of ended servers are deleted.

    Args:
        home: BentoML's home.
        pid: the server's process id, which it keeps when it becomes another program.
    """
    for dead in find_dead_homes(home):
        delete_path(dead)  # another server that starts deletes it too
    own = home / SERVERS_FOLDER / str(pid)
    delete_path(own)  # of an ended server with the same number
    own.mkdir(parents=True)
    return own


def find_dead_homes(home: Path) -> list[Path]:
    """Homes of servers that have ended."""
    return [own for own in list_homes(home) if not psutil.pid_exists(int(own.name))]


def list_homes(home: Path) -> list[Path]:
    """Homes of all servers, of ended ones too."""
    return [own for own in sorted((home / SERVERS_FOLDER).glob("*/")) if own.name.isdecimal()]
