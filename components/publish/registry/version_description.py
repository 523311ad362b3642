"""Description of a version, which MLflow's UI shows as Markdown, and the run that registered it."""

from __future__ import annotations

from dataclasses import dataclass

from components.core.settings import Settings
from components.publish.registry.mlflow_tables import select_description, update_description
from components.publish.registry.model_registry import RegisteredVersion


@dataclass(frozen=True)
class VersionDescription:
    """A version's description and its place in MLflow."""

    text: str
    """The description; empty where there is none."""
    experiment: str
    run: str
    """The MLflow run that registered it."""


def read_description(settings: Settings, entry: RegisteredVersion) -> VersionDescription:
    """The description of a version, and the run and experiment it came from.

    Raises:
        MillError: the registry cannot be read.
    """
    row = select_description(settings, entry.model, entry.version)
    return VersionDescription(*row) if row else VersionDescription("", "", "")


def write_description(settings: Settings, entry: RegisteredVersion, text: str) -> None:
    """Set the description of a version.

    Args:
        settings: workspace whose registry holds the version.
        entry: version to describe.
        text: Markdown.

    Raises:
        MillError: the registry cannot be written.
    """
    update_description(settings, entry.model, entry.version, text)
