"""Runs the steps of a flow through the store.

A flow is a straight line of calls on a ``Mill`` and never looks inside a reference, so the same
function runs here without any server, under Prefect (``flows/runner/prefect/prefect_runner.py``)
and as a plan (``flows/runner/plan_runner.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, MillError, TransientError
from components.core.log import get_logger
from components.core.process import shutdown
from components.core.progress import Progress
from components.core.store.artifact import Artifact
from components.core.store.code_digest import component_name
from components.core.store.executor import Executor, Inline
from components.core.store.store import Store
from components.core.store.workdir import full_disk_is_one_line
from components.core.tracking import training_tracker
from components.core.training_speed import renew_speed
from components.publish.promotion.approvals import NeedsApproval, Pending, decision
from components.train.budget.memory_reuse import hand_back_memory

A = TypeVar("A", bound=Artifact)
C = TypeVar("C", bound=StageConfig)
log = get_logger(__name__)

Resolve = Callable[[C, list[dict[str, Any]]], C]
"""Fixes what a source will look at: (config, its earlier records, newest first) -> config."""

CACHED, COMPLETED, UNCHANGED = "Cached", "Completed", "Unchanged"


class Mill(Protocol):
    """What a flow is written against."""

    def source(
        self, name: str, component: Callable[..., A], config: C, resolve: Resolve[C]
    ) -> A: ...

    def step(
        self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any
    ) -> A: ...

    def act(
        self, name: str, action: Callable[..., Change[A]], config: StageConfig, **inputs: Any
    ) -> A: ...


@dataclass(frozen=True)
class StepResult:
    """One line of the closing table."""

    name: str
    state: str
    """``Cached``, ``Completed`` or ``Unchanged``."""
    seconds: float
    artifact: Artifact
    note: str = ""
    ends: str = ""
    """Why nothing runs after it; empty where the run goes on."""
    resumed: str = ""
    """From where it went on with an earlier try: ``at step 400``."""

    @property
    def said(self) -> str:
        """What an action noted, or that a stage resumed, and from where."""
        return self.note or (f"resumed {self.resumed}" if self.resumed else "")


class Listener(Protocol):
    """Is told how a run goes: the live display, the run's record."""

    def started(self, name: str) -> None: ...

    def progressed(self, name: str, progress: Progress) -> None: ...

    def finished(self, result: StepResult) -> None: ...

    def failed(self, name: str, error: BaseException) -> None: ...


@dataclass
class Silent:
    """The twin that only remembers: for tests and for ``--json``."""

    results: list[StepResult] = field(default_factory=list)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)

    def started(self, name: str) -> None:
        """Nothing to show."""

    def progressed(self, name: str, progress: Progress) -> None:
        """Nothing to show."""

    def finished(self, result: StepResult) -> None:
        self.results.append(result)

    def failed(self, name: str, error: BaseException) -> None:
        self.failures.append((name, error))


class Reached(Exception):
    """The stage named by ``--until`` is done."""


class Ended(Exception):
    """An action found that there is nothing left to do, and said why."""


class StoreMill:
    """Runs steps through the store and actions on the workspace, one after another."""

    attempts = 3
    backoff_seconds = 2.0
    approval_poll_seconds = 2.0

    def __init__(
        self,
        store: Store,
        workspace: Workspace,
        *,
        executor: Executor | None = None,
        listener: Listener | None = None,
        until: str | None = None,
    ) -> None:
        self.store = store
        self.workspace = workspace
        self.executor = executor or Inline()
        self.listener: Listener = listener or Silent()
        self.until = until

    def source(self, name: str, component: Callable[..., A], config: C, resolve: Resolve[C]) -> A:
        """A stage that looks at the world: ``resolve`` fixes what it will have seen."""
        resolved = resolve(config, self.store.records(component_name(component)))
        return self.step(name, component, resolved)

    def step(self, name: str, component: Callable[..., A], config: StageConfig, **inputs: Any) -> A:
        """The artifact of a stage, from the store or freshly made."""

        def body() -> StepResult:
            started = time.monotonic()
            request = self.store.request(component, config, inputs)
            progress = self._progress(name)
            settings = self.workspace.settings
            progress.tracker = lambda: training_tracker(settings, name, request.key)
            progress.achieved = lambda speed: renew_speed(settings.speed, speed)
            artifact, cached = self.store.run(request, executor=self.executor, progress=progress)
            if not cached:
                self.executor.rest()
                hand_back_memory()
            seconds = time.monotonic() - started
            state = CACHED if cached else COMPLETED
            return StepResult(name, state, seconds, artifact, resumed=progress.resumed)

        artifact: A = self._finish(name, body)
        return artifact

    def act(
        self, name: str, action: Callable[..., Change[A]], config: StageConfig, **inputs: Any
    ) -> A:
        """What an action left behind; ``Unchanged`` where there was nothing to do."""

        def body() -> StepResult:
            started = time.monotonic()
            workspace = Workspace(self.workspace.settings, self._progress(name))
            with full_disk_is_one_line(workspace.settings.home):
                change = action(config, **inputs, workspace=workspace)
            seconds = time.monotonic() - started
            state = COMPLETED if change.changed else UNCHANGED
            return StepResult(name, state, seconds, change.artifact, change.note, change.ends)

        artifact: A = self._finish(name, body)
        return artifact

    def _finish(self, name: str, body: Callable[[], StepResult]) -> Any:
        self.listener.started(name)
        try:
            result = self._decided(name, lambda: self._retrying(name, body))
        except BaseException as error:
            stop = shutdown.asked()
            if stop is not None and isinstance(error, Exception):
                # A library made another error of it, which nobody caused.
                self.listener.failed(name, stop)
                raise stop from error
            self.listener.failed(name, error)
            raise
        self.listener.finished(result)
        if self.until == name:
            raise Reached(name)
        if result.ends:
            raise Ended(result.ends)
        return result.artifact

    def _decided(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        """Run one step; where a person has the last word, wait for it and run it once more."""
        try:
            return self._execute(name, body)
        except NeedsApproval as needed:
            self._wait_for_approval(name, needed.pending)
        return self._execute(name, body)

    def _wait_for_approval(self, name: str, pending: Pending) -> None:
        """Return when somebody has decided; an orchestrator pauses its own way.

        Raises:
            MillError: nobody did within the hours that the config gives.
        """
        asked = f"modelmill approve {pending.named} --yes|--no --why TEXT"
        log.warning("%s: waiting for a person: %s", name, asked)
        progress = self._progress(name)
        progress.start(None, "s", 0.0)
        began = time.monotonic()
        while decision(self.workspace.settings, pending.bundle, pending.model) is None:
            waited = time.monotonic() - began
            if waited > 3600 * pending.hours:
                raise MillError(
                    f"nobody decided on {pending.named} within {pending.hours:g} h; "
                    f"`{asked}`, then run the same command: it goes on from here"
                )
            time.sleep(self.approval_poll_seconds)
            progress.advance(time.monotonic() - began - waited, note=f"waiting: {asked}")

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        """Run one step; an orchestrator wraps this."""
        return body()

    def _retrying(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        for attempt in range(1, self.attempts):
            try:
                return body()
            except TransientError as error:
                shutdown.check()
                wait = self.backoff_seconds * 2 ** (attempt - 1)
                log.warning("%s: %s; trying again in %g s", name, error, wait)
                time.sleep(wait)
        return body()

    def _progress(self, name: str) -> Progress:
        def progressed(progress: Progress) -> None:
            shutdown.check()  # for a stop that was raised where an exception cannot pass
            self.listener.progressed(name, progress)

        return Progress(listener=progressed)


def check_until(until: str | None, names: list[str]) -> None:
    """Refuse a stage name that the flow does not have.

    Raises:
        ConfigError: names the stages there are.
    """
    if until is not None and until not in names:
        raise ConfigError(f"--until {until}: no such stage; stages: {', '.join(names)}")
