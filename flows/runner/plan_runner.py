"""Dry run of a flow: which steps are cached, which would run, why, and for how long.

Runs no stage and writes nothing: inputs that are not known yet are placeholders, whose digest is
``?``, and a step behind one is said to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from typing_extensions import override

from components.core.action import Action, Workspace
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import (
    UNKNOWN,
    Artifact,
    Inputs,
    Lineage,
    component_name,
    placeholder_artifact,
)
from components.core.store.store import StageRequest, Store
from components.core.training_speed import MeasuredSpeeds
from components.train.budget.minutes_budget import MinutesBudget
from components.train.budget.step_plan import STEP_PLAN_FILE
from flows.configs.prices import Prices
from flows.runner.past_runs import (
    RunHistory,
    artifact_key,
    changed_modules,
    changed_parents,
    config_differences,
)
from flows.runner.runner import C, Runner, SourceResolver
from flows.runner.stage_time import EstimateSource, TimeEstimator

A = TypeVar("A", bound=Artifact)

IS_CACHED, WOULD_RUN, RUNS_UNLESS_EQUAL, IS_ACTION = (
    "cached",
    "would run",
    "runs unless its input comes out equal",
    "action",
)
NEVER_RAN, FILES_GONE, NOT_DONE = "never ran", "its files are gone", "not done yet for these inputs"


@dataclass(frozen=True)
class RerunReason:
    """One difference from the most similar earlier run, which makes a step run again."""

    kind: str
    """``config``, ``code``, ``parent``, ``new``, ``files``, ``outside`` or ``ends``."""
    subject: str
    """Dotted field, module or role, by kind; a sentence for the other kinds."""
    old: Any = None
    new: Any = None
    step: str | None = None
    """Upstream step that makes the parent."""
    root_causes: tuple[str, ...] = ()
    """Upstream steps that have a reason of their own to run."""

    def __str__(self) -> str:
        if self.kind == "config":
            return f"{self.subject}: {self.old!r} -> {self.new!r}"
        if self.kind == "code":
            return f"code of {self.subject}"
        if self.kind != "parent":
            return self.subject
        producer = f" from {self.step}" if self.step else ""
        beyond = [step for step in self.root_causes if step != self.step]
        why = f", since {', '.join(beyond)} would run" if beyond else ""
        return f"input {self.subject}{producer}{why}"

    def as_json(self) -> dict[str, Any]:
        """JSON object with the old and the new value."""
        shown = {"kind": self.kind, "what": self.subject}
        if self.kind in ("config", "code", "parent"):
            shown.update(old=self.old, new=self.new)
        return shown | (
            {"step": self.step, "since": self.root_causes} if self.kind == "parent" else {}
        )


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan."""

    name: str
    state: str
    reasons: list[RerunReason]
    seconds: float | None
    """Expected seconds if it runs; None where there is nothing to estimate from."""
    last_seconds: float | None
    component: Callable[..., Any]
    config: StageConfig
    inputs: Mapping[str, Any]
    cost: float | None = None
    unchanged: bool | None = None
    """True for an action that would find nothing to do; None where only the run can tell."""
    compared_with: str | None = None
    """Key of the most similar earlier result."""
    expected_from: EstimateSource | None = None
    """Origin of the estimate: past runs, a budget of minutes, the measured speed, or a crawl's
    pauses, which are a lower bound.
    """
    minutes_budget: MinutesBudget | None = None
    """Of a training budgeted in minutes: the steps that they come to on this machine."""
    resumes: bool = False
    """True where an interrupted try left a step plan, which holds whatever the speed is now."""
    root_causes: tuple[str, ...] = field(default=())
    """Steps with a reason of their own whose new output may change this step's."""

    @property
    def explanations(self) -> list[str]:
        """Reasons as sentences."""
        return [str(reason) for reason in self.reasons]

    def as_json(self) -> dict[str, Any]:
        """JSON object of the step, without its function, config and inputs."""
        return {
            "name": self.name,
            "state": self.state,
            "unchanged": self.unchanged,
            "because": self.explanations,
            "reasons": [reason.as_json() for reason in self.reasons],
            "compared_with": self.compared_with,
            "seconds": self.seconds,
            "expected_from": self.expected_from,
            "minutes_budget": self._budget_json(),
            "last_seconds": self.last_seconds,
            "cost": self.cost,
        }

    @property
    def refusal(self) -> str | None:
        """Line with which a run is refused for this step's minutes; None where it is not."""
        if self.minutes_budget is None or self.resumes or self.state == IS_CACHED:
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


class PlanRunner(Runner):
    """Runner that only plans: its artifacts are the store's, or placeholders.

    Args:
        store: is only read.
        history: earlier results and run records; those of ``store`` by default.
        prices: give every step a cost.
        workspace: lets actions look for what they would do; without one they stay unknown.
        speeds: measured training speeds, for stages that never ran here.
    """

    def __init__(
        self,
        store: Store,
        history: RunHistory | None = None,
        prices: Prices | None = None,
        workspace: Workspace | None = None,
        speeds: MeasuredSpeeds | None = None,
    ) -> None:
        self.store = store
        self.steps: list[PlannedStep] = []
        self._history = history or RunHistory(store)
        self.time_estimator = TimeEstimator(self._history, speeds)
        self._prices = prices
        self._workspace = workspace
        self._producers: list[tuple[Artifact, PlannedStep]] = []

    @override
    def source(
        self, name: str, component: Callable[..., A], config: C, resolve: SourceResolver[C]
    ) -> A:
        resolved = resolve(config, self.store.config_records(component_name(component)))
        return self.step(name, component, resolved)

    @override
    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        request = self.store.make_request(component, config, inputs)
        waits = UNKNOWN in request.lineage.parents.values()
        cached = None if waits else self.store.find_artifact(request.key, request.kind)
        earlier = self._history.most_similar(request)
        parents = dict(_artifacts_by_role(inputs))
        reasons: list[RerunReason] = []
        causes: tuple[str, ...] = ()
        if cached is None:
            reasons = list(self._rerun_reasons(request, earlier, parents))
            state = WOULD_RUN if reasons else RUNS_UNLESS_EQUAL
            causes = (name,) if reasons else ()
            pending = list(self._pending_inputs(parents)) if waits else []
            if earlier is not None:
                reasons += pending
            upstream = (cause for reason in pending for cause in reason.root_causes)
            causes = causes or tuple(dict.fromkeys(upstream))
        else:
            state = IS_CACHED
        self.time_estimator.note_step(request.config, inputs)
        expected, estimated_from = self.time_estimator.estimate_seconds(request.config, earlier)
        journal = self.store.root / "partial" / request.key / "scratch" / STEP_PLAN_FILE
        planned = PlannedStep(
            name,
            state,
            reasons,
            0.0 if state == IS_CACHED else expected,
            self._history.seconds_of(earlier),
            component,
            config,
            inputs,
            cost=self._cost(0.0 if state == IS_CACHED else expected),
            compared_with=None if earlier is None else artifact_key(earlier),
            expected_from=None if state == IS_CACHED else estimated_from,
            minutes_budget=self.time_estimator.minutes_budget(name, request.config),
            resumes=journal.is_file(),
            root_causes=causes,
        )
        artifact = cached or placeholder_artifact(request.kind, request.lineage)
        return cast("A", self._add_step(planned, artifact))

    @override
    def action(self, name: str, action: Action[..., A], config: StageConfig, **inputs: Any) -> A:
        reasons = list(self._pending_inputs(dict(_artifacts_by_role(inputs))))
        change = None
        if not reasons and self._workspace is not None:
            change = action.dry_run(config, inputs, self._workspace)
        unchanged = None if change is None else not change.changed
        if change is not None and change.changed:
            reasons.append(RerunReason("outside", change.note or NOT_DONE))
        if change is not None and change.ends:
            reasons.append(RerunReason("ends", f"the run would end here: {change.ends}"))
        last = self._history.action_seconds(name)
        seconds = 0.0 if unchanged else last
        planned = PlannedStep(
            name,
            IS_ACTION,
            reasons,
            seconds,
            last,
            action,
            config,
            inputs,
            cost=self._cost(seconds),
            unchanged=unchanged,
            root_causes=() if unchanged else (name,),
        )
        lineage = Lineage(component=component_name(action), code="", config="")
        known = change is not None and not change.changed
        artifact = (
            change.artifact if change and known else placeholder_artifact(action.kind, lineage)
        )
        return self._add_step(planned, artifact)

    def _add_step(self, planned: PlannedStep, artifact: A) -> A:
        self.steps.append(planned)
        self._producers.append((artifact, planned))
        return artifact

    def _cost(self, seconds: float | None) -> float | None:
        if self._prices is None or seconds is None:
            return None
        return self._prices.cost_of(seconds)

    def _rerun_reasons(
        self, request: StageRequest, earlier: dict[str, Any] | None, inputs: Mapping[str, Artifact]
    ) -> Iterator[RerunReason]:
        """Fields, modules and known parents that differ from the most similar earlier run."""
        if earlier is None:
            yield RerunReason("new", NEVER_RAN)
            return
        parents, before = request.lineage.parents, earlier["artifact"]["lineage"]["parents"]
        code = self.store.code.code_parts(request.component, request.config)
        former_code = earlier.get("code", {})
        config, former = (  # no field outside the key runs a stage again
            {name: value for name, value in fields.items() if name in request.config.key_fields()}
            for fields in (request.config.model_dump(mode="json"), earlier.get("config", {}))
        )
        reasons = [
            RerunReason("config", field, old, new)
            for field, old, new in config_differences(former, config)
        ]
        reasons += [
            RerunReason("code", module, former_code.get(module), code.get(module))
            for module in changed_modules(earlier, code)
        ]
        for role in changed_parents(before, parents):
            producer = self._producer_of(inputs[role]) if role in inputs else None
            step = producer.name if producer else None
            reasons.append(RerunReason("parent", role, before.get(role), parents.get(role), step))
        yield from reasons
        if not reasons and UNKNOWN not in parents.values():
            yield RerunReason("files", FILES_GONE)

    def _pending_inputs(self, inputs: Mapping[str, Artifact]) -> Iterator[RerunReason]:
        """Inputs that only the run itself will make, with the steps that cause it."""
        for role, artifact in inputs.items():
            producer = self._producer_of(artifact)
            if artifact.digest == UNKNOWN and producer is not None:
                yield RerunReason("parent", role, None, None, producer.name, producer.root_causes)

    def _producer_of(self, artifact: Artifact) -> PlannedStep | None:
        """Step of this plan that returned ``artifact``."""
        return next((step for made, step in self._producers if made is artifact), None)


def _artifacts_by_role(inputs: Inputs) -> Iterator[tuple[str, Artifact]]:
    for role, value in inputs.items():
        if isinstance(value, Artifact):
            yield role, value
        else:
            yield from ((f"{role}.{name}", artifact) for name, artifact in value.items())
