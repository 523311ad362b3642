"""MLflow's SQLite tables: the one module that names them, for reading and for writing.

Whether there is anything to do is asked at every run; a read-only query answers in a millisecond
where importing MLflow takes seconds. Aliases and tags are written straight, too, since a promotion
moves several at once: in one transaction they move together or not at all, which MLflow's calls,
one alias each, cannot promise. Tests hold reading and writing against MLflow's own.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.errors import MillError
from components.core.io.atomic_write import atomic_path
from components.core.settings import Settings
from components.core.workspace_layout import mark_layout

PATIENCE_SECONDS = 20.0
"""Seconds to wait for another process's change of the database."""
DatabaseError = sqlite3.Error
LONGEST_DESCRIPTION = 5000
"""Characters that MLflow's column takes."""


def database_path(settings: Settings) -> Path:
    """MLflow's database of the workspace."""
    return settings.mlflow / "mlflow.db"


def create_database(settings: Settings) -> None:
    """Make the database beside its place and move it there whole.

    Its dozens of migrations are no transaction: killed half-way they could not be repeated.
    """
    database = database_path(settings)
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    mark_layout(settings.home)
    settings.mlflow.mkdir(parents=True, exist_ok=True)
    for leftover in settings.mlflow.glob("mlflow.*.partial*"):
        leftover.unlink()
    with atomic_path(database, suffix=f".{os.getpid()}.partial") as temporary:
        store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
            f"sqlite:///{temporary}", artifact_root(settings)
        )
        store.engine.dispose()


_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""(table, column) of every absolute address that MLflow writes down."""


_ROOT = re.compile(r"(.*/mlflow/artifacts)(?:/[^/]*)?")
"""The root in an experiment's address, which has at most the experiment's id behind it. The last
``/mlflow/artifacts`` counts: a workspace may itself lie below a folder of that name."""


def update_artifact_addresses(settings: Settings) -> None:
    """Let the database of a workspace that was moved or copied name this place.

    MLflow writes absolute addresses; left as they are, a copy would write into its original.
    """
    root = artifact_root(settings)
    with closing(sqlite3.connect(database_path(settings), timeout=PATIENCE_SECONDS)) as database:
        places = database.execute("SELECT artifact_location FROM experiments").fetchall()
        matches = [_ROOT.fullmatch(place or "") for (place,) in places]
        others = {match[1] for match in matches if match} - {root}
        with database:
            # The longest first, and what names this place already stays: one root may begin
            # with another.
            for old in sorted(others, key=len, reverse=True):
                inside = root.startswith(f"{old}/")
                for table, column in _ADDRESSES:
                    database.execute(
                        f"UPDATE {table} SET {column} = :root || substr({column}, :length + 1) "  # noqa: S608
                        f"WHERE substr({column} || '/', 1, :length + 1) = :old || '/' "
                        f"AND NOT (:inside AND substr({column} || '/', 1, length(:root) + 1) "
                        "= :root || '/')",
                        {"root": root, "old": old, "length": len(old), "inside": inside},
                    )


def artifact_root(settings: Settings) -> str:
    """Absolute address of the workspace's folder for MLflow's artifacts."""
    return artifacts_folder(settings).as_uri()


def artifacts_folder(settings: Settings) -> Path:
    """Folder of MLflow's artifacts; in it a folder a run, by its id."""
    return settings.mlflow / "artifacts"


def logged_model_folder(settings: Settings, source: str) -> Path:
    """Folder of a logged model, with its files in ``artifacts``.

    Args:
        settings: names the workspace, whose files are meant: the addresses in a copied database may
            still name the place it was copied from.
        source: ``models:/m-…``, or the id alone.
    """
    return artifacts_folder(settings) / "models" / source.removeprefix("models:/")


@contextmanager
def _open_tables(settings: Settings, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """A connection for reading (``ro``) or writing (``rw``), closed at the end.

    Raises:
        MillError: the database is not one that this MLflow writes, or is locked or damaged.
    """
    path = database_path(settings)
    try:
        address = f"{path.as_uri()}?mode={mode}"
        opened = sqlite3.connect(address, uri=True, timeout=PATIENCE_SECONDS)
        with closing(opened) as connection:
            yield connection
    except sqlite3.Error as error:
        done = "read" if mode == "ro" else "written"
        raise MillError(f"{path}: the model registry cannot be {done}: {error}") from error


def _select_rows(settings: Settings, query: str, *values: str) -> list[Any]:
    """Rows of a query; none where there is no database yet."""
    if not database_path(settings).exists():
        return []
    with _open_tables(settings) as connection:
        return connection.execute(query, values).fetchall()


@dataclass(frozen=True)
class VersionRow:
    """A registered version as the tables hold it."""

    model: str
    version: int
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)


def select_versions(settings: Settings, model: str | None = None) -> list[VersionRow]:
    """Registered versions, newest first; of one model or of all. None without a database.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    if not database_path(settings).exists():
        return []
    with _open_tables(settings) as connection:
        return _select_versions(connection, model)


def _select_versions(connection: sqlite3.Connection, model: str | None) -> list[VersionRow]:
    rows = connection.execute(
        "SELECT name, version, source FROM model_versions "
        "WHERE current_stage != 'Deleted_Internal' AND (?1 IS NULL OR name = ?1) "
        "ORDER BY creation_time DESC, name, version DESC",
        (model,),
    ).fetchall()
    versions = {
        (name, version): VersionRow(name, version, source) for name, version, source in rows
    }
    for name, version, key, value in connection.execute(
        "SELECT name, version, key, value FROM model_version_tags"
    ):
        if (name, version) in versions:
            versions[name, version].tags[key] = value
    for name, version, alias in connection.execute(
        "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias"
    ):
        if (name, version) in versions:
            versions[name, version].aliases.append(alias)
    return list(versions.values())


def write_aliases_and_tags(
    settings: Settings,
    model: str,
    aliases: Mapping[str, int | None],
    tags: Mapping[tuple[int, str], str | None],
) -> None:
    """Set or remove several aliases and tags of one model in one transaction.

    Args:
        settings: workspace whose registry database is written.
        model: a registered model.
        aliases: alias -> version; None removes the alias.
        tags: (version, key) -> value; None removes the tag.

    Raises:
        MillError: there is no such version, or the database cannot be written.
    """
    with _open_tables(settings, "rw") as connection:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        known = {row.version for row in _select_versions(connection, model)}
        named = {version for version in aliases.values() if version is not None}
        if missing := (named | {version for version, _ in tags}) - known:
            raise MillError(f"{model} has no version {min(missing)} any more")
        for alias, version in aliases.items():
            row = {"name": model, "alias": alias, "version": version}
            connection.execute(_DELETE_ALIAS if version is None else _SET_ALIAS, row)
        for (number, key), value in tags.items():
            values = {"name": model, "version": number, "key": key, "value": value}
            connection.execute(_DELETE_TAG if value is None else _SET_TAG, values)
        connection.execute("COMMIT")


_DELETE_ALIAS = "DELETE FROM registered_model_aliases WHERE name = :name AND alias = :alias"
_SET_ALIAS = """
INSERT INTO registered_model_aliases (name, alias, version) VALUES (:name, :alias, :version)
ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version
"""
_DELETE_TAG = (
    "DELETE FROM model_version_tags WHERE name = :name AND version = :version AND key = :key"
)
_SET_TAG = """
INSERT INTO model_version_tags (name, version, key, value) VALUES (:name, :version, :key, :value)
ON CONFLICT (workspace, key, name, version) DO UPDATE SET value = excluded.value
"""


def select_dangling_aliases(settings: Settings) -> list[tuple[str, str, int]]:
    """(model, alias, version) of aliases whose version is not there.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    return _select_rows(
        settings,
        "SELECT a.name, a.alias, a.version FROM registered_model_aliases a WHERE NOT EXISTS ("
        "SELECT 1 FROM model_versions v WHERE v.name = a.name AND v.version = a.version "
        "AND v.current_stage != 'Deleted_Internal')",
    )


def select_description(settings: Settings, model: str, version: int) -> tuple[str, str, str] | None:
    """(description, experiment id, run id) of a version; None where there is no such version.

    Args:
        settings: workspace whose registry database is read.
        model: a registered model.
        version: number of the version.

    Raises:
        MillError: the database cannot be read.
    """
    with _open_tables(settings) as connection:
        row = connection.execute(
            "SELECT coalesce(v.description, ''), coalesce(r.experiment_id, ''), "
            "coalesce(v.run_id, '') FROM model_versions v "
            "LEFT JOIN runs r ON r.run_uuid = v.run_id WHERE v.name = ? AND v.version = ?",
            (model, version),
        ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]), str(row[2]))


def update_description(settings: Settings, model: str, version: int, text: str) -> None:
    """Set the description of a version, which MLflow's UI shows as Markdown.

    Args:
        settings: workspace whose registry database is written.
        model: a registered model.
        version: number of the version.
        text: at most ``LONGEST_DESCRIPTION`` characters; the rest is cut off.

    Raises:
        MillError: the database cannot be written.
    """
    with _open_tables(settings, "rw") as connection, connection:
        connection.execute(
            "UPDATE model_versions SET description = ? WHERE name = ? AND version = ?",
            (text[:LONGEST_DESCRIPTION], model, version),
        )


def select_tagged_runs(settings: Settings, key: str) -> list[tuple[str, str]]:
    """(run id, value) of every run that carries the tag ``key``. None without a database.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    query = "SELECT run_uuid, value FROM tags WHERE key = ?1 ORDER BY run_uuid"
    return _select_rows(settings, query, key)


@dataclass(frozen=True)
class LifecycleRow:
    """A run or a logged model: how it stands, and who made it."""

    id: str
    deleted_at: float | None
    """Unix time of its deletion in MLflow; None where it is not deleted."""
    finished: bool
    tagged: bool
    """It carries the tag asked for."""


def select_logged_models(settings: Settings, key: str) -> list[LifecycleRow]:
    """Every logged model; ``tagged`` where it carries the tag ``key``.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    rows = _select_rows(
        settings,
        "SELECT model_id, lifecycle_stage, last_updated_timestamp_ms, EXISTS (SELECT 1 FROM "
        "logged_model_tags t WHERE t.model_id = m.model_id AND t.tag_key = ?1) "
        "FROM logged_models m",
        key,
    )
    return [
        LifecycleRow(id_, changed / 1000 if stage == "deleted" else None, False, bool(tagged))
        for id_, stage, changed, tagged in rows
    ]


def select_runs(settings: Settings, key: str) -> list[LifecycleRow]:
    """Every run; ``tagged`` where it carries the tag ``key``.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    rows = _select_rows(
        settings,
        "SELECT run_uuid, status, lifecycle_stage, deleted_time, EXISTS (SELECT 1 FROM tags t "
        "WHERE t.run_uuid = r.run_uuid AND t.key = ?1) FROM runs r",
        key,
    )
    return [
        LifecycleRow(
            id_,
            (deleted or 0) / 1000 if stage == "deleted" else None,
            status == "FINISHED",
            bool(tagged),
        )
        for id_, status, stage, deleted, tagged in rows
    ]


class RowDeletion:
    """Deletes rows for good, with all that hangs on them, by the calls behind ``mlflow gc``.

    The command itself would also delete files, by their recorded address; a copied workspace
    still names the place it was copied from, so files are left to the caller.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def delete_run(self, run: str) -> None:
        """Delete a run's rows; one that is not there is no error."""
        with pass_over_missing():
            self._store._hard_delete_run(run)

    def delete_logged_model(self, model: str) -> None:
        """Delete a logged model's rows; one that is not there is no error."""
        with pass_over_missing():
            self._store._hard_delete_logged_model(model)


@contextmanager
def pass_over_missing() -> Iterator[None]:
    """End the block in peace where MLflow says that a thing is not there."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


@contextmanager
def row_deletion(settings: Settings) -> Iterator[RowDeletion]:
    """The tables of an existing database, opened to delete rows."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        settings.mlflow_uri, artifact_root(settings)
    )
    try:
        yield RowDeletion(store)
    finally:
        store.engine.dispose()
