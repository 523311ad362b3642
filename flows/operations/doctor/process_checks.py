"""Checks of run records, Prefect flow runs and orphaned processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import Settings
from flows.operations.doctor.finding import (
    Finding,
    list_first,
    or_report_ok,
    report_broken,
    report_info,
    report_ok,
    report_warning,
    shell_path,
)
from flows.operations.retention.interrupted_runs import find_dead_records
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.prefect_recovery import abandoned_pauses, stuck_flow_runs
from flows.runner.run_records import is_running, read_record

_INIT_PID = 1
_OWN_COMMANDS = ("flows.cli.main", "modelmill")
"""Commands that may run in the background without a parent; their children may not."""
_SERVERS = ("prefect", "mlflow", "bentoml", "serving.gateway.exec_server", "multiprocessing.spawn")


def check_runs(settings: Settings) -> Iterator[Finding]:
    """Check for run records of dead processes and for unreadable records."""
    paths = sorted(settings.runs.glob("*.json"))
    running = [
        str(record["run"])
        for path in paths
        if (record := read_record(path)) is not None and is_running(record)
    ]
    what = f"{len(paths)} recorded" + (f"; at work: {list_first(running)}" if running else "")
    yield from or_report_ok(_find_broken_records(settings, paths), "runs", what)


def _find_broken_records(settings: Settings, paths: list[Path]) -> Iterator[Finding]:
    dead = [path.stem for path in find_dead_records(settings.runs)]
    if dead:
        what = f"recorded as running, but their process is gone: {list_first(dead)}"
        yield report_warning("runs", what, "modelmill doctor --fix")
    damaged = [path for path in paths if read_record(path) is None]
    if damaged:
        names = list_first(path.name for path in damaged)
        yield report_broken(
            "runs", f"unreadable run records: {names}", f"rm {shell_path(damaged[0])}"
        )


def check_flow_runs(settings: Settings) -> Iterator[Finding]:
    """Check for flow runs that are active in Prefect's database but have no process."""
    yield from or_report_ok(_find_stuck_flow_runs(settings), "flow runs", "none is stuck")


def _find_stuck_flow_runs(settings: Settings) -> Iterator[Finding]:
    stuck = stuck_flow_runs(settings)
    if stuck:
        names = list_first(run.name for run in stuck)
        what = f"running in Prefect's database, but without a process: {names}"
        yield report_warning("flow runs", what, "modelmill doctor --fix")
    abandoned = abandoned_pauses(settings)
    if abandoned:
        names = list_first(run.name for run in abandoned)
        what = f"waits for approval, but its process is gone: {names}"
        if prefect_api(settings) is None:
            yield report_warning(
                "flow runs", f"{what}; only `up` receives the decision", "modelmill up"
            )
        else:
            yield report_info("flow runs", f"{what}; after the decision the worker resumes it")


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Check for servers and workers of this workspace whose parent is gone."""
    processes = find_workspace_processes(settings)
    orphans = [process for process in processes if _is_orphan(process)]
    for process in orphans:
        what = f"process {process.pid} ({process.short_command}) has outlived its parent"
        yield report_warning("processes", what, f"kill {process.pid}")
    if not orphans:
        yield report_ok("processes", f"{len(processes)} of this workspace, none without a parent")


def _is_orphan(process: WorkspaceProcess) -> bool:
    if process.parent != _INIT_PID or any(
        own in word for own in _OWN_COMMANDS for word in process.command
    ):
        return False
    return any(name in word for name in _SERVERS for word in process.command)
