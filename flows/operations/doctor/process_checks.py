"""Runs that stopped without an end, and processes that outlived theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import Settings
from flows.operations.doctor.finding import Finding, broken, first, info, near, ok, or_ok, warning
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.prefect_recovery import abandoned_pauses, stuck_flow_runs
from flows.runner.run_records import is_running, read_record

_INIT = 1
_OWN = ("flows.cli.main", "modelmill")
"""Commands of ours may be started in the background; what they start may not outlive them."""
_SERVERS = ("prefect", "mlflow", "bentoml", "serving.gateway.exec_server", "multiprocessing.spawn")


def check_runs(settings: Settings) -> Iterator[Finding]:
    """Run records that say "running" though nobody runs; records that cannot be read."""
    paths = sorted(settings.runs.glob("*.json"))
    running = [
        str(record["run"])
        for path in paths
        if (record := read_record(path)) is not None and is_running(record)
    ]
    what = f"{len(paths)} recorded" + (f"; at work: {first(running)}" if running else "")
    yield from or_ok(_runs(settings, paths), "runs", what)


def _runs(settings: Settings, paths: list[Path]) -> Iterator[Finding]:
    dead = [path.stem for path in dead_records(settings)]
    if dead:
        what = f"recorded as running, but the process is gone: {first(dead)}"
        yield warning("runs", what, "modelmill doctor --mend")
    damaged = [path for path in paths if read_record(path) is None]
    if damaged:
        names = first(path.name for path in damaged)
        yield broken("runs", f"no records of runs: {names}", f"rm {near(damaged[0])}")


def dead_records(settings: Settings) -> list[Path]:
    """Records of runs that are not at work and never wrote an end."""
    found = []
    for path in sorted(settings.runs.glob("*.json")):
        record = read_record(path)
        if record is not None and record["state"] == "running" and not is_running(record):
            found.append(path)
    return found


def check_flow_runs(settings: Settings) -> Iterator[Finding]:
    """What Prefect takes for running, though no process of this workspace does it."""
    yield from or_ok(_flow_runs(settings), "flow runs", "none is stuck")


def _flow_runs(settings: Settings) -> Iterator[Finding]:
    stuck = stuck_flow_runs(settings)
    if stuck:
        what = f"running by Prefect's database, by nobody else: {first(run.name for run in stuck)}"
        yield warning("flow runs", what, "modelmill doctor --mend")
    alone = abandoned_pauses(settings)
    if alone:
        names = first(run.name for run in alone)
        what = f"waits for a person, but its process is gone: {names}"
        if prefect_api(settings) is None:
            yield warning("flow runs", f"{what}; only `up` hears the answer", "modelmill up")
        else:
            yield info("flow runs", f"{what}; after the answer the worker takes it up again")


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Servers and workers of this workspace whose parent is gone."""
    found = find_workspace_processes(settings)
    lost = [one for one in found if _is_orphan(one)]
    for one in lost:
        what = f"process {one.pid} ({one.short_command}) has outlived what started it"
        yield warning("processes", what, f"kill {one.pid}")
    if not lost:
        yield ok("processes", f"{len(found)} of this workspace, none without a parent")


def _is_orphan(one: WorkspaceProcess) -> bool:
    if one.parent != _INIT or any(own in word for own in _OWN for word in one.command):
        return False
    return any(name in word for name in _SERVERS for word in one.command)
