"""Deletion of files and folders: in two steps by way of a trash folder, or at once.

In two steps a rename into the trash comes first: it is atomic, so nobody ever sees half a folder,
and a kill in between leaves only what the next ``empty`` deletes.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

TRASH_FOLDER = ".trash"


class Trash:
    """Folder ``.trash`` below one root, on the same file system as what it receives."""

    def __init__(self, root: Path) -> None:
        self.folder = root / TRASH_FOLDER
        self._numbers = itertools.count()

    def discard(self, path: Path) -> None:
        """Move a file or folder (read-only too) into the trash; nothing if it is gone already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{os.getpid()}-{time.monotonic_ns()}-{next(self._numbers)}"
        try:
            if path.is_dir() and not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IRWXU)  # moving it changes its ".."
            path.rename(target)
        except FileNotFoundError:
            return

    def list_contents(self) -> list[Path]:
        """Paths that wait for deletion."""
        return sorted(self.folder.glob("*"))

    def empty(self) -> None:
        """Delete the contents, then the folder."""
        for path in self.list_contents():
            delete_path(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def list_trashes(home: Path) -> list[Trash]:
    """Every trash folder of a workspace: each place deletes on its own file system."""
    folders = [*home.glob(TRASH_FOLDER), *home.glob(f"*/{TRASH_FOLDER}")]
    return [Trash(folder.parent) for folder in sorted(folders)]


def delete_path(path: Path) -> None:
    """Delete a file or a (read-only) folder, if there is one; links are not followed.

    Another process may delete it at the same time.
    """
    while path.is_dir() and not path.is_symlink():
        try:
            for folder, _, _ in os.walk(path):
                mode = Path(folder).stat().st_mode
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    Path(folder).chmod(mode | stat.S_IRWXU)
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # the other one was faster; what it has left goes next
    path.unlink(missing_ok=True)


def disk_size(paths: Iterable[Path], counted_before: set[tuple[int, int]] | None = None) -> int:
    """Bytes of files and folders; a file with several names counts once.

    Args:
        counted_before: (device, inode) of what was counted before; what is counted now is added.
    """
    counted = set[tuple[int, int]]() if counted_before is None else counted_before
    total = 0
    for file in itertools.chain.from_iterable(_files(path) for path in paths):
        try:
            facts = file.lstat()
        except FileNotFoundError:
            continue  # a temporary file that was deleted meanwhile
        identity = (facts.st_dev, facts.st_ino)
        if identity not in counted:
            counted.add(identity)
            total += facts.st_size
    return total


def last_change_time(path: Path) -> float:
    """Time of the last write in a file or folder, in seconds since 1970; 0 if it is gone."""
    times = []
    for file in (path, *_files(path)):
        try:
            times.append(file.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times, default=0.0)


def _files(path: Path) -> Iterable[Path]:
    if path.is_symlink() or not path.is_dir():
        return [path]
    return (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
