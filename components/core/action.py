"""Actions change the world outside the store: push, register, promote, package, smoke.

They look at the outside object each time, are keyed by the digest they act on, and change nothing
when there is nothing to do, so that a cached run never undoes a rollback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import Artifact, Inputs, Lineage, parents_of

A = TypeVar("A", bound=Artifact, covariant=True)


@dataclass(frozen=True)
class Change(Generic[A]):
    """What an action left behind, and whether it had to do anything."""

    artifact: A
    changed: bool
    note: str = ""
    """A few words for the closing table: the version, the address."""
    ends: str = ""
    """Why the run has nothing to do after this; empty where it goes on."""


@dataclass(frozen=True)
class Workspace:
    """What an action may touch: the workspace's folders, and the store read-only."""

    settings: Settings
    progress: Progress = field(default_factory=Progress)

    def path(self, artifact: Artifact) -> Path:
        """The folder of a sealed artifact."""
        return self.settings.store / artifact.name

    def lineage(self, action: str, inputs: Inputs) -> Lineage:
        """Lineage of what an action makes: its name and what it acted on."""
        return Lineage(component=action, code="", config="", parents=parents_of(inputs))
