"""A run waits for a person, goes on when somebody has decided, and does not wait for ever."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import GateFailed, MillError
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import Lineage, Report
from components.core.store.store import Store
from components.publish.promotion import audit_log
from components.publish.promotion.approvals import (
    NeedsApproval,
    PendingApproval,
    find_decision,
    record_decision,
    request_approval,
)
from flows.runner.runner import ResultCollector, StoreRunner
from tests.flows.conftest import CommandLine

PENDING = PendingApproval(
    model="tiny",
    version=3,
    bundle="b" * 64,
    bento="abc",
    champion=2,
    figures={},
    verdicts=[],
    hours=1.0,
    since="2026-01-01T00:00:00+00:00",
)
DONE = Report(name="x", digest="d", lineage=Lineage(component="x", code="", config=""))


class Noting(ResultCollector):
    """Keeps the notes that a person would see."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def progressed(self, name: str, progress: Progress) -> None:
        self.notes.append(progress.note)


@pytest.fixture
def runner(tmp_path: Path) -> StoreRunner:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    runner = StoreRunner(Store(settings.store), Workspace(settings), listener=Noting())
    runner.approval_poll_seconds = 0.02
    return runner


@action()
def guarded(config: StageConfig, pending: PendingApproval, workspace: Workspace) -> Change[Report]:
    said = find_decision(workspace.settings, pending.bundle, pending.model)
    if said is None:
        raise NeedsApproval(request_approval(workspace.settings, pending))
    if not said.yes:
        raise GateFailed(f"{said.who} said no")
    return Change(DONE, True, "moved")


def run(runner: StoreRunner, pending: PendingApproval = PENDING) -> Any:
    return runner.action("promote", guarded, StageConfig(), pending=pending)


def say(runner: StoreRunner, yes: bool) -> threading.Thread:
    """Somebody decides once the run has begun to wait."""

    def later() -> None:
        assert isinstance(runner.listener, Noting)
        while not any(
            "waiting: modelmill approve tiny/3" in note for note in runner.listener.notes
        ):
            time.sleep(0.01)
        record_decision(runner.workspace.settings, PENDING, yes, "Ada", "so")

    thread = threading.Thread(target=later)
    thread.start()
    return thread


def test_it_goes_on_after_a_yes(runner: StoreRunner) -> None:
    somebody = say(runner, True)
    assert run(runner) == DONE
    somebody.join()
    assert isinstance(runner.listener, Noting)
    assert [(r.name, r.state) for r in runner.listener.results] == [("promote", "Completed")]
    assert runner.listener.failures == []


def test_a_no_ends_it(runner: StoreRunner) -> None:
    somebody = say(runner, False)
    with pytest.raises(GateFailed, match="Ada said no"):
        run(runner)
    somebody.join()


def test_it_waits_no_longer_than_it_was_told(runner: StoreRunner) -> None:
    with pytest.raises(MillError, match=r"nobody decided on tiny/3 within .*the same command"):
        run(runner, PENDING.model_copy(update={"hours": 1e-6}))
    record_decision(runner.workspace.settings, PENDING, True, "Ada", "late")
    assert run(runner) == DONE


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("promote", "tiny"), 2, "tiny: write MODEL/VERSION"),
        (("promote", "../x/1"), 2, "../x/1: write MODEL/VERSION"),
        (("promote", "tiny/7"), 2, "tiny has no version 7"),
        (("promote", "tiny/7", "--force"), 2, "--force: say --why"),
        (
            ("rollback", "tiny"),
            2,
            "tiny: no champion to roll back; no version of tiny is registered; `modelmill run tiny`",
        ),
        (("approve", "tiny/7", "--yes", "--why", "x"), 2, "does not wait for approval; waiting:"),
        (("approve", "tiny/3", "--why", "x"), 2, "tiny/3: decide with --yes or --no"),
        (("approve", "tiny/3", "--no"), 2, "--why: say why"),
        (("audit", "--verify", "--head", "abc"), 1, "no entry has the sha256 abc"),
    ],
)
def test_nonsense_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    command = CommandLine(tmp_path)
    request_approval(Settings(home=tmp_path, reference_data=tmp_path), PENDING)
    done = command(*arguments)
    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_log_is_shown_verified_and_its_harm_named(tmp_path: Path) -> None:
    settings, command = Settings(home=tmp_path, reference_data=tmp_path), CommandLine(tmp_path)
    request_approval(settings, PENDING)
    listed = command.answer("approve")
    assert [PendingApproval.model_validate(given) for given in listed["waiting"]] == [PENDING]
    told = command.answer("approve", "tiny/3", "--yes", "--why", "reads well", "--who", "Ada")
    following = "no run waits for it any more: type the same run again, it goes on from there"
    assert told.pop("next") == following
    assert told == {"version": "tiny/3", "decision": "approved", "who": "Ada", "why": "reads well"}
    shown = command.answer("audit")
    assert [entry["event"] for entry in shown["log"]] == ["approved"]
    verified = command.answer("audit", "--verify", "--head", shown["head"])
    assert verified == {
        "entries": 1,
        "whole": True,
        "head": shown["head"],
        "missing": False,
    }
    log = audit_log.log_path(settings)
    log.write_bytes(log.read_bytes().replace(b"reads well", b"reads ill!"))
    done = command("audit", "--verify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].startswith("audit.jsonl: entry 1 was edited")
