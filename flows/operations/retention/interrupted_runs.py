"""Runs that ended without a word (kill -9, a power cut): every command closes them before its work.

Their records say ``interrupted`` from then on; Prefect's flow run and task run, ``Crashed``. Where
none is open it costs a look at the records and one query: Prefect is not imported for it.
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
from flows.runner.prefect.history_retention import AT_WORK, FlowRun, flow_runs
from flows.runner.run_records import at_work, close_dead, read_record

_RUNNING = re.compile(rb'"state":\s*"running"')
"""Most records have ended, and hold a whole config: so they are not parsed."""
_BEGINNING_SECONDS = 60.0
"""A deployment's flow run that a worker takes up again may not have its new process yet."""
log = get_logger(__name__)


def close_interrupted(settings: Settings) -> int:
    """Write of runs whose process is gone that they were interrupted, also into Prefect's database.

    What Prefect does not take is a warning: the command at hand goes on.

    Returns:
        How many there were.
    """
    dead = _dead_records(settings.runs)
    try:
        runs = flow_runs(settings, AT_WORK)
        lost = _lost(settings, runs) if runs else []
        elsewhere = _elsewhere(settings, dead, {run.identifier for run in runs})
        if lost or elsewhere:
            _crash(settings, lost, elsewhere)
    except MillError as error:
        log.warning("flow runs without a process were left as they are: %s", error)
        lost = []
        # Their records stay as they are too, so that the next command tries again.
        dead = [path for path in dead if not (read_record(path) or {}).get("flow_run")]
    for path in dead:
        close_dead(path)
    return max(len(dead), len(lost))


def _dead_records(folder: Path) -> list[Path]:
    dead = []
    for path in sorted(folder.glob("*.json")):
        try:
            may_run = _RUNNING.search(path.read_bytes()) is not None
        except OSError:
            continue  # collected meanwhile
        record = read_record(path) if may_run else None
        if record is not None and record["state"] == "running" and not at_work(record):
            dead.append(path)
    return dead


def _lost(settings: Settings, runs: Sequence[FlowRun]) -> list[FlowRun]:
    from flows.runner.prefect.prefect_recovery import recorded_and_lost

    settled = time.time() - _BEGINNING_SECONDS
    lost = recorded_and_lost(settings, runs)
    return [run for run in lost if not run.deployed or run.since < settled]


def _elsewhere(settings: Settings, dead: Sequence[Path], here: set[str]) -> list[str]:
    """Flow runs of dead records that a server named by the user keeps, not our database."""
    if settings.prefect_api_url is None:
        return []
    told = [(read_record(path) or {}).get("flow_run") for path in dead]
    return [run for run in told if isinstance(run, str) and run not in here]


def _crash(settings: Settings, lost: Sequence[FlowRun], elsewhere: Sequence[str]) -> None:
    from flows.runner.prefect.prefect_recovery import UnknownRun, ask, crash, crash_on_server

    if lost:
        crash(settings, lost)
    api = settings.prefect_api_url
    if api is None:
        return
    for identifier in elsewhere:
        with suppress(UnknownRun):  # somebody deleted it
            if ask(api, f"flow_runs/{identifier}")["state_type"] in AT_WORK:
                crash_on_server(api, identifier)
