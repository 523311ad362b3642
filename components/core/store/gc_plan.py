"""Plan of a garbage collection in one place: deletions and retained things, with reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.io.trash import disk_size

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Deletion:
    """One thing to delete, whole."""

    name: str
    why: str
    size: int
    """Bytes."""
    paths: tuple[Path, ...] = ()
    kind: str = "files"
    """Kind, by which others are notified: ``version``, ``logged model``, ``run``, ``dataset``."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "why": self.why, "bytes": self.size}


@dataclass
class Retained:
    """Count and bytes retained for one reason."""

    count: int = 0
    size: int = 0


@dataclass
class GcPlan:
    """Deletions and retained things of one place of the workspace."""

    place: str
    root: Path
    """Folder that holds the trash, on the same file system."""
    deletions: list[Deletion] = field(default_factory=list)
    retained: dict[str, Retained] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _counted: set[tuple[int, int]] = field(default_factory=set)
    """(device, inode) of counted files. Where files are hard-linked, add retained things first,
    since deleting one of several links frees nothing."""

    def add_deletion(
        self, name: str, why: str, paths: Iterable[Path] = (), *, kind: str = "files"
    ) -> None:
        """Plan to delete ``paths``, those that exist.

        Args:
            name: shown to the user.
            why: reason.
            paths: files and folders.
            kind: see ``Deletion``.
        """
        there = tuple(path for path in paths if path.exists() or path.is_symlink())
        size = disk_size(there, self._counted)
        self.deletions.append(Deletion(name, why, size, there, kind))

    def add_retained(self, why: str, paths: Iterable[Path] = ()) -> None:
        """Count one thing as retained."""
        total = self.retained.setdefault(why, Retained())
        total.count += 1
        total.size += disk_size(paths, self._counted)

    @property
    def size(self) -> int:
        """Bytes to delete."""
        return sum(item.size for item in self.deletions)

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "bytes": self.size,
            "goes": [item.as_json() for item in self.deletions],
            "stays": [
                {"why": why, "count": total.count, "bytes": total.size}
                for why, total in self.retained.items()
            ],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class RetentionPolicy:
    """Retention beyond what must be kept: by age and by number of runs."""

    runs: int = 10
    """Number of the newest completed runs to keep, with the unfinished ones between them."""
    days: float = 7.0
    """Things made or used within so many days are kept."""

    def cutoff(self, now: float) -> float:
        """Time, in seconds since 1970, after which things are kept."""
        return now - self.days * DAY_SECONDS

    @property
    def recent(self) -> str:
        return f"made or used in the last {self.days:g} days"
