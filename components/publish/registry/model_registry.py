"""The model registry: registered versions with their aliases, tags and files, and its lock.

Reading goes to MLflow's tables directly (``mlflow_tables``), which takes a millisecond; versions
are made through MLflow (``register``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ConfigError
from components.core.io.locks import hold_lock, try_lock
from components.core.settings import Settings
from components.core.store.artifact import Artifact
from components.publish.registry.mlflow_tables import logged_model_folder, select_versions

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
TAG = "modelmill."
"""Begins the names of all tags that are ours."""
BUNDLE_TAG = TAG + "bundle"
"""Digest of the bundle that a version holds: what a version is found again by."""
DATASET_TAG = TAG + "dataset"
"""Digest of the corpus that a version was trained on."""
BASE_TAG, BASE_LICENCE_TAG = TAG + "base", TAG + "base_licence"
"""Name and licence of somebody's model that a version was made of."""
REGISTERED_TAG = TAG + "registered"
"""Set when a version carries everything, its alias too."""
GATES_TAG = TAG + "gates"
"""Outcome of a version's gates: ``passed``, or which refused."""
PROMOTED_TAG, ROLLED_BACK_TAG = TAG + "promoted", TAG + "rolled_back"
"""On a version that was champion, and on one that was taken off again."""
FORGOTTEN_TAG = TAG + "forgotten"
"""Names what is to be forgotten and went into a version."""
VERSION_SCHEME = "models:/"
"""Begins MLflow's addresses of versions and of logged models."""
DOSSIER_FILE = "dossier.html"
"""Page about a version, among its files."""
_LOCK_FILE = "registry.lock"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    model: str
    version: int
    source: str
    """``models:/m-…``: the logged model that holds its files."""
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """MLflow's address of it: ``models:/NAME/VERSION``."""
        return f"{VERSION_SCHEME}{self.model}/{self.version}"

    def files_folder(self, settings: Settings) -> Path:
        """The folder of its artifacts."""
        return logged_model_folder(settings, self.source) / "artifacts"


def list_versions(settings: Settings, model: str | None = None) -> list[RegisteredVersion]:
    """Registered versions, newest first; of one model or of all.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    return [
        RegisteredVersion(row.model, row.version, row.source, row.tags, tuple(row.aliases))
        for row in select_versions(settings, model)
    ]


def find_by_alias(versions: list[RegisteredVersion], alias: str) -> RegisteredVersion | None:
    """The version that carries an alias; None where none does."""
    return next((entry for entry in versions if alias in entry.aliases), None)


def forgotten_orders(entry: RegisteredVersion) -> list[str]:
    """Targets of the orders to forget something that went into a version."""
    return [order for order in entry.tags.get(FORGOTTEN_TAG, "").split(", ") if order]


def parse_version(version: Artifact) -> tuple[str, int]:
    """(model, version) of a ``models:/model/3`` reference.

    Raises:
        ConfigError: it is none.
    """
    scheme, _, rest = version.name.partition(":/")
    model, _, number = rest.rpartition("/")
    if scheme != "models" or not model or not number.isdigit():
        raise ConfigError(f"{version.name}: not a registered version (models:/NAME/VERSION)")
    return model, int(number)


def registry_lock(settings: Settings) -> AbstractContextManager[None]:
    """Lock under which the registry is changed, by one process at a time."""
    return hold_lock(settings.mlflow / _LOCK_FILE)


def try_registry_lock(settings: Settings) -> AbstractContextManager[bool]:
    """The same lock without waiting; gives False where another process holds it."""
    return try_lock(settings.mlflow / _LOCK_FILE)
