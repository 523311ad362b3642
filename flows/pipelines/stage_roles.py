"""Input roles of a stage, required and optional, as ``modelmill stage`` asks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from typing_extensions import override

from components.core.action import Action
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Artifact, placeholder_artifact
from flows.configs.text_run import TextRun
from flows.pipelines.choose_pipeline import call_pipeline
from flows.pipelines.standalone_stages import declare_standalone_stages
from flows.runner.runner import C, Runner, SourceResolver

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class StageRoles:
    """Input roles of a stage, with the kind of artifact that each takes."""

    needed: dict[str, type[Artifact]]
    optional: dict[str, type[Artifact]]
    """Roles with a default in the component's signature; ``more.*`` stands for any name."""

    def kind(self, role: str) -> type[Artifact] | None:
        """Kind of artifact that a role takes; None where the stage has no such role."""
        outer, dot, _ = role.partition(".")
        known = {**self.needed, **self.optional}
        return known.get(role) or (known.get(f"{outer}.*") if dot else None)

    @property
    def listing(self) -> str:
        """Roles as a line for error messages."""
        return ", ".join([*self.needed, *(f"{role} (optional)" for role in self.optional)])


def roles_of(component: Callable[..., Any], inputs: Mapping[str, Any]) -> StageRoles:
    """Roles by the component's signature; a mapping parameter is one role an entry.

    Args:
        component: function of the stage.
        inputs: artifacts that the flow passes, which alone name the entries of a mapping.
    """
    hints = get_type_hints(component)
    needed: dict[str, type[Artifact]] = {}
    optional: dict[str, type[Artifact]] = {}
    for role, parameter in inspect.signature(component).parameters.items():
        kinds = [kind for kind in (hints[role], *get_args(hints[role])) if _is_artifact(kind)]
        if not kinds:
            continue
        if parameter.default is inspect.Parameter.empty:
            value = inputs[role]
            names = [role] if isinstance(value, Artifact) else [f"{role}.{key}" for key in value]
            needed.update(dict.fromkeys(names, kinds[0]))
        else:
            is_mapping = get_origin(hints[role]) is Mapping
            optional[f"{role}.*" if is_mapping else role] = kinds[0]
    return StageRoles(needed, optional)


def _is_artifact(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Artifact)


def list_stages() -> dict[str, StageRoles]:
    """Roles of every stage that can be run by itself, in the pipeline's order; reads no store."""
    collector = _RoleCollector()
    run = TextRun()
    call_pipeline(run, collector, lambda config, _: config)
    declare_standalone_stages(run, collector)
    return collector.stages


class _RoleCollector(Runner):
    """Runner that collects the roles of stages and returns placeholders."""

    def __init__(self) -> None:
        self.stages: dict[str, StageRoles] = {}

    @override
    def source(
        self, name: str, component: Callable[..., A], config: C, resolve: SourceResolver[C]
    ) -> A:
        return self.step(name, component, config)

    @override
    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        self.stages[name] = roles_of(component, inputs)
        kind: type[A] = get_type_hints(component)["return"]
        return placeholder_artifact(kind)

    @override
    def action(self, name: str, action: Action[..., A], config: StageConfig, **inputs: Any) -> A:
        return placeholder_artifact(action.kind)
