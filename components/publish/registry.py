"""The model registry: read straight from its SQLite tables, written through MLflow.

Whether there is anything to do is asked at every run; a read-only query answers in a millisecond
where importing MLflow takes seconds. A test holds this reading against MLflow's own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from components.core.action import Workspace
from components.core.artifact import Artifact, Report
from components.core.errors import ConfigError, MillError
from components.core.figures import Figure, read_report
from components.core.locking import locked
from components.core.settings import Settings

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
TAG = "modelmill."
BUNDLE_TAG = TAG + "bundle"
"""Digest of the bundle that a version holds: what a version is found again by."""
FORGOTTEN_TAG = TAG + "forgotten"
"""Names what is to be forgotten and went into a version."""
REPORTS = "reports"
"""Folder of a version's artifacts that holds its reports, one a folder."""
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Entry:
    """One registered version."""

    model: str
    version: int
    source: str
    """``models:/m-…``: the logged model that holds its files."""
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """How MLflow names it."""
        return f"models:/{self.model}/{self.version}"

    def files(self, settings: Settings) -> Path:
        """The folder of its artifacts."""
        identifier = self.source.removeprefix("models:/")
        return settings.mlflow / "artifacts" / "models" / identifier / "artifacts"


def entries(settings: Settings, model: str | None = None) -> list[Entry]:
    """Registered versions, newest first; of one model or of all.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    database = settings.mlflow / "mlflow.db"
    if not database.exists():
        return []
    address = f"{database.as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
            return _read(connection, model)
    except sqlite3.Error as error:
        raise MillError(f"{database}: the model registry cannot be read: {error}") from error


def _read(connection: sqlite3.Connection, model: str | None) -> list[Entry]:
    versions = connection.execute(
        "SELECT name, version, source FROM model_versions "
        "WHERE current_stage != 'Deleted_Internal' AND (?1 IS NULL OR name = ?1) "
        "ORDER BY creation_time DESC, name, version DESC",
        (model,),
    ).fetchall()
    tags: dict[tuple[str, int], dict[str, str]] = {}
    for name, version, key, value in connection.execute(
        "SELECT name, version, key, value FROM model_version_tags"
    ):
        tags.setdefault((name, version), {})[key] = value
    aliases: dict[tuple[str, int], list[str]] = {}
    for name, version, alias in connection.execute(
        "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias"
    ):
        aliases.setdefault((name, version), []).append(alias)
    return [
        Entry(name, version, source, tags.get(key, {}), tuple(aliases.get(key, ())))
        for name, version, source in versions
        for key in [(name, version)]
    ]


def holder(found: list[Entry], alias: str) -> Entry | None:
    """The version that carries an alias."""
    return next((entry for entry in found if alias in entry.aliases), None)


def parse(version: Artifact) -> tuple[str, int]:
    """(model, version) of a ``models:/model/3`` reference.

    Raises:
        ConfigError: it is none.
    """
    scheme, _, rest = version.name.partition(":/")
    model, _, number = rest.rpartition("/")
    if scheme != "models" or not model or not number.isdigit():
        raise ConfigError(f"{version.name}: not a registered version (models:/NAME/VERSION)")
    return model, int(number)


def all_figures(workspace: Workspace, reports: Mapping[str, Report]) -> dict[str, Figure]:
    """``report.figure`` -> figure, of every report."""
    return {
        f"{role}.{name}": figure
        for role, report in sorted(reports.items())
        for name, figure in read_report(workspace.path(report)).items()
    }


def stored_figures(settings: Settings, entry: Entry) -> dict[str, Figure]:
    """The same, as they were stored with a version."""
    folders = sorted((entry.files(settings) / REPORTS).glob("*/"))
    return {
        f"{folder.name}.{name}": figure
        for folder in folders
        for name, figure in read_report(folder).items()
    }


def registry_lock(settings: Settings) -> AbstractContextManager[None]:
    """One change of the registry at a time."""
    return locked(settings.mlflow / "registry.lock")
