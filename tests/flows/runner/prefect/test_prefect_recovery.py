"""Flow runs whose process is gone, on a real server: found, crashed, and their slots are free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.core.settings import Settings
from flows.operations.doctor import process_checks
from flows.operations.doctor.finding import Finding
from flows.runner.prefect import prefect_recovery
from flows.runner.prefect.prefect_database import FlowRunRow
from flows.runner.prefect.prefect_recovery import (
    ENGINE_VARIABLE,
    abandoned_pauses,
    crash_stuck_runs,
    stuck_flow_runs,
)
from tests.flows.conftest import Server

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
NOBODY = 999_999_999


def findings_about(settings: Settings, run: dict[str, Any]) -> list[Finding]:
    """The doctor's findings that name this flow run; other tests' runs share the server."""
    return [f for f in process_checks.check_flow_runs(settings) if run["name"] in f.what]


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Settings:
    """A workspace whose Prefect database is the server's."""
    (tmp_path / "prefect").symlink_to(server.home)
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def deployment(server: Server) -> str:
    """As in ``prefect.yaml``: one run at a time, a new one is cancelled."""
    flow = server.ask("flows/", {"name": "slots"})["id"]
    limit = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    made = server.ask("deployments/", {"name": uuid.uuid4().hex, "flow_id": flow, **limit})
    return str(made["id"])


def begun(server: Server, deployment: str) -> dict[str, Any]:
    """A flow run as a worker begins it; cancelled where there is no slot."""
    run: dict[str, Any] = server.ask(f"deployments/{deployment}/create_flow_run", {})
    for kind in ("PENDING", "RUNNING"):
        if state(server, run) != "CANCELLED":
            server.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": kind}})
    return run


def state(server: Server, run: dict[str, Any]) -> str:
    return str(server.ask(f"flow_runs/{run['id']}")["state_type"])


def slots(server: Server, deployment: str) -> int:
    limit = server.ask(f"deployments/{deployment}")["global_concurrency_limit"]
    return int(limit["active_slots"])


def record(settings: Settings, run: dict[str, Any], process: int = NOBODY) -> None:
    settings.runs.mkdir(exist_ok=True)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"run": f"tiny-20260101T000000-{process}", "started": started, "process": process}
    content |= {"name": "tiny", "state": "running", "steps": [], "flow_run": run["id"]}
    (settings.runs / f"{run['id']}.json").write_text(json.dumps(content))


@contextmanager
def living(settings: Settings, *words: str, **environment: str) -> Iterator[int]:
    """A process of the workspace."""
    home = {"MODELMILL_HOME": str(settings.home)}
    process = subprocess.Popen([*SLEEPS, *words], env={**os.environ, **home, **environment})
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_lost_run_is_crashed_and_the_next_one_starts(
    server: Server, settings: Settings, deployment: str, recorded: bool
) -> None:
    lost = begun(server, deployment)
    if recorded:
        record(settings, lost)
    assert state(server, begun(server, deployment)) == "CANCELLED"
    assert slots(server, deployment) == 1
    crash_stuck_runs(settings, server.api)
    assert state(server, lost) == "CRASHED"
    assert slots(server, deployment) == 0
    following = begun(server, deployment)
    assert state(server, following) == "RUNNING"
    crash_stuck_runs(settings, server.api)


def test_a_run_whose_process_lives_is_left_alone(
    server: Server, settings: Settings, deployment: str
) -> None:
    run = begun(server, deployment)
    with living(settings, **{ENGINE_VARIABLE: run["id"]}):
        crash_stuck_runs(settings, server.api)
        assert state(server, run) == "RUNNING"
    with living(settings) as pid:
        record(settings, run, pid)
        crash_stuck_runs(settings, server.api)
        assert state(server, run) == "RUNNING"
    crash_stuck_runs(settings, server.api)
    assert state(server, run) == "CRASHED"


def test_doctor_finds_and_mends_it_while_a_worker_lives(
    server: Server, settings: Settings, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = begun(server, deployment)
    record(settings, lost)
    with living(settings, "prefect", "worker"):
        (finding,) = findings_about(settings, lost)
        assert (finding.state, finding.fix) == ("warning", "modelmill doctor --fix")
        monkeypatch.setattr(prefect_recovery, "prefect_api", lambda found: server.api)
        prefect_recovery.crash_flow_runs(settings, stuck_flow_runs(settings))
        assert [finding.state for finding in process_checks.check_flow_runs(settings)] == ["ok"]
    assert (state(server, lost), slots(server, deployment)) == ("CRASHED", 0)


def test_a_run_that_waits_for_a_person_is_never_crashed(
    server: Server, settings: Settings, deployment: str
) -> None:
    run = begun(server, deployment)
    record(settings, run)
    server.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "PAUSED"}, "force": True})
    crash_stuck_runs(settings, server.api)
    assert state(server, run) == "PAUSED"
    assert [found.identifier for found in abandoned_pauses(settings)] == [run["id"]]
    (finding,) = findings_about(settings, run)
    assert (finding.state, finding.fix) == ("warning", "modelmill up")
    server.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_a_server_that_is_gone_is_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = FlowRunRow(str(uuid.uuid4()), "lost", "RUNNING", 0.0)
    monkeypatch.setattr(prefect_recovery, "stuck_flow_runs", lambda *_, **__: [run])
    crash_stuck_runs(settings, "http://127.0.0.1:9/api")
    assert "were left as they are" in caplog.text
