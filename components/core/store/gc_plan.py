"""What a collection found in one place: what goes, what stays, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.store.trash import size_of

DAY = 86_400.0


@dataclass(frozen=True)
class Item:
    """One thing that goes, whole."""

    name: str
    why: str
    size: int
    """Bytes."""
    paths: tuple[Path, ...] = ()
    kind: str = "files"
    """What has to be told besides: ``version``, ``logged model``, ``run``, ``dataset``."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "why": self.why, "bytes": self.size}


@dataclass
class Kept:
    """How much stays for one reason."""

    count: int = 0
    size: int = 0


@dataclass
class Sweep:
    """One place of the workspace."""

    place: str
    root: Path
    """Its trash lies here, on the same file system."""
    items: list[Item] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)
    """What was counted, by (device, inode): what stays must be told first where files are linked,
    since deleting one name of them frees nothing."""

    def drop(self, name: str, why: str, paths: Iterable[Path] = (), *, kind: str = "files") -> None:
        """``paths`` (those that exist) go."""
        there = tuple(path for path in paths if path.exists() or path.is_symlink())
        self.items.append(Item(name, why, size_of(there, self._seen), there, kind))

    def keep(self, why: str, paths: Iterable[Path] = ()) -> None:
        """One thing stays."""
        kept = self.kept.setdefault(why, Kept())
        kept.count += 1
        kept.size += size_of(paths, self._seen)

    @property
    def size(self) -> int:
        """Bytes that go."""
        return sum(item.size for item in self.items)

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "bytes": self.size,
            "goes": [item.as_json() for item in self.items],
            "stays": [
                {"why": why, "count": kept.count, "bytes": kept.size}
                for why, kept in self.kept.items()
            ],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Keeping:
    """What a collection keeps beyond what must stay."""

    runs: int = 10
    """This many of the newest completed runs, with the unfinished ones between them."""
    days: float = 7.0
    """What was made or used in so many days."""

    def cutoff(self, now: float) -> float:
        """Seconds since 1970: what is younger stays."""
        return now - self.days * DAY

    @property
    def recent(self) -> str:
        return f"made or used in the last {self.days:g} days"
