"""What a run would do, and why. Runs nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_type_hints

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Artifact, Inputs, Lineage
from components.core.store.code_digest import component_name
from components.core.store.store import Request, Store
from components.core.training_speed import Speeds
from components.train.budget.minutes_budget import MinutesBudget
from components.train.budget.step_plan import JOURNAL
from flows.configs.prices import Prices
from flows.runner.action_dry_run import look
from flows.runner.past_runs import (
    UNKNOWN,
    History,
    artifact_key,
    changed_modules,
    changed_parents,
    differences,
)
from flows.runner.runner import C, Resolve
from flows.runner.stage_time import Expectation, Origin

A = TypeVar("A", bound=Artifact)

CACHED, RUNS, WAITS, ACTION = (
    "cached",
    "would run",
    "runs unless its input comes out equal",
    "action",
)
NEVER, GONE, UNDONE = "never ran", "its files are gone", "not done yet for these inputs"


@dataclass(frozen=True)
class Reason:
    """One thing that is not as it was in the most similar earlier run."""

    kind: str
    """``config``, ``code``, ``parent``, ``new``, ``files``, ``outside`` or ``ends``."""
    what: str
    """The field, the module, the role; a sentence for the others."""
    old: Any = None
    new: Any = None
    step: str | None = None
    """The upstream step that a parent comes from."""
    since: tuple[str, ...] = ()
    """The steps further up that have a reason of their own to run."""

    def __str__(self) -> str:
        if self.kind == "config":
            return f"{self.what}: {self.old!r} -> {self.new!r}"
        if self.kind == "code":
            return f"code of {self.what}"
        if self.kind != "parent":
            return self.what
        origin = f" from {self.step}" if self.step else ""
        beyond = [step for step in self.since if step != self.step]
        why = f", since {', '.join(beyond)} would run" if beyond else ""
        return f"input {self.what}{origin}{why}"

    def as_json(self) -> dict[str, Any]:
        """Everything, as values."""
        shown = {"kind": self.kind, "what": self.what}
        if self.kind in ("config", "code", "parent"):
            shown.update(old=self.old, new=self.new)
        return shown | ({"step": self.step, "since": self.since} if self.kind == "parent" else {})


@dataclass(frozen=True)
class Planned:
    """One step of a plan."""

    name: str
    state: str
    reasons: list[Reason]
    seconds: float | None
    """What it is expected to take this time, if it runs; None where nothing tells."""
    last_seconds: float | None
    component: Callable[..., Any]
    config: StageConfig
    inputs: Mapping[str, Any]
    cost: float | None = None
    unchanged: bool | None = None
    """Of an action: whether it would find nothing to do; None where only the run will tell."""
    like: str | None = None
    """Key of the earlier result that it is compared with."""
    expected_from: Origin | None = None
    """What ``seconds`` rest on: past runs, a budget of minutes, the measured speed, or a crawl's
    pauses, which are the least it takes.
    """
    minutes_budget: MinutesBudget | None = None
    """Of a training for so many minutes: the steps that they come to here."""
    begun: bool = False
    """An earlier try has its steps already, whatever the speed is now."""
    roots: tuple[str, ...] = field(default=())
    """Steps with a reason of their own that may change what comes out of this one."""

    @property
    def because(self) -> list[str]:
        """The reasons, in words."""
        return [str(reason) for reason in self.reasons]

    def as_json(self) -> dict[str, Any]:
        """Without what cannot be written down."""
        return {
            "name": self.name,
            "state": self.state,
            "unchanged": self.unchanged,
            "because": self.because,
            "reasons": [reason.as_json() for reason in self.reasons],
            "compared_with": self.like,
            "seconds": self.seconds,
            "expected_from": self.expected_from,
            "minutes_budget": self._budget_json(),
            "last_seconds": self.last_seconds,
            "cost": self.cost,
        }

    @property
    def refusal(self) -> str | None:
        """Why a run would be refused for this step's minutes; None where it would not."""
        if self.minutes_budget is None or self.begun or self.state == CACHED:
            return None
        return self.minutes_budget.refusal

    def _budget_json(self) -> dict[str, Any] | None:
        budget = self.minutes_budget
        if budget is None:
            return None
        return {
            "minutes": budget.minutes,
            "steps": budget.steps,
            "seconds_a_step": budget.seconds_a_step,
            "refusal": self.refusal,
        }


class PlanMill:
    """A mill that only looks: its artifacts are the store's, or stand-ins with digest ``?``."""

    def __init__(
        self,
        store: Store,
        history: History | None = None,
        prices: Prices | None = None,
        workspace: Workspace | None = None,
        speeds: Speeds | None = None,
    ) -> None:
        self.store = store
        self.steps: list[Planned] = []
        self._history = history or History(store)
        self.expectation = Expectation(self._history, speeds)
        self._prices = prices
        self._workspace = workspace
        self._origins: list[tuple[Artifact, Planned]] = []

    def source(self, name: str, component: Callable[..., A], config: C, resolve: Resolve[C]) -> A:
        resolved = resolve(config, self.store.records(component_name(component)))
        return self.step(name, component, resolved)

    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        request = self.store.request(component, config, inputs)
        waits = UNKNOWN in request.lineage.parents.values()
        found = None if waits else self.store.find(request.key, request.kind)
        nearest = self._history.nearest(request)
        given = dict(_roles(inputs))
        reasons: list[Reason] = []
        roots: tuple[str, ...] = ()
        if found is None:
            reasons = list(self._own_reasons(request, nearest, given))
            state = RUNS if reasons else WAITS
            roots = (name,) if reasons else ()
            coming = list(self._coming(given)) if waits else []
            if nearest is not None:
                reasons += coming
            roots = roots or tuple(dict.fromkeys(root for r in coming for root in r.since))
        else:
            state = CACHED
        self.expectation.look_at(request.config, inputs)
        expected, origin = self.expectation.seconds(request.config, nearest)
        journal = self.store.root / "partial" / request.key / "scratch" / JOURNAL
        planned = Planned(
            name,
            state,
            reasons,
            0.0 if state == CACHED else expected,
            self._history.seconds(nearest),
            component,
            config,
            inputs,
            cost=self._cost(0.0 if state == CACHED else expected),
            like=None if nearest is None else artifact_key(nearest),
            expected_from=None if state == CACHED else origin,
            minutes_budget=self.expectation.minutes_budget(name, request.config),
            begun=journal.is_file(),
            roots=roots,
        )
        artifact: A = found if found is not None else _stand_in(request.kind, request.lineage)  # type: ignore[assignment]
        return self._note(planned, artifact)

    def act(
        self, name: str, action: Callable[..., Change[A]], config: StageConfig, **inputs: Any
    ) -> A:
        given = dict(_roles(inputs))
        coming = list(self._coming(given))
        left = None
        if not coming and self._workspace is not None:
            left = look(action, config, inputs, self._workspace)
        unchanged = None if coming or left is None else not left.changed
        if unchanged is False:
            coming.append(Reason("outside", (left.note if left else "") or UNDONE))
        if left is not None and left.ends:
            coming.append(Reason("ends", f"the run would end here: {left.ends}"))
        last = self._history.action_seconds(name)
        seconds = 0.0 if unchanged else last
        planned = Planned(
            name,
            ACTION,
            coming,
            seconds,
            last,
            action,
            config,
            inputs,
            cost=self._cost(seconds),
            unchanged=unchanged,
            roots=() if unchanged else (name,),
        )
        kind = get_args(get_type_hints(action)["return"])[0]
        lineage = Lineage(component=component_name(action), code="", config="")
        artifact: A = _stand_in(kind, lineage) if left is None or left.changed else left.artifact
        return self._note(planned, artifact)

    def _note(self, planned: Planned, artifact: A) -> A:
        self.steps.append(planned)
        self._origins.append((artifact, planned))
        return artifact

    def _cost(self, seconds: float | None) -> float | None:
        if self._prices is None or seconds is None:
            return None
        return self._prices.of(seconds)

    def _own_reasons(
        self, request: Request, last: dict[str, Any] | None, given: Mapping[str, Artifact]
    ) -> Iterator[Reason]:
        """Which code, field or parent differs from the most similar earlier run."""
        if last is None:
            yield Reason("new", NEVER)
            return
        parents, before = request.lineage.parents, last["artifact"]["lineage"]["parents"]
        code, former = self.store.code.parts(request.component), last.get("code", {})
        config = request.config.model_dump(mode="json")
        found = [Reason("config", *d) for d in differences(last.get("config", {}), config)]
        found += [
            Reason("code", module, former.get(module), code.get(module))
            for module in changed_modules(last, code)
        ]
        for role in changed_parents(before, parents):
            origin = self._origin(given[role]) if role in given else None
            step = origin.name if origin else None
            found.append(Reason("parent", role, before.get(role), parents.get(role), step))
        yield from found
        if not found and UNKNOWN not in parents.values():
            yield Reason("files", GONE)

    def _coming(self, given: Mapping[str, Artifact]) -> Iterator[Reason]:
        """Inputs that only the run itself will tell, with the steps that are why."""
        for role, artifact in given.items():
            origin = self._origin(artifact)
            if artifact.digest == UNKNOWN and origin is not None:
                yield Reason("parent", role, None, None, origin.name, origin.roots)

    def _origin(self, artifact: Artifact) -> Planned | None:
        """The step of this plan that gave ``artifact``."""
        return next((step for made, step in self._origins if made is artifact), None)


def _roles(inputs: Inputs) -> Iterator[tuple[str, Artifact]]:
    for role, given in inputs.items():
        if isinstance(given, Artifact):
            yield role, given
        else:
            yield from ((f"{role}.{name}", artifact) for name, artifact in given.items())


def _stand_in(kind: type[A], lineage: Lineage) -> A:
    return kind(name=UNKNOWN, digest=UNKNOWN, lineage=lineage)
