"""Prefect's database: its rows of flow runs, and the retention of its history.

History is kept for ``Settings.history_days``, 30 by default. A long-lived server deletes old flow
runs itself, after the same number of days (its settings are exported by
``components/core/settings.py``). Where runs start ephemeral servers none lives long enough, so
``modelmill gc`` does the same with Prefect's own functions: flow runs that ended longer ago are
deleted with their task runs, states, logs and artifacts.
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

from typing_extensions import override

from components.core.errors import MillError
from components.core.settings import Settings
from components.core.store.gc_plan import (
    DAY_SECONDS,
    Deletion,
    DeletionSystem,
    GcPlan,
    discard_paths,
    left_paths,
)

HISTORY_PLACE = "prefect"
_COUNT_QUERY = """
WITH old AS (
    SELECT id FROM flow_run WHERE parent_task_run_id IS NULL AND end_time < ?1
    AND state_type IN ('COMPLETED', 'CANCELLED', 'FAILED', 'CRASHED')
)
SELECT (SELECT COUNT(*) FROM old),
    (SELECT COUNT(*) FROM task_run WHERE flow_run_id IN old),
    (SELECT COUNT(*) FROM flow_run), (SELECT COUNT(*) FROM task_run)
"""
"""Counts what Prefect's own vacuum would delete, by its own conditions."""
_FLOW_RUNS_QUERY = """
SELECT id, name, state_type, state_timestamp, deployment_id IS NOT NULL FROM flow_run
WHERE state_type IN (SELECT value FROM json_each(?))
"""
_TASK_RUNS_QUERY = """
SELECT id, flow_run_id FROM task_run
WHERE flow_run_id IS NOT NULL AND state_type IN (SELECT value FROM json_each(?))
"""
ACTIVE_STATES = ("RUNNING", "PENDING", "CANCELLING")
PAUSED_STATES = ("PAUSED",)
_LOCK_TIMEOUT_SECONDS = 20.0
_TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class FlowRunRow:
    """Flow run that has not ended, as a row of Prefect's database."""

    identifier: str
    name: str
    state: str
    state_since: float
    """Seconds since 1970."""
    has_deployment: bool = False
    """True where a worker runs it for a deployment."""


def database_path(settings: Settings) -> Path:
    """Path of Prefect's database in this workspace."""
    return settings.prefect / "prefect.db"


def plan_history_gc(settings: Settings, now: float) -> GcPlan:
    """Plan to delete flow runs that ended long ago, and results as old.

    Raises:
        MillError: the database cannot be read.
    """
    gc_plan = GcPlan(HISTORY_PLACE, settings.prefect)
    cutoff = now - settings.history_days * DAY_SECONDS
    why = f"ended more than {settings.history_days} days ago"
    if database_path(settings).exists():
        old, tasks, others, share = _count_runs(settings, cutoff)
        size = int(share * database_path(settings).stat().st_size)
        if old:
            name = f"{old} flow runs with {tasks} task runs"
            facts = {"cutoff": cutoff}
            gc_plan.deletions.append(Deletion(name, why, size, kind="history", facts=facts))
        for _ in range(others):
            gc_plan.add_retained("flow runs that ended since, or have not")
    results = [
        path
        for path in (settings.prefect / "storage").rglob("*")
        if path.is_file() and path.stat().st_mtime < cutoff
    ]
    if results:
        why = f"written more than {settings.history_days} days ago"
        gc_plan.add_deletion(f"{len(results)} results", why, results)
    return gc_plan


def _count_runs(settings: Settings, cutoff: float) -> tuple[int, int, int, float]:
    """(old flow runs, their task runs, other flow runs, share of all task runs)."""
    stamp = datetime.fromtimestamp(cutoff, UTC).strftime(_TIMESTAMP_FORMAT)
    with closing(_open_database(settings)) as connection:
        try:
            (old, tasks, flows, all_tasks) = connection.execute(_COUNT_QUERY, (stamp,)).fetchone()
        except sqlite3.Error as error:
            raise MillError(f"{database_path(settings)}: cannot be read: {error}") from error
    return int(old), int(tasks), int(flows - old), tasks / max(all_tasks, 1)


def read_flow_runs(settings: Settings, states: Sequence[str]) -> list[FlowRunRow]:
    """Flow runs of Prefect's database in one of these types of states.

    Raises:
        MillError: the database cannot be read.
    """
    if not database_path(settings).exists():
        return []
    with closing(_open_database(settings)) as connection:
        try:
            rows = connection.execute(_FLOW_RUNS_QUERY, (json.dumps(states),)).fetchall()
        except sqlite3.Error as error:
            raise MillError(f"{database_path(settings)}: cannot be read: {error}") from error
    return [
        FlowRunRow(str(UUID(run)), name, state, _unix_seconds(since), bool(deployed))
        for run, name, state, since, deployed in rows
    ]


def active_task_runs(settings: Settings, flow_runs: Collection[str]) -> list[str]:
    """Ids of the task runs of these flow runs that have not ended in Prefect's database.

    Raises:
        MillError: the database cannot be read.
    """
    with closing(_open_database(settings)) as connection:
        try:
            rows = connection.execute(_TASK_RUNS_QUERY, (json.dumps(ACTIVE_STATES),)).fetchall()
        except sqlite3.Error as error:
            raise MillError(f"{database_path(settings)}: cannot be read: {error}") from error
    return [str(UUID(task)) for task, flow_run in rows if str(UUID(flow_run)) in flow_runs]


def _open_database(settings: Settings) -> sqlite3.Connection:
    address = f"{database_path(settings).as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=_LOCK_TIMEOUT_SECONDS)


def _unix_seconds(stamp: str | None) -> float:
    if not stamp:
        return 0.0
    moment = datetime.fromisoformat(stamp)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class HistoryDeletion(DeletionSystem):
    """Prefect's flow runs and results."""

    @override
    def delete(self, settings: Settings, plan: GcPlan) -> None:
        """Delete the history that ``plan`` names, then compact the database.

        Beside a running server this is as safe as a second server, since Prefect's own functions
        do it.
        """
        discard_paths(plan)
        if any(deletion.kind == "history" for deletion in plan.deletions):
            _vacuum_flow_runs()
            compact_database(settings, plan)

    @override
    def find_left(self, settings: Settings, plan: GcPlan) -> list[str]:
        old = [
            deletion
            for deletion in plan.deletions
            if deletion.kind == "history"
            and _count_runs(settings, float(deletion.facts["cutoff"]))[0]
        ]
        return [*(deletion.name for deletion in old), *left_paths(plan)]


def _vacuum_flow_runs() -> None:
    import asyncio

    from prefect.server.database import provide_database_interface
    from prefect.server.services import db_vacuum

    async def vacuum() -> None:
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

    asyncio.run(vacuum())


def compact_database(settings: Settings, gc_plan: GcPlan) -> None:
    """Return the deleted rows' space to the disk; a database in use is left to the next gc."""
    try:
        with closing(
            sqlite3.connect(database_path(settings), timeout=_LOCK_TIMEOUT_SECONDS)
        ) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        gc_plan.notes.append(f"Prefect's database was not compacted: {error}; the next gc does it")
