"""A version's description, which MLflow's UI shows as Markdown, and where its files are shown."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from components.core.errors import MillError
from components.core.settings import Settings
from components.publish.registry.model_registry import Entry

LONGEST = 5000
"""Characters that MLflow's column takes."""
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Described:
    """What MLflow knows of a version beside its tags."""

    text: str
    """The description; empty where there is none."""
    experiment: str
    run: str
    """The MLflow run that registered it."""


def described(settings: Settings, entry: Entry) -> Described:
    """The description of a version, and the run and experiment it came from.

    Raises:
        MillError: the registry cannot be read.
    """
    with closing(_open(settings, "ro")) as connection:
        try:
            row = connection.execute(
                "SELECT coalesce(v.description, ''), coalesce(r.experiment_id, ''), "
                "coalesce(v.run_id, '') FROM model_versions v "
                "LEFT JOIN runs r ON r.run_uuid = v.run_id WHERE v.name = ? AND v.version = ?",
                (entry.model, entry.version),
            ).fetchone()
        except sqlite3.Error as error:
            raise MillError(f"{entry.uri}: the model registry cannot be read: {error}") from error
    return Described(*map(str, row)) if row else Described("", "", "")


def describe(settings: Settings, entry: Entry, text: str) -> None:
    """Set the description of a version.

    Raises:
        MillError: the registry cannot be written.
    """
    with closing(_open(settings, "rw")) as connection:
        try:
            with connection:
                connection.execute(
                    "UPDATE model_versions SET description = ? WHERE name = ? AND version = ?",
                    (text[:LONGEST], entry.model, entry.version),
                )
        except sqlite3.Error as error:
            raise MillError(f"{entry.uri}: its description cannot be written: {error}") from error


def _open(settings: Settings, mode: str) -> sqlite3.Connection:
    database = settings.mlflow / "mlflow.db"
    try:
        return sqlite3.connect(
            f"{database.as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE_SECONDS
        )
    except sqlite3.Error as error:
        raise MillError(f"{database}: the model registry cannot be opened: {error}") from error
