"""Artifacts as a Python caller handles them: with their folder, and found by name or digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.stats.figures import REPORT_FILE, Figure, read_report
from components.core.store.artifact import Artifact
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.core.store.store import Store

_LEAST_DIGITS = 6
"""Of a digest or key that is looked up: fewer name something else, such as a model."""


@dataclass(frozen=True)
class StoredArtifact:
    """Sealed artifact of a workspace: its reference, and the folder that holds it."""

    reference: Artifact
    store: Path

    @property
    def name(self) -> str:
        """Its folder, relative to the store: ``sealed/KEY``; of a version, ``models:/NAME/3``."""
        return self.reference.name

    @property
    def digest(self) -> str:
        """sha256 over names and contents of its files."""
        return self.reference.digest

    @property
    def kind(self) -> str:
        """Format of its files: ``corpus/1``."""
        return type(self.reference).format

    @property
    def stats(self) -> dict[str, float]:
        """Figures of the stage that made it; the first is the main one."""
        return self.reference.stats

    @property
    def folder(self) -> Path:
        """Folder of its files, read-only.

        Raises:
            ConfigError: it is no folder of the store, as a registered version is none.
        """
        path = self.store / self.name
        if not path.is_dir():
            raise ConfigError(f"{self.name}: no folder of the store holds it")
        return path

    @property
    def figures(self) -> dict[str, Figure]:
        """Figures of its report with 95 % intervals, by name; empty where it is no report.

        Raises:
            DataError: the report is damaged.
        """
        path = self.store / self.name
        return read_report(path) if (path / REPORT_FILE).is_file() else {}

    @property
    def lineage(self) -> list[ArtifactNode]:
        """All that it was made of, from the pages to itself: stage, digests, config, stats."""
        return ArtifactGraph.read(self.store).provenance_chain([self.digest])

    def __repr__(self) -> str:
        return f"<{self.kind} {self.digest[:12]} {self.name[:24]}>"


def find_artifact(settings: Settings, name: str) -> StoredArtifact:
    """Sealed artifact by its name (``sealed/KEY``) or the beginning of its key or digest.

    Args:
        settings: workspace whose store is searched.
        name: at least 6 signs of a key or digest. Of equal contents the newest is taken.

    Raises:
        ConfigError: it is no text, or no artifact matches, or several with different contents.
    """
    if not isinstance(name, str):
        raise ConfigError(
            f"name: given {name!r}: give an artifact's name, or the beginning of its digest"
        )
    wanted = name.removeprefix("sealed/")
    matching = [
        manifest
        for manifest in Store(settings.store).sealed_manifests()
        if len(wanted) >= _LEAST_DIGITS
        and (
            Path(manifest["artifact"]["name"]).name.startswith(wanted)
            or manifest["artifact"]["digest"].startswith(wanted)
        )
    ]
    contents = {(m["format"], m["artifact"]["digest"]) for m in matching}
    if len(contents) != 1:
        count = f"{len(contents)} artifacts match" if contents else "no artifact matches"
        raise ConfigError(f"{name}: {count}; `modelmill show` lists what there is")
    manifest = matching[-1]
    kind = {kind.format: kind for kind in Artifact.__subclasses__()}.get(manifest["format"])
    if kind is None:
        raise ConfigError(
            f"{name}: is of kind {manifest['format']}, which this version cannot read"
        )
    return StoredArtifact(kind.model_validate(manifest["artifact"]), settings.store)
