"""An answer in Prefect's form counts although the process that waited was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.core.process import process_tree
from components.core.settings import Settings
from components.core.workspace_layout import mark_layout
from components.publish.promotion import audit_log
from components.publish.promotion.approvals import PendingApproval, current_time, list_pending
from components.publish.promotion.approvals import request_approval as write_pending
from flows.runner.prefect import prefect_approvals
from flows.runner.prefect.prefect_approvals import ApprovalWatcher, describe_follow_up
from flows.runner.prefect.prefect_recovery import (
    ENGINE_VARIABLE,
    abandoned_pauses,
    crash_stuck_runs,
)
from tests.flows.conftest import ROOT, Server

BUNDLE = "b" * 64
FLOW = f"""
from datetime import UTC, datetime
from prefect import flow
from components.core import settings
from components.core.action import Change, Workspace, action
from components.core.store.artifact import Report
from components.core.config.stage_config import StageConfig
from components.core.store.store import Store
from components.publish.promotion import approvals
from flows.runner.prefect.prefect_runner import PrefectRunner
from flows.runner.prefect.prefect_reporter import PrefectReporter
from flows.runner.run_records import RunRecord

@action()
def promote(config: StageConfig, workspace: Workspace) -> Change[Report]:
    pending = approvals.PendingApproval(
        model="tiny", version=3, bundle="{BUNDLE}", bento="abc", champion=None, figures={{}},
        verdicts=[], hours=1.0, since=approvals.current_time(),
    )
    said = approvals.find_decision(workspace.settings, pending.bundle, pending.model)
    if said is None:
        raise approvals.NeedsApproval(approvals.request_approval(workspace.settings, pending))
    report = Report(name="r", digest="d", lineage=workspace.action_lineage(promote, {{}}))
    return Change(report, True, f"{{said.who}}: {{said.why}}")

@flow(name="waits", persist_result=False)
def waits() -> None:
    found = settings.load_settings()
    record = RunRecord(found.runs, "nano", "tiny", datetime.now(UTC))
    runner = PrefectRunner(Store(found.store), Workspace(found), listener=record)
    with PrefectReporter(found, record):
        runner.action("promote", promote, StageConfig())
    record.close("completed")
"""


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    mark_layout(home)
    (home / "prefect").symlink_to(server.home)
    return Settings(home=home, reference_data=home)


@contextmanager
def worker(server: Server, settings: Settings) -> Iterator[None]:
    """Killed in the end with all that it started."""
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "MODELMILL_HOME": str(settings.home)}
    quick["MODELMILL_UP"] = str(settings.home)
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "answers"],
        cwd=ROOT,
        env=server.environment() | quick,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process_tree.kill_processes(
            process_tree.find_marked_processes("MODELMILL_UP", {str(settings.home)})
        )


def deployed(server: Server, folder: Path) -> str:
    (folder / "waits.py").write_text(FLOW)
    server.ask("work_pools/", {"name": "answers", "type": "process"})
    flow = server.ask("flows/", {"name": "waits"})["id"]
    place = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
    limit = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    wanted = {"name": "waits", "flow_id": flow, "entrypoint": "waits.py:waits", **limit}
    wanted |= {"pull_steps": [place], "work_pool_name": "answers"}
    return str(server.ask("deployments/", wanted)["id"])


def until(found: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + 120
    while not (value := found()):
        assert time.monotonic() < limit, what
        time.sleep(0.2)
    return value


@pytest.mark.timeout(400)
def test_the_form_counts_after_the_waiting_process_was_killed(
    server: Server, settings: Settings, tmp_path: Path
) -> None:
    deployment = deployed(server, tmp_path)
    run = server.ask(f"deployments/{deployment}/create_flow_run", {})["id"]

    def state() -> str:
        return str(server.ask(f"flow_runs/{run}")["state_type"])

    def shown() -> Any:
        return server.ask(f"flow_runs/{run}/input/filter", {"prefix": "paused"})

    with worker(server, settings):
        until(shown, "never paused")
    assert process_tree.find_marked_processes(ENGINE_VARIABLE, {run}) == []
    crash_stuck_runs(settings, server.api)
    ear = ApprovalWatcher(settings, server.api)
    ear.enter_answers()
    assert state() == "PAUSED", "nobody has answered yet"
    assert [found.identifier for found in abandoned_pauses(settings)] == [run]
    said = {"decision": "yes", "why": "reads well", "who": "Bob"}
    assert server.ask(f"flow_runs/{run}/resume", {"run_input": said})["status"] == "ACCEPT"
    assert audit_log.read_entries(settings) == []
    crash_stuck_runs(settings, server.api)  # what the start of `up` would do in between
    ear.enter_answers()
    (entry,) = audit_log.read_entries(settings)
    assert (entry.event, entry.facts["by"], entry.facts["why"]) == ("approved", "Bob", "reads well")
    assert list_pending(settings) == []
    assert state() == "SCHEDULED"
    with worker(server, settings):
        until(lambda: state() == "COMPLETED", f"it did not go on: {state()}")
    ear.enter_answers()
    assert len(audit_log.read_entries(settings)) == 1


PENDING = PendingApproval(
    model="tiny",
    version=3,
    bundle=BUNDLE,
    bento="abc",
    champion=None,
    figures={},
    verdicts=[],
    hours=1.0,
    since=current_time(),
    flow_run_id="0198a8a2-0000-7000-8000-000000000000",
)


class Api:
    """Stands in for the server: one answer, and the states that were set."""

    def __init__(self, created: str, why: str = "reads well") -> None:
        value = json.dumps({"decision": "yes", "why": why})
        key = "paused-approval-1-response"
        self.inputs = [{"id": "a", "key": key, "created": created, "value": value}]
        self.told: list[str] = []

    def ask(self, api: str, path: str, body: Any = None) -> Any:
        if path.endswith("/input/filter"):
            return self.inputs
        return {"state_type": "RUNNING", "deployment_id": None}

    def set_state(self, api: str, run: str, state: dict[str, Any]) -> None:
        self.told.append(state["message"])


def heard(
    monkeypatch: pytest.MonkeyPatch, home: Path, api: Api, *, lost: bool
) -> tuple[Settings, ApprovalWatcher]:
    settings = Settings(home=home, reference_data=home)
    write_pending(settings, PENDING)
    monkeypatch.setattr(prefect_approvals, "call_api", api.ask)
    monkeypatch.setattr(prefect_approvals, "force_flow_run_state", api.set_state)
    monkeypatch.setattr(prefect_approvals, "is_lost", lambda *_: lost)
    ear = ApprovalWatcher(settings, "http://api")
    ear.enter_answers()
    return settings, ear


def test_an_answer_to_an_earlier_version_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings, _ = heard(monkeypatch, tmp_path, Api("2020-01-01T00:00:00Z"), lost=True)
    assert audit_log.read_entries(settings) == []


def test_a_process_that_lives_hears_its_form_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = Api(current_time())
    settings, ear = heard(monkeypatch, tmp_path, api, lost=False)
    assert audit_log.read_entries(settings) == []
    monkeypatch.setattr(prefect_approvals, "_OWN_PROCESS_SECONDS", 0.0)
    ear.enter_answers()
    assert [entry.event for entry in audit_log.read_entries(settings)] == ["approved"]
    assert api.told == [], "the process goes on itself"


def test_a_refused_answer_is_said_once_and_the_question_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = Api(current_time(), why="  ")
    settings, ear = heard(monkeypatch, tmp_path, api, lost=True)
    ear.enter_answers()
    assert api.told == ["refused: --why: say why; the audit log keeps it"]
    assert list_pending(settings) != []


def test_a_word_for_no_living_run_names_what_to_type(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    settings.runs.mkdir()
    record = {"run": "tiny-1", "name": "tiny", "started": "2026-01-01T00:00:00+00:00"}
    record |= {"state": "running", "process": 999_999_999, "steps": []}
    record["repeat"] = {"target": "my run.yaml", "sets": ["promote.approve=human"], "config": None}
    path = settings.runs / "tiny-1.json"
    path.write_text(json.dumps(record))
    wanted = "`modelmill run 'my run.yaml' --set promote.approve=human`"
    assert wanted in describe_follow_up(settings, PENDING, yes=True)
    assert describe_follow_up(settings, PENDING, yes=False) == ""
    path.write_text(json.dumps(record | {"process": os.getpid(), "started": "2100-01-01T00:00:00"}))
    assert describe_follow_up(settings, PENDING, yes=True) == "its run goes on"
