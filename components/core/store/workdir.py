"""Working folder of one stage: its own folder, its inputs' folders, its shards, its way to seal."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from components.core.errors import MillError
from components.core.io.atomic_write import sync_path, write_atomically
from components.core.progress import Progress
from components.core.store.artifact import MANIFEST, VOLATILE, Artifact, Lineage, digest_folder
from components.core.store.executor import Executor, Inline

A = TypeVar("A", bound=Artifact)
STAGE_FILE = "stage.json"
"""In the scratch of an unfinished stage: its component, config, code, and parents' digests."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")
"""What libraries in other languages, and SQLite, say of the same."""


class Workdir:
    """A stage writes below ``folder``; what its next try needs but no reader, below ``scratch``."""

    def __init__(
        self,
        root: Path,
        key: str,
        lineage: Lineage,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.key = key
        self.lineage = lineage
        self._partial = root / "partial" / key
        self.folder = self._partial / "out"
        self.executor: Executor = executor or Inline()
        self.progress = progress or Progress()
        self.threads: int | None = None
        """Threads that torch computed on (``core/process/thread_tuning.py``); sealed as a stat."""
        self._record = record or {}
        self._opened = time.monotonic()
        _made(self.folder)
        _made(self.scratch)
        _undo_half_seal(self.folder)

    @classmethod
    def temporary(cls, root: Path, component: str = "tests.component") -> Workdir:
        """A workdir for calling a component as a plain function, in a test or a notebook."""
        key = Path(tempfile.mkdtemp(prefix="key-", dir=_made(root / "partial"))).name
        return cls(root, key, Lineage(component=component, code="", config=""))

    @property
    def scratch(self) -> Path:
        """Journals and checkpoints of an unfinished stage; gone at ``seal``."""
        return self._partial / "scratch"

    @property
    def volatile(self) -> Path:
        """Part of the artifact but not of its digest: what differs between equal runs."""
        return _made(self.folder / VOLATILE)

    def path(self, artifact: Artifact) -> Path:
        """The folder of a sealed input."""
        return self.root / artifact.name

    def seal(self, kind: type[A], stats: dict[str, float] | None = None, note: str = "") -> A:
        """Digest, sync and publish everything below ``folder`` by one rename, read-only.

        Args:
            kind: the artifact's class.
            stats: finite figures; the first is the key figure of the closing table.
            note: stands in its place, where a figure does not say how it came out.

        Raises:
            MillError: the disk is full; nothing is published and the next try goes on from here.
            ValueError: a stat is not finite.
        """
        seconds = time.monotonic() - self._opened
        name = f"sealed/{self.key}"
        threads = {} if self.threads is None else {"threads": float(self.threads)}
        with full_disk_is_one_line(self.folder):
            artifact = kind(
                name=name,
                digest=digest_folder(self.folder),
                lineage=self.lineage,
                stats={"seconds": round(seconds, 3), **(stats or {}), **threads},
                note=note,
            )
            files = _sync_all(self.folder)
            manifest = {
                "format": kind.format,
                "artifact": artifact.model_dump(mode="json"),
                "files": files,
                **self._record,
            }
            # Not canonical: the order of stats says which one is the key figure.
            write_atomically(self.folder / MANIFEST, json.dumps(manifest, allow_nan=False).encode())
            _publish(self.folder, self.root / name)
            shutil.rmtree(self._partial)
        return artifact


def _undo_half_seal(folder: Path) -> None:
    """Make an earlier try's files writable again, and take away what only a seal writes.

    A try that was killed while sealing leaves them read-only, with a manifest or half of one.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.stat().st_mode & stat.S_IWUSR:
            path.chmod(0o644)
    for name in (MANIFEST, MANIFEST + ".tmp"):
        (folder / name).unlink(missing_ok=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def full_disk_is_one_line(folder: Path | str) -> Iterator[None]:
    """Turn "no space left" into one line that says what to do, whoever says it.

    The system's own error, SQLite's, and those that libraries make of them.
    """
    try:
        yield
    except MillError:
        raise
    except Exception as error:
        cause = _full_disk_of(error)
        if cause is None:
            raise
        raise no_space_left(getattr(cause, "filename", None) or folder) from error


def no_space_left(place: Path | str) -> MillError:
    """The line of a disk that is full."""
    return MillError(
        f"no space left while writing {place}: free some "
        "(`modelmill show` lists what is there), then run the same command; it goes on"
    )


def free_bytes(folder: Path) -> int:
    """How much more may be written in a folder."""
    return shutil.disk_usage(folder).free


def _full_disk_of(error: BaseException) -> BaseException | None:
    """The error that says so, of a chain of errors."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno is not None:
            if link.errno in _FULL:
                return link
        elif _FULL_WORDS.search(str(link)):
            return link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return None


def _sync_all(folder: Path) -> dict[str, int]:
    """Sync every file; relative name -> bytes."""
    sizes: dict[str, int] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(0o444)
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    for path in [p for p in folder.rglob("*") if p.is_dir()]:
        sync_path(path)
    return sizes


def _publish(folder: Path, target: Path) -> None:
    _made(target.parent)
    (folder / MANIFEST).chmod(0o444)
    folder.rename(target)  # onto a non-empty folder this fails, loudly
    sync_path(target.parent)
    for path in [target, *(p for p in target.rglob("*") if p.is_dir())]:
        path.chmod(0o555)
