"""Plan of deletions in one system of the workspace, and the interface by which each carries it out.

A system is the store, the registry, the datasets, the Bentos, Prefect's history. Garbage collection
and orders to forget differ in what they plan; deleting and looking whether it is gone is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import override

from components.core.io.trash import Trash, disk_size
from components.core.settings import Settings

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
    """Kind of its rows: ``version``, ``logged model``, ``run``, ``dataset``, ``history``."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that a system needs to delete it, and could not look up after a kill."""

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
        self,
        name: str,
        why: str,
        paths: Iterable[Path] = (),
        *,
        kind: str = "files",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Plan to delete ``paths``, those that exist.

        Args:
            name: shown to the user.
            why: reason.
            paths: files and folders.
            kind: see ``Deletion``.
            facts: see ``Deletion``.
        """
        there = tuple(path for path in paths if path.exists() or path.is_symlink())
        size = disk_size(there, self._counted)
        self.deletions.append(Deletion(name, why, size, there, kind, facts or {}))

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


class DeletionSystem(Protocol):
    """One system of the workspace: carries out the deletions that were planned for it.

    Both calls may be repeated, so that a kill at any instant leaves what the next one finishes.
    """

    def delete(self, settings: Settings, plan: GcPlan) -> None:
        """Delete what ``plan`` names; the locks of the system must be held."""
        ...

    def find_left(self, settings: Settings, plan: GcPlan) -> list[str]:
        """Names of what is still there."""
        ...


class FileSystem(DeletionSystem):
    """System that consists of files and folders alone."""

    @override
    def delete(self, settings: Settings, plan: GcPlan) -> None:
        discard_paths(plan)

    @override
    def find_left(self, settings: Settings, plan: GcPlan) -> list[str]:
        return left_paths(plan)


def discard_paths(plan: GcPlan) -> None:
    """Move the paths of all deletions into the trash; whoever empties it ends the deletion."""
    trash = Trash(plan.root)
    for deletion in plan.deletions:
        for path in deletion.paths:
            trash.discard(path)


def left_paths(plan: GcPlan) -> list[str]:
    """Paths of a plan that are still there."""
    paths = (path for deletion in plan.deletions for path in deletion.paths)
    return [str(path) for path in paths if path.exists() or path.is_symlink()]


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
