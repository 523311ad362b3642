"""The store: sealed results by the key of what made them.

    store/partial/<key>/   a stage at work: out/ is what it will seal, scratch/ what only its next
                           try needs (journal, checkpoints)
    store/sealed/<key>/    complete and read-only, or absent
    store/locks/<key>      keeps two runs off one key
    store/uses/            which keys the living processes work with: `modelmill gc` leaves them
    store/code.json        digests of modules by the sha256 of their source; may be deleted

Key = digest of (component, code, config, parents). See ``components/core/store/code_digest.py`` for
"code".
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.io.locks import hold_lock, is_locked
from components.core.log import get_logger
from components.core.process.thread_tuning import StageThreads
from components.core.progress import Progress
from components.core.store.artifact import (
    MANIFEST,
    Artifact,
    Inputs,
    Lineage,
    canonical,
    digest_folder,
    digest_value,
    parents_of,
)
from components.core.store.code_digest import CodeIndex, component_name
from components.core.store.executor import Executor
from components.core.store.leases import Leases
from components.core.store.workdir import STAGE_FILE, Workdir, full_disk_is_one_line

A = TypeVar("A", bound=Artifact)
CODE_FILE = "code.json"
log = get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """One call of a component: what its key is made of."""

    component: Callable[..., Any]
    config: StageConfig
    inputs: Inputs
    lineage: Lineage

    @property
    def key(self) -> str:
        return digest_value(self.lineage.model_dump(mode="json"))

    @property
    def kind(self) -> type[Artifact]:
        """The kind of artifact the component says it returns."""
        kind = get_type_hints(self.component)["return"]
        assert isinstance(kind, type)
        assert issubclass(kind, Artifact)
        return kind


class Store:
    """Sealed artifacts below one root that can be moved as a whole."""

    def __init__(self, root: Path, code: CodeIndex | None = None) -> None:
        self.root = root
        self.code = code or CodeIndex(memory=root / CODE_FILE)
        self.leases = Leases(root)

    def request(
        self, component: Callable[..., Any], config: StageConfig, inputs: Inputs
    ) -> Request:
        """The request a call makes, with its lineage."""
        lineage = Lineage(
            component=component_name(component),
            code=self.code.digest(component),
            config=digest_value(config.identity()),
            parents=parents_of(inputs),
        )
        return Request(component, config, inputs, lineage)

    def find(self, key: str, kind: type[A]) -> A | None:
        """The sealed artifact of ``key``; a folder whose files are gone counts as absent."""
        manifest = self.manifest(key)
        if manifest is None:
            return None
        if manifest["format"] != kind.format:
            raise DataError(f"sealed/{key} holds {manifest['format']}, not {kind.format}")
        return kind.model_validate(manifest["artifact"])

    def manifest(self, key: str) -> dict[str, Any] | None:
        """The manifest of a complete sealed folder, else None."""
        folder = self.root / "sealed" / key
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        for name, size in manifest["files"].items():
            if _size(folder / name) != size:
                log.warning("sealed/%s: %s is gone or changed; counted as a miss", key[:12], name)
                return None
        return manifest

    def run(
        self,
        request: Request,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> tuple[Artifact, bool]:
        """The artifact of a request and whether it was there already; runs it if not."""
        with full_disk_is_one_line(self.root):
            self.leases.take(request.key)
        found = self.find(request.key, request.kind)
        if found is not None:
            self._clear_partial(request.key)
            return found, True
        with self.lock(request.key):
            found = self.find(request.key, request.kind)  # another run may have made it
            if found is not None:
                return found, True
            remove(self.root / "sealed" / request.key)
            work = self.open(request, executor, progress)
            with full_disk_is_one_line(work.folder), self._threads(request, work):
                made = request.component(request.config, **request.inputs, work=work)
            assert isinstance(made, Artifact)
            return made, False

    def _threads(self, request: Request, work: Workdir) -> AbstractContextManager[object]:
        """The number of threads for a stage that rests on torch; one that trains measures its own.

        It is measured for each stage anew: what a training chose minutes ago says little of the
        neighbours there are now.
        """
        if "torch" not in self.code.parts(request.component):
            return nullcontext()
        return StageThreads(work)

    def _clear_partial(self, key: str) -> None:
        """Take away what a run left that was killed after publishing and before tidying up."""
        if (self.root / "partial" / key).exists():
            with self.lock(key):
                remove(self.root / "partial" / key)

    def open(
        self,
        request: Request,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Workdir:
        """The stage's working folder, with whatever an earlier try left in it."""
        record = {
            "component": request.lineage.component,
            "config": request.config.model_dump(mode="json"),
            "code": self.code.parts(request.component),
        }
        with full_disk_is_one_line(self.root):
            work = Workdir(
                self.root,
                request.key,
                request.lineage,
                executor=executor,
                progress=progress,
                record=record,
            )
            begun = {**record, "parents": dict(request.lineage.parents)}
            write_atomically(work.scratch / STAGE_FILE, canonical(begun))
        return work

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Wait until no other run works on ``key``; the lock goes with the process."""

        def tell() -> None:
            log.warning("another run is making %s; waiting for it", key[:12])

        with hold_lock(self.root / "locks" / key, on_wait=tell):
            yield

    def is_locked(self, key: str) -> bool:
        """Whether a living process works on ``key``."""
        return is_locked(self.root / "locks" / key)

    def sealed(self) -> list[dict[str, Any]]:
        """Manifests of everything sealed, oldest first."""
        ages: list[tuple[float, str]] = []
        for folder in (self.root / "sealed").glob("*"):
            with suppress(FileNotFoundError):  # another run may be making it anew
                ages.append((folder.stat().st_mtime, folder.name))
        manifests = (self.manifest(name) for _, name in sorted(ages))
        return [manifest for manifest in manifests if manifest is not None]

    def records(self, component: str) -> list[dict[str, Any]]:
        """Config records of a component's tries, sealed and unfinished, newest first."""
        found: list[tuple[float, dict[str, Any]]] = []
        for pattern in ("sealed/*/" + MANIFEST, f"partial/*/scratch/{STAGE_FILE}"):
            for path in self.root.glob(pattern):
                try:
                    record, age = json.loads(path.read_bytes()), path.stat().st_mtime
                except (FileNotFoundError, json.JSONDecodeError):
                    continue  # another run has just sealed it, or is making it anew
                if record.get("component") == component:
                    found.append((age, record))
        return [record for _, record in sorted(found, key=lambda pair: -pair[0])]

    def damaged(self) -> list[str]:
        """Keys whose content no longer gives their digest (reads everything)."""
        return [
            Path(manifest["artifact"]["name"]).name
            for manifest in self.sealed()
            if digest_folder(self.root / manifest["artifact"]["name"])
            != manifest["artifact"]["digest"]
        ]

    def adopt(self, source: Path, kind: type[A]) -> A:
        """Copy a user's file or folder in, keyed by its content, so that it can be a parent."""
        folder = self.root / "partial" / f"adopt-{os.getpid()}-{time.monotonic_ns()}"
        if source.is_dir():
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST))
        else:
            folder.mkdir(parents=True)
            shutil.copy2(source, folder)
        lineage = Lineage(component="adopted", code=kind.format, config=digest_folder(folder))
        key = digest_value(lineage.model_dump(mode="json"))
        self.leases.take(key)
        found = self.find(key, kind)
        if found is not None:
            shutil.rmtree(folder)
            return found
        with self.lock(key):
            remove(self.root / "sealed" / key)
            target = self.root / "partial" / key
            remove(target)
            target.mkdir(parents=True)
            folder.rename(target / "out")
            return Workdir(self.root, key, lineage, record={"component": "adopted"}).seal(kind)


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def remove(folder: Path) -> None:
    """Delete a (read-only) folder if it is there."""
    if not folder.exists():
        return
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        path.chmod(path.stat().st_mode | stat.S_IRWXU)
    shutil.rmtree(folder)


def stage_folders(root: Path) -> list[Path]:
    """Folders of all that is sealed or begun; each bears its key."""
    return sorted(path for place in ("sealed", "partial") for path in (root / place).glob("*"))
