"""Closing of interrupted runs (kill -9, power cut), done by every command before its own work.

Their records become ``interrupted``; their flow runs and task runs in Prefect, ``Crashed``. Without
any, this costs reading the records and one query: Prefect is not imported.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from components.core.errors import MillError
from components.core.log import get_logger
from components.core.settings import Settings
from flows.runner.prefect.prefect_database import ACTIVE_STATES, FlowRunRow, read_flow_runs
from flows.runner.run_records import close_interrupted_record, is_running, read_record

_RUNNING_STATE = re.compile(rb'"state":\s*"running"')
"""Filter before parsing: most records have ended, and each holds a whole config."""
_SETTLED_SECONDS = 60.0
"""Seconds in which a flow run that a worker has just resumed may not have its process yet."""
log = get_logger(__name__)


def close_interrupted(settings: Settings) -> int:
    """Record runs whose process is gone as interrupted, here and in Prefect's database.

    A failure of Prefect is a warning: the command itself goes on.

    Returns:
        Number of runs.
    """
    dead = find_dead_records(settings.runs)
    try:
        runs = read_flow_runs(settings, ACTIVE_STATES)
        lost = _find_lost_flow_runs(settings, runs) if runs else []
        on_other_server = _flow_runs_on_other_server(
            settings, dead, {run.identifier for run in runs}
        )
        if lost or on_other_server:
            _crash_flow_runs(settings, lost, on_other_server)
    except MillError as error:
        log.warning("flow runs without a process were left as they are: %s", error)
        lost = []
        # Their records stay as they are too, so that the next command tries again.
        dead = [path for path in dead if not (read_record(path) or {}).get("flow_run")]
    for path in dead:
        close_interrupted_record(path)
    return max(len(dead), len(lost))


def find_dead_records(folder: Path) -> list[Path]:
    """Records of runs that say ``running`` though their process is gone."""
    dead = []
    for path in sorted(folder.glob("*.json")):
        try:
            may_run = _RUNNING_STATE.search(path.read_bytes()) is not None
        except OSError:
            continue  # collected meanwhile
        record = read_record(path) if may_run else None
        if record is not None and record["state"] == "running" and not is_running(record):
            dead.append(path)
    return dead


def _find_lost_flow_runs(settings: Settings, runs: Sequence[FlowRunRow]) -> list[FlowRunRow]:
    from flows.runner.prefect.prefect_recovery import lost_flow_runs

    settled = time.time() - _SETTLED_SECONDS
    lost = lost_flow_runs(settings, runs)
    return [run for run in lost if not run.has_deployment or run.state_since < settled]


def _flow_runs_on_other_server(
    settings: Settings, dead: Sequence[Path], in_own_database: set[str]
) -> list[str]:
    """Flow runs of dead records that lie on a server named by the user, not in our database."""
    if settings.prefect_api_url is None:
        return []
    identifiers = [(read_record(path) or {}).get("flow_run") for path in dead]
    return [run for run in identifiers if isinstance(run, str) and run not in in_own_database]


def _crash_flow_runs(
    settings: Settings, lost: Sequence[FlowRunRow], on_other_server: Sequence[str]
) -> None:
    from flows.runner.prefect.prefect_recovery import (
        UnknownFlowRun,
        call_api,
        crash_flow_run,
        crash_flow_runs,
    )

    if lost:
        crash_flow_runs(settings, lost)
    api = settings.prefect_api_url
    if api is None:
        return
    for identifier in on_other_server:
        with suppress(UnknownFlowRun):  # somebody deleted it
            if call_api(api, f"flow_runs/{identifier}")["state_type"] in ACTIVE_STATES:
                crash_flow_run(api, identifier)
