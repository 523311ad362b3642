"""Actions: steps that change the world outside the store (push, register, promote, package).

An action looks at the outside object each time, is keyed by the digest it acts on, and changes
nothing when there is nothing to do, so that a cached run never undoes a rollback. It is declared
with ``@action``, which also names its dry run: the look that tells a plan whether a run would find
anything to do.

    @action(dry_run=dry_run_announce)
    def announce(config: AnnounceConfig, version: ModelVersion, workspace: Workspace) -> Change[…]:
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_type_hints, overload

from components.core.config.stage_config import StageConfig
from components.core.errors import MillError
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import (
    Artifact,
    Inputs,
    Lineage,
    component_name,
    parent_digests,
)

A = TypeVar("A", bound=Artifact, covariant=True)
P = ParamSpec("P")


@dataclass(frozen=True)
class Change(Generic[A]):
    """Result of an action: the artifact it left, and whether it changed anything."""

    artifact: A
    changed: bool
    note: str = ""
    """Short text for the closing table: the version, the address."""
    ends: str = ""
    """Reason why the run ends here; empty where it continues."""


@dataclass(frozen=True)
class Workspace:
    """Access of an action to the workspace's folders, and to the store read-only."""

    settings: Settings
    progress: Progress = field(default_factory=Progress)

    def artifact_folder(self, artifact: Artifact) -> Path:
        """The folder of a sealed artifact."""
        return self.settings.store / artifact.name

    def action_lineage(self, action: Action[..., Any], inputs: Inputs) -> Lineage:
        """Lineage of an action's result: the action's name and its inputs."""
        name = component_name(action)
        return Lineage(component=name, code="", config="", parents=parent_digests(inputs))


class Action(Generic[P, A]):
    """A function declared with ``@action``: called as it is, and asked by a plan beforehand.

    It carries the function's name, module and signature, as a stage does, so that lineage,
    configuration keys and ``modelmill stage`` treat both alike.
    """

    __module__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, Change[A]],
        dry_run: Callable[P, Change[A] | None] | None,
    ) -> None:
        self._function, self._dry_run = function, dry_run
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Change[A]:
        return self._function(*args, **kwargs)

    @property
    def kind(self) -> type[A]:
        """The artifact that it leaves behind."""
        kind: type[A] = get_args(get_type_hints(self._function)["return"])[0]
        return kind

    def dry_run(
        self, config: StageConfig, inputs: Mapping[str, Any], workspace: Workspace
    ) -> Change[A] | None:
        """Ask the outside object what a run would leave behind and change; changes nothing.

        Args:
            config: the action's own.
            inputs: role -> artifact or mapping of artifacts, all of them made already.
            workspace: where the action would act.

        Returns:
            None where only the run can tell: no dry run is declared, or it cannot look now.
        """
        if self._dry_run is None:
            return None
        look: Callable[..., Change[A] | None] = self._dry_run
        try:
            return look(config, **inputs, workspace=workspace)
        except (MillError, OSError):
            return None  # it cannot be read now; the run will say what is wrong


@overload
def action(
    *, dry_run: Callable[P, Change[A] | None]
) -> Callable[[Callable[P, Change[A]]], Action[P, A]]: ...


@overload
def action(*, reads_only: bool = False) -> Callable[[Callable[P, Change[A]]], Action[P, A]]: ...


def action(
    *, dry_run: Callable[..., Any] | None = None, reads_only: bool = False
) -> Callable[[Callable[P, Change[A]]], Action[P, A]]:
    """Declare a function an action.

    Args:
        dry_run: takes what the action takes, changes nothing and returns the ``Change`` that a run
            would return, or None where only the run can tell. It reads a few local files at most:
            a plan asks it each time.
        reads_only: the action itself changes nothing, so it is its own dry run.
    """

    def declare(function: Callable[P, Change[A]]) -> Action[P, A]:
        return Action(function, function if reads_only else dry_run)

    return declare
