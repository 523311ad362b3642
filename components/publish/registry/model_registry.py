"""The model registry: read straight from its SQLite tables; versions are made through MLflow.

Whether there is anything to do is asked at every run; a read-only query answers in a millisecond
where importing MLflow takes seconds. Aliases and tags are also written straight, since a promotion
moves several at once: in one transaction they move together or not at all, which MLflow's calls,
one alias each, cannot promise. Tests hold reading and writing against MLflow's own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from components.core.action import Workspace
from components.core.errors import ConfigError, DataError, MillError
from components.core.io.locks import hold_lock, try_lock
from components.core.settings import Settings
from components.core.stats.figures import Figure, exact, proportion_interval, read_report
from components.core.stats.report_items import Items, read_items
from components.core.store.artifact import Artifact, Report
from components.publish.promotion.champion_comparison import Measured

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
TAG = "modelmill."
BUNDLE_TAG = TAG + "bundle"
"""Digest of the bundle that a version holds: what a version is found again by."""
BUNDLE_FILE = "bundle.json"
FORGOTTEN_TAG = TAG + "forgotten"
"""Names what is to be forgotten and went into a version."""
REPORTS = "reports"
"""Folder of a version's artifacts that holds its reports, one a folder."""
_PATIENCE_SECONDS = 20.0
_LOCK_FILE = "registry.lock"


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


def write(
    settings: Settings,
    model: str,
    aliases: Mapping[str, int | None],
    tags: Mapping[tuple[int, str], str | None],
) -> None:
    """Set aliases (alias -> version) and tags ((version, key) -> value); None takes one away.

    All of it is one transaction of the database.

    Raises:
        MillError: there is no such version, or the database cannot be written.
    """
    database = settings.mlflow / "mlflow.db"
    address = f"{database.as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            _write(connection, model, aliases, tags)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise MillError(f"{database}: the model registry cannot be written: {error}") from error


def _write(
    connection: sqlite3.Connection,
    model: str,
    aliases: Mapping[str, int | None],
    tags: Mapping[tuple[int, str], str | None],
) -> None:
    known = {entry.version for entry in _read(connection, model)}
    named = {version for version in aliases.values() if version is not None}
    if missing := (named | {version for version, _ in tags}) - known:
        raise MillError(f"{model} has no version {min(missing)} any more")
    for alias, version in aliases.items():
        key = {"name": model, "alias": alias, "version": version}
        if version is None:
            connection.execute(
                "DELETE FROM registered_model_aliases WHERE name = :name AND alias = :alias", key
            )
        else:
            connection.execute(
                "INSERT INTO registered_model_aliases (name, alias, version) "
                "VALUES (:name, :alias, :version) ON CONFLICT (workspace, name, alias) "
                "DO UPDATE SET version = excluded.version",
                key,
            )
    for (number, tag), value in tags.items():
        row = {"name": model, "version": number, "key": tag, "value": value}
        if value is None:
            connection.execute(
                "DELETE FROM model_version_tags "
                "WHERE name = :name AND version = :version AND key = :key",
                row,
            )
        else:
            connection.execute(
                "INSERT INTO model_version_tags (name, version, key, value) "
                "VALUES (:name, :version, :key, :value) "
                "ON CONFLICT (workspace, key, name, version) DO UPDATE SET value = excluded.value",
                row,
            )


def holder(found: list[Entry], alias: str) -> Entry | None:
    """The version that carries an alias."""
    return next((entry for entry in found if alias in entry.aliases), None)


def forgotten_orders(entry: Entry) -> list[str]:
    """What is to be forgotten and went into a version: the targets of the orders."""
    return [order for order in entry.tags.get(FORGOTTEN_TAG, "").split(", ") if order]


def dangling_aliases(settings: Settings) -> list[tuple[str, str, int]]:
    """(model, alias, version) of aliases whose version is not there.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    database = settings.mlflow / "mlflow.db"
    if not database.exists():
        return []
    address = f"{database.as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
            return connection.execute(_DANGLING).fetchall()
    except sqlite3.Error as error:
        raise MillError(f"{database}: the model registry cannot be read: {error}") from error


_DANGLING = """
SELECT a.name, a.alias, a.version FROM registered_model_aliases a WHERE NOT EXISTS (
    SELECT 1 FROM model_versions v WHERE v.name = a.name AND v.version = a.version
    AND v.current_stage != 'Deleted_Internal'
)
"""


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


def parity_figures(settings: Settings, entry: Entry) -> dict[str, Figure]:
    """What the bundle's records say of each form that a version holds, as figures.

    ``parity.FORM.kl_mean`` and ``parity.FORM.top1_agreement`` (Wilson's interval over positions),
    ``parity.forms`` and ``parity.left_out``: how many passed and how many did not.

    Raises:
        DataError: the records cannot be read.
    """
    path = entry.files(settings) / BUNDLE_FILE
    figures: dict[str, Figure] = {}
    try:
        forms = json.loads(path.read_bytes())["forms"]
        passing = {form: parity for form, parity in sorted(forms.items()) if parity["passes"]}
        for form, parity in passing.items():
            n = int(parity["positions"])
            agreed = round(parity["top1_agreement"] * n)
            named = f"parity.{form}."
            figures[f"{named}kl_mean"] = exact("kl_mean", parity["kl_mean"], "nats", n)
            figures[f"{named}top1_agreement"] = proportion_interval(
                agreed, n, name="top1_agreement"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{entry.uri}: {path.name} holds no parity records: {error}") from error
    figures["parity.forms"] = exact("forms", len(passing), n=len(forms))
    figures["parity.left_out"] = exact("left_out", len(forms) - len(passing), n=len(forms))
    return figures


def measured_now(workspace: Workspace, reports: Mapping[str, Report], entry: Entry) -> Measured:
    """A version by the reports of this run and the parity records stored with it."""
    folders = {role: workspace.path(report) for role, report in sorted(reports.items())}
    parity = parity_figures(workspace.settings, entry)
    return Measured({**all_figures(workspace, reports), **parity}, _items(folders))


def measured_before(settings: Settings, entry: Entry) -> Measured:
    """A version by what was stored with it."""
    folders = {p.name: p for p in sorted((entry.files(settings) / REPORTS).glob("*/"))}
    figures = {**stored_figures(settings, entry), **parity_figures(settings, entry)}
    return Measured(figures, _items(folders))


def _items(folders: Mapping[str, Path]) -> dict[str, Items]:
    found = {role: read_items(folder) for role, folder in folders.items()}
    return {role: items for role, items in found.items() if items is not None}


def registry_lock(settings: Settings) -> AbstractContextManager[None]:
    """One change of the registry at a time."""
    return hold_lock(settings.mlflow / _LOCK_FILE)


def registry_lock_if_free(settings: Settings) -> AbstractContextManager[bool]:
    """The same lock without waiting; whether it was free."""
    return try_lock(settings.mlflow / _LOCK_FILE)
