"""Content-addressed store: sealed results, by the key of what made them.

    store/partial/<key>/   a running stage: out/ is what it will seal, scratch/ what only its next
                           try needs (journals, saved states)
    store/sealed/<key>/    complete and read-only, or absent
    store/locks/<key>      one run at a time for a key
    store/uses/            leases: keys in use by running processes, which `modelmill gc` leaves
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
from components.core.io.atomic_write import publish_path, write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.io.locks import hold_lock, is_locked
from components.core.io.trash import delete_path
from components.core.log import get_logger
from components.core.process.thread_tuning import StageThreadTuner
from components.core.progress import Progress
from components.core.store.artifact import (
    MANIFEST_FILE,
    Artifact,
    Inputs,
    Lineage,
    canonical_json,
    component_name,
    digest_folder,
    digest_value,
    parent_digests,
)
from components.core.store.code_digest import CodeIndex
from components.core.store.executor import Executor
from components.core.store.leases import Leases
from components.core.store.workdir import STAGE_FILE, Workdir, stage_name

A = TypeVar("A", bound=Artifact)
CODE_FILE = "code.json"
log = get_logger(__name__)


@dataclass(frozen=True)
class StageRequest:
    """Call of a component: everything that its key is made of."""

    component: Callable[..., Any]
    config: StageConfig
    inputs: Inputs
    lineage: Lineage
    stage: str = ""
    """Name of the step, for people to read: no part of the key, so a rename runs nothing again."""

    @property
    def key(self) -> str:
        return digest_value(self.lineage.model_dump(mode="json"))

    @property
    def kind(self) -> type[Artifact]:
        """Class of artifact in the component's return annotation."""
        kind = get_type_hints(self.component)["return"]
        assert isinstance(kind, type)
        assert issubclass(kind, Artifact)
        return kind


class Store:
    """Store of sealed artifacts below one root, which can be moved as a whole."""

    def __init__(self, root: Path, code: CodeIndex | None = None) -> None:
        self.root = root
        self.code = code or CodeIndex(memory=root / CODE_FILE)
        self.leases = Leases(root)

    def make_request(
        self, component: Callable[..., Any], config: StageConfig, inputs: Inputs, stage: str = ""
    ) -> StageRequest:
        """Request for a call, with its lineage.

        Args:
            component: the stage's function.
            config: config of the stage; its ``key_fields`` are part of the key.
            inputs: role -> artifact, or mapping of artifacts.
            stage: name of the step that calls it; of several with one key the first is recorded.
        """
        lineage = Lineage(
            component=component_name(component),
            code=self.code.digest_component(component, config),
            config=digest_value(config.key_fields()),
            parents=parent_digests(inputs),
        )
        return StageRequest(component, config, inputs, lineage, stage)

    def find_artifact(self, key: str, kind: type[A]) -> A | None:
        """Sealed artifact of ``key``; None if absent, or if a file of it is gone."""
        manifest = self.read_manifest(key)
        if manifest is None:
            return None
        if manifest["format"] != kind.format:
            raise DataError(f"sealed/{key} holds {manifest['format']}, not {kind.format}")
        return kind.model_validate(manifest["artifact"])

    def read_manifest(self, key: str) -> dict[str, Any] | None:
        """Manifest of a complete sealed folder, else None."""
        folder = self.root / "sealed" / key
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        for name, size in manifest["files"].items():
            if _file_size(folder / name) != size:
                log.warning("sealed/%s: %s is gone or changed; counted as a miss", key[:12], name)
                return None
        return manifest

    def run_request(
        self,
        request: StageRequest,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> tuple[Artifact, bool]:
        """Artifact of a request, made now unless it is sealed already.

        Args:
            request: the call.
            executor: runs the stage's work shard by shard.
            progress: progress of the stage.

        Returns:
            The artifact, and True if it was sealed already.
        """
        with explain_full_disk(self.root):
            self.leases.take_lease(request.key)
        sealed = self.find_artifact(request.key, request.kind)
        if sealed is not None:
            self._clear_partial(request.key)
            return sealed, True
        with self.lock_key(request.key):
            sealed = self.find_artifact(request.key, request.kind)  # another run may have made it
            if sealed is not None:
                return sealed, True
            delete_path(self.root / "sealed" / request.key)
            work = self.open_workdir(request, executor, progress)
            with explain_full_disk(work.folder), self._threads(request, work):
                made = request.component(request.config, **request.inputs, work=work)
            assert isinstance(made, Artifact)
            return made, False

    def _threads(self, request: StageRequest, work: Workdir) -> AbstractContextManager[object]:
        """Thread tuner for a stage that imports torch; a training tunes its steps itself besides.

        Measured for each stage anew, since the load of the machine changes within minutes.
        """
        if "torch" not in self.code.code_parts(request.component, request.config):
            return nullcontext()
        return StageThreadTuner(work)

    def _clear_partial(self, key: str) -> None:
        """Delete what a run left that was killed between publishing and cleaning up."""
        if (self.root / "partial" / key).exists():
            with self.lock_key(key):
                delete_path(self.root / "partial" / key)

    def open_workdir(
        self,
        request: StageRequest,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Workdir:
        """Working folder of a stage, with whatever an earlier try left in it.

        Args:
            request: the call.
            executor: runs the stage's work shard by shard.
            progress: progress of the stage.
        """
        record = {
            "stage": stage_name({"stage": request.stage}, request.lineage.component),
            "component": request.lineage.component,
            "config": request.config.model_dump(mode="json"),
            "code": self.code.code_parts(request.component, request.config),
        }
        with explain_full_disk(self.root):
            work = Workdir(
                self.root,
                request.key,
                request.lineage,
                executor=executor,
                progress=progress,
                record=record,
                kind=request.kind,
            )
            begun = {**record, "parents": dict(request.lineage.parents)}
            write_atomically(work.scratch / STAGE_FILE, canonical_json(begun))
        return work

    @contextmanager
    def lock_key(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key`` within the block; waits while another run holds it."""

        def tell() -> None:
            log.warning("another run is making %s; waiting for it", key[:12])

        with hold_lock(self.root / "locks" / key, on_wait=tell):
            yield

    def is_key_locked(self, key: str) -> bool:
        """True if a process holds the lock of ``key``."""
        return is_locked(self.root / "locks" / key)

    def sealed_manifests(self) -> list[dict[str, Any]]:
        """Manifests of everything sealed, oldest first."""
        ages: list[tuple[float, str]] = []
        for folder in (self.root / "sealed").glob("*"):
            with suppress(FileNotFoundError):  # another run may be making it anew
                ages.append((folder.stat().st_mtime, folder.name))
        manifests = (self.read_manifest(name) for _, name in sorted(ages))
        return [manifest for manifest in manifests if manifest is not None]

    def config_records(self, component: str) -> list[dict[str, Any]]:
        """Config records of a component's tries, sealed and unfinished, newest first."""
        records: list[tuple[float, dict[str, Any]]] = []
        for pattern in ("sealed/*/" + MANIFEST_FILE, f"partial/*/scratch/{STAGE_FILE}"):
            for path in self.root.glob(pattern):
                try:
                    record, age = json.loads(path.read_bytes()), path.stat().st_mtime
                except (FileNotFoundError, json.JSONDecodeError):
                    continue  # another run has just sealed it, or is making it anew
                if record.get("component") == component:
                    records.append((age, record))
        return [record for _, record in sorted(records, key=lambda pair: -pair[0])]

    def adopt_files(self, source: Path, kind: type[A]) -> A:
        """Copy a user's file or folder into the store, keyed by content, so it can be a parent.

        Raises:
            DataError: something in it cannot be copied, such as a link to nothing or a pipe.
        """
        folder = self.root / "partial" / f"adopt-{os.getpid()}-{time.monotonic_ns()}"
        if source.is_dir():
            try:
                shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE))
            except shutil.Error as error:
                delete_path(folder)
                name, _, reason = error.args[0][0]
                raise DataError(f"{name}: cannot be copied into the store: {reason}") from error
        else:
            folder.mkdir(parents=True)
            shutil.copy2(source, folder)
        lineage = Lineage(component="adopted", code=kind.format, config=digest_folder(folder))
        key = digest_value(lineage.model_dump(mode="json"))
        self.leases.take_lease(key)
        sealed = self.find_artifact(key, kind)
        if sealed is not None:
            delete_path(folder)
            return sealed
        with self.lock_key(key):
            delete_path(self.root / "sealed" / key)
            target = self.root / "partial" / key
            delete_path(target)
            target.mkdir(parents=True)
            publish_path(folder, target / "out")
            return Workdir(self.root, key, lineage, record={"component": "adopted"}).seal(kind)


def _file_size(path: Path) -> int | None:
    """Size of a regular file; None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def stage_folders(root: Path) -> list[Path]:
    """Folders of all stages, sealed or unfinished; each is named by its key."""
    return sorted(path for place in ("sealed", "partial") for path in (root / place).glob("*"))
