"""What a run would do, and why. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from components.core.action import Change
from components.core.artifact import Artifact, Lineage
from components.core.code import component_name
from components.core.config import StageConfig
from components.core.store import Request, Store
from flows.step import C, Resolve

A = TypeVar("A", bound=Artifact)
UNKNOWN = "?"
"""Digest of an output that only the run itself will tell."""

CACHED, RUNS, WAITS, ACTION = (
    "cached",
    "would run",
    "runs unless its input comes out equal",
    "action",
)


@dataclass(frozen=True)
class Planned:
    """One step of a plan."""

    name: str
    state: str
    because: list[str]
    seconds: float | None
    """What it took last time; None where it never ran."""
    component: Callable[..., Any]
    config: StageConfig
    inputs: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Without what cannot be written down."""
        return {
            "name": self.name,
            "state": self.state,
            "because": self.because,
            "seconds": self.seconds,
        }


class PlanMill:
    """A mill that only looks: its artifacts are the store's, or stand-ins with digest ``?``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.steps: list[Planned] = []
        self._earlier = _newest_by_component(store)

    def source(self, name: str, component: Callable[..., A], config: C, resolve: Resolve[C]) -> A:
        resolved = resolve(config, self.store.records(component_name(component)))
        return self.step(name, component, resolved)

    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        request = self.store.request(component, config, inputs)
        last = self._earlier.get(request.lineage.component)
        seconds = last["artifact"]["stats"].get("seconds") if last else None
        waits = UNKNOWN in request.lineage.parents.values()
        found = None if waits else self.store.find(request.key, request.kind)
        if found is not None:
            state, because = CACHED, list[str]()
        else:
            because = self._reasons(request, last)
            state = WAITS if waits and because == [] else RUNS
        planned = Planned(name, state, because, seconds, component, config, inputs)
        self.steps.append(planned)
        artifact: A = found if found is not None else _stand_in(request.kind, request.lineage)  # type: ignore[assignment]
        return artifact

    def act(
        self, name: str, action: Callable[..., Change[A]], config: StageConfig, **inputs: Any
    ) -> A:
        self.steps.append(Planned(name, ACTION, [], None, action, config, inputs))
        kind = get_args(get_type_hints(action)["return"])[0]
        lineage = Lineage(component=component_name(action), code="", config="")
        artifact: A = _stand_in(kind, lineage)
        return artifact

    def _reasons(self, request: Request, last: dict[str, Any] | None) -> list[str]:
        """Which code, field or parent differs from the last time this stage was sealed."""
        if last is None:
            return ["never ran"]
        config = request.config.model_dump(mode="json")
        reasons = [
            f"{field}: {old!r} -> {new!r}"
            for field, old, new in _differences(last.get("config", {}), config)
        ]
        code = self.store.code.parts(request.component)
        reasons += [
            f"code of {module}"
            for module in sorted(code.keys() | last.get("code", {}).keys())
            if code.get(module) != last.get("code", {}).get(module)
        ]
        before = last["artifact"]["lineage"]["parents"]
        reasons += [
            f"input {role}"
            for role, digest in request.lineage.parents.items()
            if digest not in (UNKNOWN, before.get(role))
        ]
        if not reasons and UNKNOWN not in request.lineage.parents.values():
            reasons = ["its files are gone"]
        return reasons


def _stand_in(kind: type[A], lineage: Lineage) -> A:
    return kind(name=UNKNOWN, digest=UNKNOWN, lineage=lineage)


def _newest_by_component(store: Store) -> dict[str, dict[str, Any]]:
    return {manifest["component"]: manifest for manifest in store.sealed()}  # the newest wins


def _differences(old: Any, new: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[tuple[str, Any, Any]] = []
        for key in sorted(old.keys() | new.keys()):
            found += _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
        return found
    return [] if old == new else [(at, old, new)]
