"""Working folder of one stage, and its sealing into the store."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import publish_path, sync_path, write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.io.trash import delete_path
from components.core.progress import Progress
from components.core.store.artifact import (
    MANIFEST_FILE,
    VOLATILE_FOLDER,
    Artifact,
    Lineage,
    digest_folder,
    find_odd_entries,
)
from components.core.store.executor import Executor, InlineExecutor

A = TypeVar("A", bound=Artifact)
STAGE_FILE = "stage.json"
"""Record in the scratch of an unfinished stage: its name, component, config, code, digests of
parents."""


def stage_name(record: Mapping[str, Any], component: str) -> str:
    """Name of the stage that a manifest or ``stage.json`` is of.

    Without one, as a call of a component outside a flow has it, the function's name stands in.
    """
    return str(record.get("stage") or component.rpartition(".")[2])


class Workdir:
    """Folders of a running stage: ``folder`` is sealed, ``scratch`` serves only its next try."""

    def __init__(
        self,
        root: Path,
        key: str,
        lineage: Lineage,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        record: dict[str, Any] | None = None,
        kind: type[Artifact] | None = None,
    ) -> None:
        self.root = root
        self.key = key
        self.lineage = lineage
        self._partial = root / "partial" / key
        self.folder = self._partial / "out"
        self.executor: Executor = executor or InlineExecutor()
        self.progress = progress or Progress()
        self.threads: int | None = None
        """Threads that torch computed on (``core/process/thread_tuning.py``); sealed as a stat."""
        self.required_files: tuple[str, ...] = ()
        """Patterns of the files without which ``seal`` refuses."""
        self._kind = kind
        """Kind that the stage promised to seal; None for any."""
        self._record = record or {}
        self._is_sealed = False
        self._opened = time.monotonic()
        _ensure_folder(self.folder)
        _ensure_folder(self.scratch)
        _undo_half_seal(self.folder)

    @classmethod
    def temporary(cls, root: Path, component: str = "tests.component") -> Workdir:
        """Workdir for calling a component as a plain function, in a test or a notebook."""
        key = Path(tempfile.mkdtemp(prefix="key-", dir=_ensure_folder(root / "partial"))).name
        return cls(root, key, Lineage(component=component, code="", config=""))

    @property
    def scratch(self) -> Path:
        """Journals and saved states of an unfinished stage; deleted by ``seal``."""
        return self._partial / "scratch"

    @property
    def volatile(self) -> Path:
        """Part of the artifact outside its digest, for what differs between equal runs."""
        return _ensure_folder(self.folder / VOLATILE_FOLDER)

    def artifact_folder(self, artifact: Artifact) -> Path:
        """Folder of a sealed input."""
        return self.root / artifact.name

    def seal(self, kind: type[A], stats: dict[str, float] | None = None, note: str = "") -> A:
        """Digest, sync and publish everything below ``folder`` by one rename, read-only.

        Args:
            kind: the artifact's class.
            stats: finite figures; the first is the key figure of the closing table.
            note: shown in its place, where a figure does not say how it came out.

        Raises:
            ConfigError: the stage promised another kind, has sealed already, or lacks a file.
            DataError: a stat is no finite number, or something is no plain file.
            MillError: the disk is full; nothing is published and the next try goes on from here.
        """
        self._check_sealable(kind)
        seconds = time.monotonic() - self._opened
        name = f"sealed/{self.key}"
        threads = {} if self.threads is None else {"threads": float(self.threads)}
        with explain_full_disk(self.folder):
            try:
                artifact = kind(
                    name=name,
                    digest=digest_folder(self.folder),
                    lineage=self.lineage,
                    stats={"seconds": round(seconds, 3), **(stats or {}), **threads},
                    note=note,
                )
            except ValidationError as error:
                raise DataError(f"{self._stage}: {_first_problem(error)}") from error
            files = _sync_all(self.folder)
            manifest = {
                "format": kind.format,
                "artifact": artifact.model_dump(mode="json"),
                "files": files,
                **self._record,
            }
            # Not canonical: the order of stats says which one is the key figure.
            write_atomically(
                self.folder / MANIFEST_FILE, json.dumps(manifest, allow_nan=False).encode()
            )
            _publish(self.folder, self.root / name)
            self._is_sealed = True
            delete_path(self._partial)
        return artifact

    @property
    def _stage(self) -> str:
        return stage_name(self._record, self.lineage.component)

    def _check_sealable(self, kind: type[Artifact]) -> None:
        if self._is_sealed:
            raise ConfigError(f"{self._stage}: has sealed already: call work.seal once, at the end")
        if self._kind is not None and kind.format != self._kind.format:
            raise ConfigError(
                f"{self._stage}: seals {kind.__name__}, and its return is annotated as "
                f"{self._kind.__name__}"
            )
        odd = find_odd_entries(self.folder)
        if odd:
            raise DataError(
                f"{self._stage}: {odd[0]} is a link or no plain file: an artifact holds plain "
                "files and folders; copy what it names"
            )
        missing = [name for name in self.required_files if not any(self.folder.glob(name))]
        if missing:
            raise ConfigError(
                f"{self._stage}: seals {kind.__name__}, and work.folder holds no "
                f"{', no '.join(missing)}"
            )


def _first_problem(error: ValidationError) -> str:
    """First problem of an artifact's fields, in one line."""
    detail = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"


def _undo_half_seal(folder: Path) -> None:
    """Make an earlier try's files writable, and delete what only ``seal`` writes.

    A try that was killed while sealing leaves them read-only, with a whole or half manifest.
    Links, which ``seal`` refused, go: their targets are nobody's to make writable.
    """
    for path in list(folder.rglob("*")):
        if path.is_symlink():
            path.unlink()
        elif path.is_file() and not path.stat().st_mode & stat.S_IWUSR:
            path.chmod(0o644)
    for name in (MANIFEST_FILE, MANIFEST_FILE + ".tmp"):
        (folder / name).unlink(missing_ok=True)


def _ensure_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    _ensure_folder(target.parent)
    (folder / MANIFEST_FILE).chmod(0o444)
    publish_path(folder, target)  # onto a non-empty folder this fails, loudly
    for path in [target, *(p for p in target.rglob("*") if p.is_dir())]:
        path.chmod(0o555)
