"""A small workspace made by hand: sealed artifacts with true keys, and records of runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from components.core.settings import Settings
from components.core.store.artifact import Artifact, Corpus, Lineage, digest_folder, digest_value
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from components.core.workspace_layout import mark_layout
from serving.api.limits import EndpointLimits
from serving.bento.build_bento import bentos_folder
from serving.engine.served_folder import Endpoint

DAY = 86_400.0


def damaged_keys(store: Store) -> list[str]:
    """Keys whose content no longer matches their digest (reads everything)."""
    return [
        Path(manifest["artifact"]["name"]).name
        for manifest in store.sealed_manifests()
        if digest_folder(store.root / manifest["artifact"]["name"])
        != manifest["artifact"]["digest"]
    ]


class Hand:
    """Makes things in one workspace, as old as they are told to be."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, reference_data=home)

    @property
    def store(self) -> Path:
        return self.settings.store

    def seal(
        self,
        content: str,
        parents: Mapping[str, Artifact] | None = None,
        *,
        kind: type[Artifact] = Corpus,
        stage: str = "made",
        config: str = "",
        days: float = 0.0,
    ) -> Artifact:
        """A sealed artifact with one file."""
        mark_layout(self.settings.home)
        digests = {role: parent.digest for role, parent in (parents or {}).items()}
        lineage = Lineage(
            component=f"tests.{stage}.{stage}", code="", config=config or content, parents=digests
        )
        key = digest_value(lineage.model_dump(mode="json"))
        work = Workdir(self.store, key, lineage, record={"component": lineage.component})
        (work.folder / "content.txt").write_text(content)
        artifact = work.seal(kind)
        self.age(self.store / artifact.name / "artifact.json", days)
        return artifact

    def key(self, artifact: Artifact) -> str:
        return Path(artifact.name).name

    def keys(self) -> set[str]:
        """What is sealed."""
        return {path.name for path in (self.store / "sealed").glob("*")}

    def record(
        self,
        name: str,
        artifacts: Mapping[str, Artifact],
        *,
        state: str = "completed",
        days: float = 0.0,
        process: int = 0,
        named: Mapping[str, str] | None = None,
    ) -> Path:
        """A run's record; ``named``: stage -> name of what an action left."""
        steps = [
            {"stage": stage, "state": "Completed", "seconds": 1.0, "digest": artifact.digest,
             "artifact": artifact.name, "stats": {}, "note": ""}
            for stage, artifact in artifacts.items()
        ]  # fmt: skip
        steps += [
            {"stage": stage, "state": "Completed", "seconds": 1.0, "digest": "0", "artifact": left,
             "stats": {}, "note": ""}
            for stage, left in (named or {}).items()
        ]  # fmt: skip
        started = datetime.fromtimestamp(time.time() - days * DAY, UTC)
        content = {"run": name, "preset": "nano", "name": "nano", "state": state, "steps": steps,
                   "process": process, "started": started.isoformat(timespec="seconds")}  # fmt: skip
        self.settings.runs.mkdir(parents=True, exist_ok=True)
        path = self.settings.runs / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    def bento(
        self, name: str, bundle: str, *, model: str = "nano", version: str = "1", days: float = 0.0
    ) -> Path:
        """A folder that says what a Bento says."""
        endpoint = Endpoint(
            model=model,
            version=version,
            bundle=bundle,
            form="onnx",
            created=0,
            limits=EndpointLimits(),
        )
        folder = bentos_folder(self.settings) / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "endpoint.json").write_text(endpoint.model_dump_json())
        (folder / "bento.yaml").write_text(f"version: {name}")
        self.age(folder / "bento.yaml", days)
        self.age(folder, days)
        return folder

    def age(self, path: Path, days: float) -> None:
        """Let a file or folder have been written so many days ago."""
        moment = time.time() - days * DAY
        os.utime(path, (moment, moment))
