"""Status of a platform: services with start time and memory, newest runs, champions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from components.core.process.process_tree import is_running
from components.core.settings import Settings
from components.publish.bento_folders import choose_champion
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.model_registry import CHAMPION, list_versions
from flows.operations.up.platform_state import (
    ENDPOINT,
    PlatformState,
    ServiceState,
    find_service,
    prefect_api,
    read_running_state,
)
from flows.operations.up.services import read_served_model
from flows.operations.up.supervisor import find_leftovers
from flows.runner.progress_display import format_duration, format_quantity, rows_table
from flows.runner.run_records import read_records

SHOWN_RUNS = 5
_ASK_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class PlatformStatus:
    """State of services, newest runs and champions."""

    value: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.value

    def show(self, console: Console) -> None:
        """Print it for a terminal."""
        _show_status(console, self.value)


def read_platform_status(settings: Settings) -> PlatformStatus:
    """Read the state of services, the newest runs and the champions.

    Raises:
        DataError: the platform's state file or a version's record is damaged.
    """
    state = read_running_state(settings)
    services = [_service_status(service_state) for service_state in state.services] if state else []
    own = _measure_memory(state.pid, alone=True) if state else 0
    left = 0 if state else len(find_leftovers(settings))
    value = {
        "running": state is not None,
        "pid": state.pid if state else None,
        "since": _timestamp(state.started) if state else None,
        "memory": sum(service_state["memory"] for service_state in services) + own,
        "services": services,
        "left_behind": left,
        "flow_runs": _newest_flow_runs(prefect_api(settings)),
        "runs": [_run_summary(record) for record in read_records(settings.runs)[:SHOWN_RUNS]],
        "champions": _champions(settings, state),
        "no_champion": "" if choose_champion(settings) else describe_newest(settings),
    }
    return PlatformStatus(value)


def _service_status(state: ServiceState) -> dict[str, Any]:
    lives = is_running(state.pid, state.create_time)
    return {
        "name": state.name,
        "state": state.state,
        "address": state.address,
        "pid": state.pid if lives else None,
        "since": _timestamp(state.since) if lives else None,
        "memory": _measure_memory(state.pid) if lives else 0,
        "restarts": state.restarts,
        "note": state.note,
    }


def _measure_memory(pid: int, *, alone: bool = False) -> int:
    """Bytes of a process and, unless ``alone``, its descendants; shared pages count once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *([] if alone else parent.children(recursive=True))]:
            total += int(process.memory_full_info().pss)
    except psutil.Error:
        return total  # a process has ended meanwhile
    return total


def _timestamp(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")


def _newest_flow_runs(api: str | None) -> list[dict[str, Any]]:
    """Newest flow runs on Prefect's server; none if no server is running."""
    if api is None:
        return []
    newest = {"sort": "START_TIME_DESC", "limit": SHOWN_RUNS}
    started = {"flow_runs": {"start_time": {"is_null_": False}}}
    try:
        with httpx.Client(trust_env=False, timeout=_ASK_TIMEOUT_SECONDS) as client:
            answer = client.post(f"{api}/flow_runs/filter", json={**newest, **started})
            answer.raise_for_status()
            flow_runs = answer.json()
    except (httpx.HTTPError, ValueError):
        return []
    return [
        {
            "name": run["name"],
            "state": run["state_name"],
            "started": run["start_time"],
            "seconds": run["total_run_time"],
        }
        for run in flow_runs
    ]


def _run_summary(record: dict[str, Any]) -> dict[str, Any]:
    shown = ("run", "preset", "state", "started", "at", "note")
    return {key: record[key] for key in shown if record.get(key)}


def _champions(settings: Settings, state: PlatformState | None) -> list[dict[str, Any]]:
    endpoint = find_service(state.services, ENDPOINT) if state else None
    served = read_served_model(settings) if endpoint else ""
    return [
        {
            "model": entry.model,
            "version": str(entry.version),
            "served": served == f"{entry.model} version {entry.version}",
        }
        for entry in list_versions(settings)
        if CHAMPION in entry.aliases
    ]


def _show_status(console: Console, value: dict[str, Any]) -> None:
    if value["running"]:
        memory = format_quantity(value["memory"])
        console.print(f"up since {value['since']} (process {value['pid']}), {memory}B in all")
        console.print(_services_table(value["services"]))
        for service_value in value["services"]:
            if service_value["note"]:
                console.print(
                    f"{service_value['name']}: {service_value['note']}",
                    markup=False,
                    soft_wrap=True,
                )
    elif value["left_behind"]:
        count = value["left_behind"]
        console.print(f"a killed `modelmill up` left {count} processes; `modelmill down` ends them")
    else:
        console.print("nothing is running; next: [bold]modelmill up[/bold]")
    _show_runs(console, value)
    for champion in value["champions"]:
        where = ", served" if champion["served"] else ""
        console.print(f"champion of {champion['model']}: version {champion['version']}{where}")
    if value["no_champion"]:
        line = f"no champion yet: {value['no_champion']}"
        console.print(line, markup=False, soft_wrap=True)


def _show_runs(console: Console, value: dict[str, Any]) -> None:
    """Print the flow runs on Prefect's server, else the workspace's own run records."""
    if value["flow_runs"]:
        rows = [
            (r["name"], r["state"], _clock_time(r["started"]), format_duration(r["seconds"]))
            for r in value["flow_runs"]
        ]
        console.print(rows_table(("flow run", "state", "started (UTC)", "took"), rows))
    elif value["runs"]:
        at_work = any(r.get("at") for r in value["runs"])
        columns = ["run", "state", "started (UTC)"] + (["at"] if at_work else [])
        rows_of_records = [
            (r["run"], r["state"], _clock_time(r["started"]), r.get("at", ""))
            for r in value["runs"]
        ]
        console.print(rows_table(columns, [row[: len(columns)] for row in rows_of_records]))


def _clock_time(moment: str) -> str:
    return moment[:19].replace("T", " ")


def _services_table(services: Sequence[dict[str, Any]]) -> Table:
    """Table of services that fits 80 columns without cutting an address."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("service", "state", "address", "pid", "since (UTC)", "memory"):
        table.add_column(column, no_wrap=column != "state")
    for service_value in services:
        restarts = service_value["restarts"]
        table.add_row(
            service_value["name"],
            service_value["state"] + (f", restarted {restarts}x" if restarts else ""),
            service_value["address"],
            str(service_value["pid"] or ""),
            (service_value["since"] or "")[11:19],
            f"{format_quantity(service_value['memory'])}B",
        )
    return table
