"""Runner of a flow: executes its stages through the store and its actions on the workspace.

A flow is a straight line of calls on a ``Runner`` and never looks inside a reference, so the same
function runs here without any server, under Prefect (``flows/runner/prefect/prefect_runner.py``)
and as a plan (``flows/runner/plan_runner.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from components.core.action import Action, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, MillError, TransientError
from components.core.io.full_disk import explain_full_disk
from components.core.log import get_logger
from components.core.process import shutdown
from components.core.progress import Progress
from components.core.store.artifact import Artifact, component_name
from components.core.store.executor import Executor, InlineExecutor
from components.core.store.store import Store
from components.core.training_speed import record_speed
from components.publish.promotion.approvals import NeedsApproval, PendingApproval, find_decision
from components.publish.registry.training_runs import open_training_tracker
from components.train.budget.memory_reuse import return_freed_memory

A = TypeVar("A", bound=Artifact)
C = TypeVar("C", bound=StageConfig)
log = get_logger(__name__)

SourceResolver = Callable[[C, list[dict[str, Any]]], C]
"""Fixes the date, files and earlier crawl of a source: (config, earlier records) -> config.

A record is the config with which the source was called, sealed or unfinished; newest first.
"""

CACHED, COMPLETED, UNCHANGED = "Cached", "Completed", "Unchanged"


class Runner(Protocol):
    """Interface that a flow is written against.

    Every method takes the step's name (as in the closing table), its function, its config and its
    inputs by role, and returns the artifact that the step makes.
    """

    def source(
        self, name: str, component: Callable[..., A], config: C, resolve: SourceResolver[C]
    ) -> A:
        """Run a stage that reads the outside world.

        Args:
            name: the step's name.
            component: function of the stage.
            config: config as the user gave it.
            resolve: fixes in ``config`` what the stage will see, so that it can be cached.
        """
        ...

    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        """Run a pure stage, whose artifact the store keeps.

        Args:
            name: the step's name.
            component: function of the stage.
            config: all that it depends on beside its inputs and its code.
            inputs: artifacts by role.
        """
        ...

    def action(self, name: str, action: Action[..., A], config: StageConfig, **inputs: Any) -> A:
        """Run an action, which changes objects outside the store or finds nothing to do.

        Args:
            name: the step's name.
            action: the decorated function.
            config: its config.
            inputs: artifacts by role.
        """
        ...


@dataclass(frozen=True)
class StepResult:
    """Outcome of one step: a line of the closing table."""

    name: str
    state: str
    """``Cached``, ``Completed`` or ``Unchanged``."""
    seconds: float
    artifact: Artifact
    note: str = ""
    end_reason: str = ""
    """Reason to end the run after this step; empty where it goes on."""
    resumed: str = ""
    """Point at which an interrupted try was resumed: ``at step 400``."""

    @property
    def remark(self) -> str:
        """An action's note, or the point from which a stage resumed."""
        return self.note or (f"resumed {self.resumed}" if self.resumed else "")


class RunListener(Protocol):
    """Observer of a run: the live display, the run's record, the Prefect reporter."""

    def started(self, name: str) -> None: ...

    def progressed(self, name: str, progress: Progress) -> None: ...

    def finished(self, result: StepResult) -> None: ...

    def failed(self, name: str, error: BaseException) -> None: ...


@dataclass
class ResultCollector:
    """Listener that collects results and failures, for ``--json`` and for tests."""

    results: list[StepResult] = field(default_factory=list)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)

    def started(self, name: str) -> None:
        """No-op: results alone are collected."""

    def progressed(self, name: str, progress: Progress) -> None:
        """No-op: results alone are collected."""

    def finished(self, result: StepResult) -> None:
        self.results.append(result)

    def failed(self, name: str, error: BaseException) -> None:
        self.failures.append((name, error))


class StageReached(Exception):
    """Control flow: the stage named by ``--until`` is done."""


class EndedEarly(Exception):
    """Control flow: an action ended the run early; the message gives its reason."""


class StoreRunner(Runner):
    """Sequential runner on this machine: stages through the store, actions on the workspace.

    Args:
        store: holds the artifacts of stages.
        workspace: is given to actions.
        executor: runs a stage's shards; in this process by default.
        listener: is told of every step.
        until: name of the step to stop after; None runs the whole flow.
    """

    attempts = 3
    backoff_seconds = 2.0
    approval_poll_seconds = 2.0

    def __init__(
        self,
        store: Store,
        workspace: Workspace,
        *,
        executor: Executor | None = None,
        listener: RunListener | None = None,
        until: str | None = None,
    ) -> None:
        self.store = store
        self.workspace = workspace
        self.executor = executor or InlineExecutor()
        self.listener: RunListener = listener or ResultCollector()
        self.until = until

    @override
    def source(
        self, name: str, component: Callable[..., A], config: C, resolve: SourceResolver[C]
    ) -> A:
        """The artifact of a source, whose config ``resolve`` completes first."""
        resolved = resolve(config, self.store.config_records(component_name(component)))
        return self.step(name, component, resolved)

    @override
    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        """The artifact of a stage, from the store or freshly made."""

        def body() -> StepResult:
            started = time.monotonic()
            request = self.store.make_request(component, config, inputs, name)
            progress = self._new_progress(name)
            settings = self.workspace.settings
            progress.open_tracker = lambda: open_training_tracker(settings, name, request.key)
            progress.on_training_speed = lambda speed: record_speed(settings.speed_file, speed)
            artifact, cached = self.store.run_request(
                request, executor=self.executor, progress=progress
            )
            if not cached:
                self.executor.stop_idle()
                return_freed_memory()
            seconds = time.monotonic() - started
            state = CACHED if cached else COMPLETED
            return StepResult(name, state, seconds, artifact, resumed=progress.resumed)

        artifact: A = self._run_and_report(name, body)
        return artifact

    @override
    def action(self, name: str, action: Action[..., A], config: StageConfig, **inputs: Any) -> A:
        """Reference to what the action made; ``Unchanged`` where there was nothing to do."""

        def body() -> StepResult:
            started = time.monotonic()
            workspace = Workspace(self.workspace.settings, self._new_progress(name))
            with explain_full_disk(workspace.settings.home):
                change = action(config, **inputs, workspace=workspace)
            seconds = time.monotonic() - started
            state = COMPLETED if change.changed else UNCHANGED
            return StepResult(name, state, seconds, change.artifact, change.note, change.ends)

        artifact: A = self._run_and_report(name, body)
        return artifact

    def _run_and_report(self, name: str, body: Callable[[], StepResult]) -> Any:
        self.listener.started(name)
        try:
            result = self._run_with_approval(name, lambda: self._run_with_retries(name, body))
        except BaseException as error:
            stop = shutdown.requested_stop()
            if stop is not None and isinstance(error, Exception):
                # A library wrapped the interrupt in an error of its own: report the interrupt.
                self.listener.failed(name, stop)
                raise stop from error
            self.listener.failed(name, error)
            raise
        self.listener.finished(result)
        if self.until == name:
            raise StageReached(name)
        if result.end_reason:
            raise EndedEarly(result.end_reason)
        return result.artifact

    def _run_with_approval(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        """Run one step; where a person has to approve it, wait and run it once more."""
        try:
            return self._execute(name, body)
        except NeedsApproval as needed:
            self._wait_for_approval(name, needed.pending)
        return self._execute(name, body)

    def _wait_for_approval(self, name: str, pending: PendingApproval) -> None:
        """Poll until somebody has decided; a subclass may pause in its orchestrator's way.

        Raises:
            MillError: nobody decided within the hours that the config gives.
        """
        command = f"modelmill approve {pending.named} --yes|--no --why TEXT"
        log.warning("%s: waiting for a person: %s", name, command)
        progress = self._new_progress(name)
        progress.start_count(None, "s", 0.0)
        began = time.monotonic()
        while find_decision(self.workspace.settings, pending.bundle, pending.model) is None:
            waited = time.monotonic() - began
            if waited > 3600 * pending.hours:
                raise MillError(
                    f"nobody decided on {pending.named} within {pending.hours:g} h; "
                    f"`{command}`, then run the same command: it goes on from here"
                )
            time.sleep(self.approval_poll_seconds)
            progress.advance(time.monotonic() - began - waited, note=f"waiting: {command}")

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        """Run one step; the hook that a subclass wraps in its orchestrator's task."""
        return body()

    def _run_with_retries(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        for attempt in range(1, self.attempts):
            try:
                return body()
            except TransientError as error:
                shutdown.raise_if_stopped()
                wait = self.backoff_seconds * 2 ** (attempt - 1)
                log.warning("%s: %s; trying again in %g s", name, error, wait)
                time.sleep(wait)
        return body()

    def _new_progress(self, name: str) -> Progress:
        def progressed(progress: Progress) -> None:
            # A stop requested inside a library callback, through which no exception passes, is
            # raised here.
            shutdown.raise_if_stopped()
            self.listener.progressed(name, progress)

        return Progress(listener=progressed)


def check_until(until: str | None, names: list[str]) -> None:
    """Refuse a value of ``--until`` that is no step of the flow.

    Raises:
        ConfigError: lists the steps there are.
    """
    if until is not None and until not in names:
        raise ConfigError(f"--until {until}: no such stage; stages: {', '.join(names)}")


class ListenerGroup:
    """Listener that forwards every event to several, in their order."""

    def __init__(self, listeners: Sequence[RunListener]) -> None:
        self._listeners = listeners

    def started(self, name: str) -> None:
        for listener in self._listeners:
            listener.started(name)

    def progressed(self, name: str, progress: Progress) -> None:
        for listener in self._listeners:
            listener.progressed(name, progress)

    def finished(self, result: StepResult) -> None:
        for listener in self._listeners:
            listener.finished(result)

    def failed(self, name: str, error: BaseException) -> None:
        for listener in self._listeners:
            listener.failed(name, error)
