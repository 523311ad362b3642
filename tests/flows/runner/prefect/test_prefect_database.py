"""Prefect's database forgets old flow runs, by Prefect's own functions; dead ones are closed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import MillError
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan
from components.core.workspace_layout import mark_layout
from flows.runner.prefect import prefect_database
from flows.runner.prefect.prefect_database import ACTIVE_STATES, plan_history_gc, read_flow_runs
from tests.flows.conftest import CommandLine
from tests.workspace import DAY

Ran = tuple[CommandLine, dict[str, Any]]


@pytest.fixture
def modelmill(nano: Ran, tmp_path: Path) -> CommandLine:
    """A workspace with a copy of the database that a real run left, and nothing else."""
    shutil.copytree(nano[0].home / "prefect", tmp_path / "home" / "prefect")
    mark_layout(tmp_path / "home")
    return CommandLine(tmp_path / "home")


def settings(modelmill: CommandLine) -> Settings:
    return Settings(home=modelmill.home, reference_data=modelmill.home)


@pytest.fixture
def database(modelmill: CommandLine) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(modelmill.home / "prefect" / "prefect.db")) as connection:
        yield connection


def stamp(days: float) -> str:
    return datetime.fromtimestamp(time.time() - days * DAY, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def rows(connection: sqlite3.Connection) -> dict[str, int]:
    tables = ("flow_run", "task_run", "flow_run_state", "task_run_state")
    return {t: connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in tables}


def test_old_flow_runs_go_with_all_that_is_theirs(
    modelmill: CommandLine, database: sqlite3.Connection
) -> None:
    before = rows(database)
    assert before["flow_run"] >= 1
    assert before["task_run"] > 20
    assert not plan_history_gc(settings(modelmill), time.time()).deletions
    with database:
        database.execute("UPDATE flow_run SET end_time = ?", (stamp(29),))
    assert not plan_history_gc(settings(modelmill), time.time()).deletions
    with database:
        database.execute("UPDATE flow_run SET end_time = ?", (stamp(31),))
    (item,) = plan_history_gc(settings(modelmill), time.time()).deletions
    assert item.why == "ended more than 30 days ago"
    assert f"with {before['task_run']} task runs" in item.name
    went = modelmill.answer("gc", "--yes")
    prefect = next(place for place in went["places"] if place["place"] == "prefect")
    assert prefect["goes"][0]["name"] == item.name
    assert prefect["notes"] == []
    assert rows(database) == dict.fromkeys(before, 0)
    assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_flow_run_whose_process_is_gone_is_found_and_closed(
    modelmill: CommandLine, database: sqlite3.Connection
) -> None:
    with database:
        database.execute(
            "UPDATE flow_run SET state_type = 'RUNNING', state_name = 'Running', end_time = NULL, "
            "state_timestamp = ?",
            (stamp(1),),
        )
    (stuck, *_) = read_flow_runs(settings(modelmill), ACTIVE_STATES)
    assert stuck.state == "RUNNING"
    found = modelmill.answer("doctor")["findings"]
    (finding,) = [f for f in found if f["check"] == "flow runs"]
    assert finding["state"] == "warning"
    assert stuck.name in finding["what"]
    assert finding["fix"] == "modelmill doctor --fix"
    fixed = modelmill.answer("doctor", "--fix")
    assert f"{stuck.name}: crashed, in Prefect's database" in fixed["fixed"]
    states = database.execute("SELECT DISTINCT state_type FROM flow_run").fetchall()
    assert states == [("CRASHED",)]
    assert read_flow_runs(settings(modelmill), ACTIVE_STATES) == []


def test_the_number_of_days_is_a_setting(
    modelmill: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_HISTORY_DAYS", "soon")
    done = modelmill("gc", "--dry-run")
    assert done.returncode == 2
    assert "MODELMILL_HISTORY_DAYS=soon: give whole days" in done.stderr
    monkeypatch.setenv("MODELMILL_HISTORY_DAYS", "3")
    assert modelmill("gc", "--dry-run").returncode == 0


def test_a_server_is_told_the_same_number(modelmill: CommandLine) -> None:
    """The names of Prefect's settings are read back by Prefect."""
    script = (
        "import flows; from prefect.settings import get_current_settings as s; "
        "v = s().server.services.db_vacuum; "
        "print(sorted(v.enabled_vacuum_types), v.retention_period.days)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=modelmill.environment(), capture_output=True, text=True
    )
    assert done.stdout == "['events', 'flow_runs', 'orphans'] 30\n", done.stderr


def test_a_database_in_use_is_compacted_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_database, "_LOCK_TIMEOUT_SECONDS", 0.1)
    (tmp_path / "prefect").mkdir()
    mine = Settings(home=tmp_path, reference_data=tmp_path)
    sweep = GcPlan("prefect", tmp_path / "prefect")
    with closing(
        sqlite3.connect(prefect_database.database_path(mine), isolation_level=None)
    ) as connection:
        connection.execute("CREATE TABLE held (x)")
        connection.execute("BEGIN IMMEDIATE")
        prefect_database.compact_database(mine, sweep)
        connection.execute("ROLLBACK")
    assert "was not compacted" in sweep.notes[0]
    sweep.notes.clear()
    prefect_database.compact_database(mine, sweep)
    assert sweep.notes == []


def test_what_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_text("no database, but long enough to be read" * 9)
    with pytest.raises(MillError, match="cannot be read"):
        plan_history_gc(Settings(home=tmp_path, reference_data=tmp_path), time.time())
