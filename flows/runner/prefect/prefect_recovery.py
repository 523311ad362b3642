"""Recovery of flow runs whose process is gone: find them, and set them to ``Crashed``.

A run's record names its flow run and its process; a worker's process has the flow run's id in its
environment. A flow run that Prefect takes for running holds its deployment's only slot until its
state is changed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import psutil

from components.core.errors import MillError
from components.core.log import get_logger
from components.core.process.process_tree import find_marked_processes, is_running_since
from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import Settings
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.prefect_database import (
    ACTIVE_STATES,
    PAUSED_STATES,
    FlowRunRow,
    active_task_runs,
    read_flow_runs,
)
from flows.runner.run_records import is_running, read_record

ENGINE_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Environment variable that Prefect sets for the process of a worker's flow run."""
PROCESS_GONE = "its process is gone; the same run, started again, goes on from where it was"
_SETTLED_SECONDS = 60.0
"""Seconds in which a flow run that just began may not have its process or its record yet."""
_CALL_TIMEOUT_SECONDS = 30.0
_BUSY_WAITS_SECONDS = (0.5, 1.0, 2.0)
"""Waits between tries while the server's database is locked, to which it answers 503."""
log = get_logger(__name__)


class UnknownFlowRun(MillError):
    """Flow run that a server does not keep (any more)."""


class _RunOwners:
    """Processes that execute flow runs, by run records and by workers' environments."""

    def __init__(self, settings: Settings, runs: Sequence[FlowRunRow]) -> None:
        records = [read_record(path) for path in settings.runs.glob("*.json")]
        self.alive: dict[str, bool] = {}
        self._beginning: set[str] = set()
        for record in (record for record in records if record is not None):
            identifier = record.get("flow_run")
            if isinstance(identifier, str):
                began = datetime.fromisoformat(record["started"]).timestamp()
                is_alive = is_running_since(int(record["process"]), began)
                self.alive[identifier] = self.alive.get(identifier, False) or is_alive
            elif is_running(record):
                self._beginning.add(str(record["run"]).rpartition("-")[0])
        self._engines: set[str] = set()
        for process in find_marked_processes(ENGINE_VARIABLE, {run.identifier for run in runs}):
            try:
                self._engines.add(process.environ()[ENGINE_VARIABLE])
            except (psutil.Error, OSError, KeyError):
                continue  # it has ended meanwhile

    def is_alive(self, run: FlowRunRow) -> bool:
        """True if a process is known to execute the flow run."""
        known = run.identifier in self._engines or self.alive.get(run.identifier, False)
        return known or run.name in self._beginning


def stuck_flow_runs(settings: Settings, *, between_workers: bool = False) -> list[FlowRunRow]:
    """Flow runs that are active in Prefect's database but have no process.

    Args:
        settings: workspace whose Prefect database and run records are read.
        between_workers: True while the worker of ``up`` has ended or is yet to start: its flow runs
            need no time to settle, and a foreign flow, without record and deployment, is left as
            it is.

    Raises:
        MillError: the database cannot be read.
    """
    runs = read_flow_runs(settings, ACTIVE_STATES)
    if not runs:
        return []
    owners = _RunOwners(settings, runs)
    settled = time.time() - _SETTLED_SECONDS

    def is_abandoned(run: FlowRunRow) -> bool:
        if run.identifier in owners.alive or (between_workers and run.has_deployment):
            return True
        if run.has_deployment:
            return run.state_since < settled
        return not between_workers and run.state_since < settled and not _any_executing(settings)

    return [run for run in runs if not owners.is_alive(run) and is_abandoned(run)]


def abandoned_pauses(settings: Settings) -> list[FlowRunRow]:
    """Recorded flow runs that are paused in Prefect's database, but whose process is gone.

    Raises:
        MillError: the database cannot be read.
    """
    return lost_flow_runs(settings, read_flow_runs(settings, PAUSED_STATES))


def lost_flow_runs(settings: Settings, runs: Sequence[FlowRunRow]) -> list[FlowRunRow]:
    """Those of ``runs`` that have a run record, but whose process is gone."""
    if not runs:
        return []
    owners = _RunOwners(settings, runs)
    return [run for run in runs if run.identifier in owners.alive and not owners.is_alive(run)]


def is_lost(settings: Settings, identifier: str) -> bool:
    """True if a flow run has a run record and its process is gone."""
    run = FlowRunRow(identifier, name="", state="", state_since=0.0)
    owners = _RunOwners(settings, [run])
    return identifier in owners.alive and not owners.is_alive(run)


def _any_executing(settings: Settings) -> bool:
    """True if a process here may execute a flow run that no record and no worker names."""
    return any(_is_executing(process) for process in find_workspace_processes(settings))


def _is_executing(process: WorkspaceProcess) -> bool:
    line = " ".join(process.command)
    return "prefect" in line and ("engine" in line or "flow-run" in line or "worker" in line)


def crash_stuck_runs(settings: Settings, api: str) -> None:
    """Crash the flow runs that a worker of ``up`` left behind, to free its deployments' slots.

    A failure is a warning: ``up`` starts and ends all the same.
    """
    try:
        for run in stuck_flow_runs(settings, between_workers=True):
            force_flow_run_state(api, run.identifier, crashed_state())
            log.warning("%s: %s", run.name, PROCESS_GONE)
    except MillError as error:
        log.warning("flow runs without a process were left as they are: %s", error)


def crash_flow_runs(settings: Settings, runs: Sequence[FlowRunRow]) -> None:
    """Set flow runs, and their task runs at work, to ``Crashed``: by the server of ``up`` where
    one answers, else without one.

    Raises:
        MillError: the server refused.
    """
    api = prefect_api(settings)
    identifiers = [run.identifier for run in runs]
    if api is None:
        _crash_in_database(identifiers, active_task_runs(settings, identifiers))
        return
    for identifier in identifiers:
        crash_flow_run(api, identifier)


def crash_flow_run(api: str, identifier: str) -> None:
    """Set one flow run, and its task runs at work, to ``Crashed``.

    Raises:
        MillError: the server refused or did not answer.
    """
    force_flow_run_state(api, identifier, crashed_state())
    at_work = {"state": {"type": {"any_": list(ACTIVE_STATES)}}}
    among = {"flow_runs": {"id": {"any_": [identifier]}}, "task_runs": at_work}
    for task in call_api(api, "task_runs/filter", among):
        path = f"task_runs/{task['id']}/set_state"
        call_api(api, path, {"state": crashed_state(), "force": True})


def crashed_state(message: str = PROCESS_GONE) -> dict[str, Any]:
    """State of a flow run whose process is gone."""
    return {"type": "CRASHED", "name": "Crashed", "message": message}


def rescheduled_state() -> dict[str, Any]:
    """State of a deployment's flow run that a worker shall resume."""
    due = {"scheduled_time": datetime.now(UTC).isoformat()}
    return {"type": "SCHEDULED", "name": "Resuming", "state_details": due}


def force_flow_run_state(api: str, identifier: str, state: dict[str, Any]) -> None:
    """Force a flow run into a state; Prefect's own rule then releases its slot.

    Calls the API itself: Prefect's client would stay in the memory of ``up`` for good.

    Args:
        api: address of the server's API.
        identifier: identifier of the flow run.
        state: state as the API takes it.

    Raises:
        MillError: the server refused or did not answer.
    """
    call_api(api, f"flow_runs/{identifier}/set_state", {"state": state, "force": True})


def call_api(api: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Call Prefect's API and return the decoded answer; a busy server is called again.

    Args:
        api: address of the server's API.
        path: below it.
        body: sent as JSON by POST; None is a GET.

    Raises:
        MillError: the server did not answer, or refused.
    """
    try:
        with httpx.Client(trust_env=False, timeout=_CALL_TIMEOUT_SECONDS) as client:
            method = "GET" if body is None else "POST"
            for wait in (*_BUSY_WAITS_SECONDS, None):
                response = client.request(method, f"{api}/{path}", json=body)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or wait is None:
                    break
                time.sleep(wait)
            if response.status_code == httpx.codes.NOT_FOUND:
                raise UnknownFlowRun(f"Prefect's server at {api} knows no {path}")
            response.raise_for_status()
            return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise MillError(f"Prefect's server at {api} refused or did not answer: {error}") from error


def _crash_in_database(identifiers: Sequence[str], tasks: Sequence[str]) -> None:
    """Crash flow runs and task runs with Prefect's own functions, which release the slots too."""
    import asyncio

    from prefect.server.database import provide_database_interface
    from prefect.server.models.flow_runs import set_flow_run_state
    from prefect.server.models.task_runs import set_task_run_state
    from prefect.server.schemas.states import State, StateType

    def state() -> State:
        return State(type=StateType.CRASHED, name="Crashed", message=PROCESS_GONE)

    async def crash() -> None:
        db = provide_database_interface()
        try:
            async with db.session_context(begin_transaction=True) as session:
                for identifier in identifiers:
                    await set_flow_run_state(session, UUID(identifier), state(), force=True)
                for task in tasks:
                    await set_task_run_state(session, UUID(task), state(), force=True)
        finally:
            engine = await db.engine()
            await engine.dispose()

    asyncio.run(crash())
