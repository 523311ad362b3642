"""The roles of a stage: what ``modelmill stage`` asks for, and what it takes beside."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from components.core.action import Change
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Artifact, Lineage
from flows.configs.text_run import TextRun
from flows.pipelines.standalone_stages import beside
from flows.pipelines.text import text
from flows.runner.past_runs import UNKNOWN
from flows.runner.runner import C, Resolve

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Roles:
    """What a stage may be given: role -> kind."""

    needed: dict[str, type[Artifact]]
    optional: dict[str, type[Artifact]]
    """Roles with a default in the component's signature; ``more.*`` is a role of any name."""

    def kind(self, role: str) -> type[Artifact] | None:
        """What a role takes; None where the stage has no such role."""
        outer, dot, _ = role.partition(".")
        known = {**self.needed, **self.optional}
        return known.get(role) or (known.get(f"{outer}.*") if dot else None)

    @property
    def named(self) -> str:
        told = [*self.needed, *(f"{role} (optional)" for role in self.optional)]
        return ", ".join(told)


def roles_of(component: Callable[..., Any], inputs: Mapping[str, Any]) -> Roles:
    """From the component's signature; a mapping gives one role an entry.

    Args:
        inputs: what a flow gives it: the names of a mapping's entries stand there alone.
    """
    hints = get_type_hints(component)
    needed: dict[str, type[Artifact]] = {}
    optional: dict[str, type[Artifact]] = {}
    for role, parameter in inspect.signature(component).parameters.items():
        kinds = [kind for kind in (hints[role], *get_args(hints[role])) if _is_artifact(kind)]
        if not kinds:
            continue
        if parameter.default is inspect.Parameter.empty:
            given = inputs[role]
            names = [role] if isinstance(given, Artifact) else [f"{role}.{key}" for key in given]
            needed.update(dict.fromkeys(names, kinds[0]))
        else:
            mapping = get_origin(hints[role]) is Mapping
            optional[f"{role}.*" if mapping else role] = kinds[0]
    return Roles(needed, optional)


def _is_artifact(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Artifact)


def catalogue() -> dict[str, Roles]:
    """Every stage that can be run by itself, in the order of the flow; reads no store."""
    lister = _Lister()
    run = TextRun()
    text(run, lister, lambda config, _: config)
    beside(run, lister)
    return lister.stages


class _Lister:
    """A mill that notes what there is; its artifacts stand in for any."""

    def __init__(self) -> None:
        self.stages: dict[str, Roles] = {}

    def source(self, name: str, component: Callable[..., A], config: C, resolve: Resolve[C]) -> A:
        return self.step(name, component, config)

    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        self.stages[name] = roles_of(component, inputs)
        made: A = _stand_in(get_type_hints(component)["return"])
        return made

    def act(
        self, name: str, action: Callable[..., Change[A]], config: StageConfig, **inputs: Any
    ) -> A:
        made: A = _stand_in(get_args(get_type_hints(action)["return"])[0])
        return made


def _stand_in(kind: type[A]) -> A:
    lineage = Lineage(component=UNKNOWN, code="", config="")
    return kind(name=UNKNOWN, digest=UNKNOWN, lineage=lineage)
