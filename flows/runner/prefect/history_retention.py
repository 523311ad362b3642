"""How long Prefect's database remembers: ``Settings.history_days``, 30 unless told otherwise.

A server that keeps running deletes old flow runs itself, by the same number of days (its settings
are exported by ``components/core/settings.py``). On a machine where runs start their own servers
none lives long enough, so a collection does the same with Prefect's own functions: flow runs that
ended longer ago go with their task runs, states, logs and artifacts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from components.core.errors import MillError
from components.core.settings import Settings
from components.core.store.gc_plan import DAY, Item, Sweep
from components.core.store.trash import Trash

PLACE = "prefect"
_COUNTS = """
WITH old AS (
    SELECT id FROM flow_run WHERE parent_task_run_id IS NULL AND end_time < ?1
    AND state_type IN ('COMPLETED', 'CANCELLED', 'FAILED', 'CRASHED')
)
SELECT (SELECT COUNT(*) FROM old),
    (SELECT COUNT(*) FROM task_run WHERE flow_run_id IN old),
    (SELECT COUNT(*) FROM flow_run), (SELECT COUNT(*) FROM task_run)
"""
"""What Prefect's own vacuum would take, counted as it counts."""
_BY_STATE = """
SELECT id, name, state_type, state_timestamp, deployment_id IS NOT NULL FROM flow_run
WHERE state_type IN (SELECT value FROM json_each(?))
"""
_TASKS_BY_STATE = """
SELECT id, flow_run_id FROM task_run
WHERE flow_run_id IS NOT NULL AND state_type IN (SELECT value FROM json_each(?))
"""
AT_WORK = ("RUNNING", "PENDING", "CANCELLING")
PAUSED = ("PAUSED",)
_PATIENCE_SECONDS = 20.0
_STAMP = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class FlowRun:
    """One flow run that has not ended, by the database."""

    identifier: str
    name: str
    state: str
    since: float
    """Seconds since 1970."""
    deployed: bool = False
    """Whether a worker runs it, for a deployment."""


def database(settings: Settings) -> Path:
    """Prefect's database in this workspace."""
    return settings.prefect / "prefect.db"


def sweep_history(settings: Settings, now: float) -> Sweep:
    """Flow runs that ended long ago, and results as old.

    Raises:
        MillError: the database cannot be read.
    """
    sweep = Sweep(PLACE, settings.prefect)
    cutoff = now - settings.history_days * DAY
    why = f"ended more than {settings.history_days} days ago"
    if database(settings).exists():
        old, tasks, kept, share = _count(settings, cutoff)
        size = int(share * database(settings).stat().st_size)
        if old:
            name = f"{old} flow runs with {tasks} task runs"
            sweep.items.append(Item(name, why, size, kind="history"))
        for _ in range(kept):
            sweep.keep("flow runs that ended since, or have not")
    results = [
        path
        for path in (settings.prefect / "storage").rglob("*")
        if path.is_file() and path.stat().st_mtime < cutoff
    ]
    if results:
        days = settings.history_days
        sweep.drop(f"{len(results)} results", f"written more than {days} days ago", results)
    return sweep


def _count(settings: Settings, cutoff: float) -> tuple[int, int, int, float]:
    """(old flow runs, their task runs, other flow runs, share of all task runs)."""
    stamp = datetime.fromtimestamp(cutoff, UTC).strftime(_STAMP)
    with closing(_open(settings)) as connection:
        try:
            (gone, tasks, flows, everything) = connection.execute(_COUNTS, (stamp,)).fetchone()
        except sqlite3.Error as error:
            raise MillError(f"{database(settings)}: cannot be read: {error}") from error
    return int(gone), int(tasks), int(flows - gone), tasks / max(everything, 1)


def flow_runs(settings: Settings, states: Sequence[str]) -> list[FlowRun]:
    """Flow runs that the database says are in one of these types of states.

    Raises:
        MillError: the database cannot be read.
    """
    if not database(settings).exists():
        return []
    with closing(_open(settings)) as connection:
        try:
            rows = connection.execute(_BY_STATE, (json.dumps(states),)).fetchall()
        except sqlite3.Error as error:
            raise MillError(f"{database(settings)}: cannot be read: {error}") from error
    return [
        FlowRun(str(UUID(run)), name, state, _seconds(since), bool(deployed))
        for run, name, state, since, deployed in rows
    ]


def task_runs_at_work(settings: Settings, flow_runs: Collection[str]) -> list[str]:
    """Ids of the task runs of these flow runs that have not ended, by the database.

    Raises:
        MillError: the database cannot be read.
    """
    with closing(_open(settings)) as connection:
        try:
            rows = connection.execute(_TASKS_BY_STATE, (json.dumps(AT_WORK),)).fetchall()
        except sqlite3.Error as error:
            raise MillError(f"{database(settings)}: cannot be read: {error}") from error
    return [str(UUID(task)) for task, flow_run in rows if str(UUID(flow_run)) in flow_runs]


def _open(settings: Settings) -> sqlite3.Connection:
    address = f"{database(settings).as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)


def _seconds(stamp: str | None) -> float:
    if not stamp:
        return 0.0
    moment = datetime.fromisoformat(stamp)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def forget_history(settings: Settings, sweep: Sweep) -> None:
    """Delete what ``sweep`` names, then give the room back; beside a server it is as safe as a
    second server would be, since Prefect's own functions do it."""
    trash = Trash(settings.prefect)
    for item in sweep.items:
        for path in item.paths:
            trash.take(path)
    if any(item.kind == "history" for item in sweep.items):
        _forget_flow_runs()
        compact(settings, sweep)


def _forget_flow_runs() -> None:
    import asyncio

    from prefect.server.database import provide_database_interface
    from prefect.server.services import db_vacuum

    async def forget() -> None:
        db = provide_database_interface()
        try:
            await db_vacuum.vacuum_old_flow_runs(db=db)
            await db_vacuum.vacuum_orphaned_logs(db=db)
            await db_vacuum.vacuum_orphaned_artifacts(db=db)
            await db_vacuum.vacuum_stale_artifact_collections(db=db)
            await db_vacuum.vacuum_old_events(db=db)
        finally:
            engine = await db.engine()
            await engine.dispose()

    asyncio.run(forget())


def compact(settings: Settings, sweep: Sweep) -> None:
    """Give the deleted rows' room back to the disk; left for the next time where it is in use."""
    try:
        with closing(sqlite3.connect(database(settings), timeout=_PATIENCE_SECONDS)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        sweep.notes.append(f"Prefect's database was not compacted: {error}; the next gc does it")
