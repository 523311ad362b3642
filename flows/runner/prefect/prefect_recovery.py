"""Flow runs whose process is gone: how they are found, and how Prefect is told.

A run's record names its flow run and its process; a worker's process carries the flow run's id in
its environment. What Prefect takes for running holds its deployment's one slot until it is told.
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
from components.core.process.process_tree import alive_since, marked
from components.core.process.workspace_processes import Living, living
from components.core.settings import Settings
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.history_retention import (
    AT_WORK,
    PAUSED,
    FlowRun,
    flow_runs,
    task_runs_at_work,
)
from flows.runner.run_records import at_work, read_record

ENGINE = "PREFECT__FLOW_RUN_ID"
"""Set by Prefect for the process that a worker starts for a flow run."""
GONE = "its process is gone; the same run, started again, goes on from where it was"
_SETTLED_SECONDS = 60.0
"""A flow run that just began may not have its process or its record yet."""
_ASK_SECONDS = 30.0
_BUSY_SECONDS = (0.5, 1.0, 2.0)
"""Between the tries where its database is locked, which it answers with 503."""
log = get_logger(__name__)


class UnknownRun(MillError):
    """A flow run that a server does not keep (any more)."""


class _Owners:
    """Which processes are at which flow runs."""

    def __init__(self, settings: Settings, runs: Sequence[FlowRun]) -> None:
        found = [read_record(path) for path in settings.runs.glob("*.json")]
        self.alive: dict[str, bool] = {}
        self._beginning: set[str] = set()
        for record in (record for record in found if record is not None):
            identifier = record.get("flow_run")
            if isinstance(identifier, str):
                began = datetime.fromisoformat(record["started"]).timestamp()
                lives = alive_since(int(record["process"]), began)
                self.alive[identifier] = self.alive.get(identifier, False) or lives
            elif at_work(record):
                self._beginning.add(str(record["run"]).rpartition("-")[0])
        self._engines: set[str] = set()
        for process in marked(ENGINE, {run.identifier for run in runs}):
            try:
                self._engines.add(process.environ()[ENGINE])
            except (psutil.Error, OSError, KeyError):
                continue  # it has ended meanwhile

    def lives(self, run: FlowRun) -> bool:
        """Whether a process is known to be at it."""
        known = run.identifier in self._engines or self.alive.get(run.identifier, False)
        return known or run.name in self._beginning


def stuck_flow_runs(settings: Settings, *, between_workers: bool = False) -> list[FlowRun]:
    """Flow runs at work by Prefect's database that no process is at.

    ``between_workers``: the worker of ``up`` has ended or is yet to start, so what it ran needs no
    time to settle; and a flow that is none of ours, with no record and no deployment, is let be.

    Raises:
        MillError: the database cannot be read.
    """
    runs = flow_runs(settings, AT_WORK)
    if not runs:
        return []
    owners = _Owners(settings, runs)
    settled = time.time() - _SETTLED_SECONDS

    def left(run: FlowRun) -> bool:
        if run.identifier in owners.alive or (between_workers and run.deployed):
            return True
        if run.deployed:
            return run.since < settled
        return not between_workers and run.since < settled and not _executing(settings)

    return [run for run in runs if not owners.lives(run) and left(run)]


def paused_alone(settings: Settings) -> list[FlowRun]:
    """Runs of ours that wait for a person by Prefect's database, but whose process is gone.

    Raises:
        MillError: the database cannot be read.
    """
    return recorded_and_lost(settings, flow_runs(settings, PAUSED))


def recorded_and_lost(settings: Settings, runs: Sequence[FlowRun]) -> list[FlowRun]:
    """Those of ``runs`` that a record of ours tells of, but whose process is gone."""
    if not runs:
        return []
    owners = _Owners(settings, runs)
    return [run for run in runs if run.identifier in owners.alive and not owners.lives(run)]


def is_lost(settings: Settings, identifier: str) -> bool:
    """Whether a flow run is one of ours and its process is gone."""
    run = FlowRun(identifier, name="", state="", since=0.0)
    owners = _Owners(settings, [run])
    return identifier in owners.alive and not owners.lives(run)


def _executing(settings: Settings) -> bool:
    """Whether any process here may be at a flow run of which neither record nor worker tells."""
    return any(_executes(one) for one in living(settings))


def _executes(one: Living) -> bool:
    line = " ".join(one.command)
    return "prefect" in line and ("engine" in line or "flow-run" in line or "worker" in line)


def settle(settings: Settings, api: str) -> None:
    """Crash what a worker of ``up`` left behind, which frees the slots of its deployments.

    What cannot be told is a warning: ``up`` starts and ends all the same.
    """
    try:
        for run in stuck_flow_runs(settings, between_workers=True):
            set_state(api, run.identifier, crashed())
            log.warning("%s: %s", run.name, GONE)
    except MillError as error:
        log.warning("flow runs without a process were left as they are: %s", error)


def crash(settings: Settings, runs: Sequence[FlowRun]) -> None:
    """Set flow runs, and their task runs at work, to ``Crashed``: by the server of ``up`` where
    one answers, else without one.

    Raises:
        MillError: the server refused.
    """
    api = prefect_api(settings)
    identifiers = [run.identifier for run in runs]
    if api is None:
        _crash_in_database(identifiers, task_runs_at_work(settings, identifiers))
        return
    for identifier in identifiers:
        crash_on_server(api, identifier)


def crash_on_server(api: str, identifier: str) -> None:
    """Set one flow run, and its task runs at work, to ``Crashed``.

    Raises:
        MillError: the server did not take it.
    """
    set_state(api, identifier, crashed())
    at_work = {"state": {"type": {"any_": list(AT_WORK)}}}
    among = {"flow_runs": {"id": {"any_": [identifier]}}, "task_runs": at_work}
    for task in ask(api, "task_runs/filter", among):
        path = f"task_runs/{task['id']}/set_state"
        ask(api, path, {"state": crashed(), "force": True})


def crashed(message: str = GONE) -> dict[str, Any]:
    """The state of a flow run whose process is gone."""
    return {"type": "CRASHED", "name": "Crashed", "message": message}


def rescheduled() -> dict[str, Any]:
    """The state of a deployment's flow run that a worker shall take up again."""
    due = {"scheduled_time": datetime.now(UTC).isoformat()}
    return {"type": "SCHEDULED", "name": "Resuming", "state_details": due}


def set_state(api: str, identifier: str, state: dict[str, Any]) -> None:
    """Force a flow run into a state; a slot that it held is released by Prefect's own rule.

    The API itself is asked: Prefect's client would stay in the memory of ``up`` for good.

    Raises:
        MillError: the server did not take it.
    """
    ask(api, f"flow_runs/{identifier}/set_state", {"state": state, "force": True})


def ask(api: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """One call of Prefect's API; its answer. A server that is busy is asked again.

    Raises:
        MillError: the server did not answer, or refused.
    """
    try:
        with httpx.Client(trust_env=False, timeout=_ASK_SECONDS) as client:
            method = "GET" if body is None else "POST"
            for wait in (*_BUSY_SECONDS, None):
                answer = client.request(method, f"{api}/{path}", json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or wait is None:
                    break
                time.sleep(wait)
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise UnknownRun(f"Prefect's server at {api} knows no {path}")
            answer.raise_for_status()
            return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise MillError(f"Prefect's server at {api} did not take it: {error}") from error


def _crash_in_database(identifiers: Sequence[str], tasks: Sequence[str]) -> None:
    """With Prefect's own functions, which release the slots too."""
    import asyncio

    from prefect.server.database import provide_database_interface
    from prefect.server.models.flow_runs import set_flow_run_state
    from prefect.server.models.task_runs import set_task_run_state
    from prefect.server.schemas.states import State, StateType

    def gone() -> State:
        return State(type=StateType.CRASHED, name="Crashed", message=GONE)

    async def tell() -> None:
        db = provide_database_interface()
        try:
            async with db.session_context(begin_transaction=True) as session:
                for identifier in identifiers:
                    await set_flow_run_state(session, UUID(identifier), gone(), force=True)
                for task in tasks:
                    await set_task_run_state(session, UUID(task), gone(), force=True)
        finally:
            engine = await db.engine()
            await engine.dispose()

    asyncio.run(tell())
