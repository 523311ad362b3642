"""A run killed with -9 is closed by the next command, and costs nothing where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from components.core.settings import Settings
from flows.operations.retention.interrupted_runs import close_interrupted
from flows.runner.run_records import read_record
from tests.flows.conftest import CommandLine, Server
from tests.flows.runner.prefect.test_prefect_recovery import begun, deployment, record, state  # noqa: F401
from tests.flows.runner.stoppable import Bench, Command, read_states
from tests.workspace import Hand

Whole = tuple[CommandLine, dict[str, object]]


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Settings:
    """A workspace whose Prefect database is the server's."""
    (tmp_path / "prefect").symlink_to(server.home)
    return Settings(home=tmp_path, reference_data=tmp_path)


def task_of(server: Server, run: str) -> str:
    """A task run at work within a flow run."""
    given = {"flow_run_id": run, "task_key": "pretrain", "dynamic_key": "0", "name": "pretrain"}
    task = str(server.ask("task_runs/", given)["id"])
    server.ask(f"task_runs/{task}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    return task


def test_record_flow_run_and_task_run_are_closed(
    server: Server,
    settings: Settings,
    deployment: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "flows.runner.prefect.prefect_recovery.prefect_api", lambda settings: server.api
    )
    monkeypatch.setattr("flows.operations.retention.interrupted_runs._SETTLED_SECONDS", 0.0)
    lost, alive = begun(server, deployment), server.ask("flow_runs/", _own_flow(server))
    server.ask(f"flow_runs/{alive['id']}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    record(settings, lost)
    record(settings, alive, process=os.getpid())
    task = task_of(server, lost["id"])
    assert close_interrupted(settings) == 1
    assert (state(server, lost), state(server, alive)) == ("CRASHED", "RUNNING")
    assert server.ask(f"task_runs/{task}")["state_type"] == "CRASHED"
    states = {path.stem: (read_record(path) or {})["state"] for path in settings.runs.glob("*")}
    assert states == {lost["id"]: "interrupted", alive["id"]: "running"}
    assert close_interrupted(settings) == 0


def _own_flow(server: Server) -> dict[str, object]:
    return {"flow_id": server.ask("flows/", {"name": "text"})["id"], "name": "alive"}


def test_a_server_that_is_named_is_told(
    server: Server,
    deployment: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path, prefect_api_url=server.api)
    lost = begun(server, deployment)
    record(settings, lost)
    assert close_interrupted(settings) == 1
    assert state(server, lost) == "CRASHED"


def test_nothing_is_imported_where_nothing_is_open(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    for number in range(3):
        hand.record(f"run-{number}", {})
    program = (
        "import sys; from components.core.settings import Settings; from pathlib import Path;"
        "from flows.operations.retention.interrupted_runs import close_interrupted as close;"
        f"home = Path({str(tmp_path)!r}); assert close(Settings(home, home)) == 0;"
        "assert not {'prefect', 'httpx', 'torch', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_next_command_after_kill_9(nano: Whole, tmp_path: Path) -> None:
    bench = Bench.of(nano, "pretrain", tmp_path / "home")
    command = Command(bench.modelmill, bench.arguments, {}, terminal=True)
    try:
        command.wait_until(bench.at_work)
        os.kill(command.process.pid, signal.SIGKILL)
        command.gone(0.0)
        assert command.survivors() == []  # its own server too
    finally:
        command.close()
    assert bench.own_states()["flow"] == "RUNNING"
    shown = bench.modelmill("show", "--json")
    assert shown.returncode == 0, shown.stderr
    found = bench.record()
    assert found["state"] == "interrupted"
    database = bench.modelmill.home / "prefect" / "prefect.db"
    states = read_states(database, UUID(found["flow_run"]))
    assert (states["flow"], states["pretrain"]) == ("CRASHED", "CRASHED")
    assert json.loads(shown.stdout)
