"""A paused flow run on a real server goes on by the form, or by a word from elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, MillError
from components.core.settings import Settings
from components.core.store.artifact import Report
from components.core.store.store import Store
from components.publish.promotion.approvals import (
    NeedsApproval,
    PendingApproval,
    current_time,
    find_decision,
)
from flows.runner.prefect.approval_pause import (
    ApprovalAnswer,
    ApprovalQuestion,
    pause_for_answer,
    render_question,
)
from flows.runner.prefect.prefect_runner import PrefectRunner
from flows.runner.runner import ResultCollector
from tests.flows.conftest import Server

YES = {"decision": "yes", "who": "Ada", "why": "better answers"}


class Log:
    """Stands in for the audit log: the first word counts, and a reason must be given."""

    def __init__(self) -> None:
        self.words: list[ApprovalAnswer] = []

    def heard(self) -> ApprovalAnswer | None:
        return self.words[0] if self.words else None

    def say(self, word: ApprovalAnswer) -> None:
        if not word.why.strip():
            raise ConfigError("--why: say why; the audit log keeps it")
        self.words.append(word)


def paused(server: Server, name: str) -> dict[str, Any]:
    """The flow run, once it is paused and its form is there."""
    until = time.monotonic() + 60
    while True:
        found = server.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        if found and found[0]["state_type"] == "PAUSED":
            run: dict[str, Any] = found[0]
            keys = server.ask(f"flow_runs/{run['id']}/input/filter", {"prefix": "paused"})
            if keys:
                return run
        assert time.monotonic() < until, found
        time.sleep(0.1)


def resume(server: Server, run: dict[str, Any], word: dict[str, str]) -> dict[str, Any]:
    """What the form of the UI sends."""
    answer: dict[str, Any] = server.ask(f"flow_runs/{run['id']}/resume", {"run_input": word})
    return answer


def asked(
    server: Server, name: str, log: Log, meanwhile: Callable[[], None], hours: float = 1.0
) -> bool:
    """Ask within a flow run while ``meanwhile`` happens elsewhere."""
    question = ApprovalQuestion("tiny/3", "| figure | value |\n|---|---|\n| loss | 1.4 |", hours)

    @flow(flow_run_name=name)
    def promoting() -> list[bool]:
        return [pause_for_answer(question, log.heard, log.say, poll_seconds=0.2)]

    other = threading.Thread(target=meanwhile)
    with temporary_settings({PREFECT_API_URL: server.api}):
        other.start()
        try:
            return promoting()[0]
        finally:
            other.join()


def test_the_question_shows_gates_and_figures() -> None:
    verdict = {
        "gate": "task",
        "found": 0.41234,
        "direction": "above",
        "bound": 0.25,
        "passes": True,
    }
    figure = {"value": 0.56789, "low": 0.5, "high": 0.6}
    text = render_question("tiny/3", 2, {"choice.accuracy": figure}, [verdict])
    assert text.startswith("Promote **tiny/3** in place of version 2?")
    assert "| task | 0.4123 | above 0.25 | yes |" in text
    assert "| choice.accuracy | 0.5679 | 0.5 to 0.6 |" in text


def test_the_form_takes_a_word(server: Server) -> None:
    log = Log()
    answers: list[dict[str, Any]] = []

    def meanwhile() -> None:
        run = paused(server, "by-form")
        answers.append(resume(server, run, {**YES, "decision": "perhaps"}))
        answers.append(resume(server, run, YES))

    assert asked(server, "by-form", log, meanwhile)
    assert [answer["status"] for answer in answers] == ["REJECT", "ACCEPT"]
    assert [word.model_dump() for word in log.words] == [YES]


def test_a_word_from_another_terminal_resumes_the_run(server: Server) -> None:
    log = Log()

    def meanwhile() -> None:
        paused(server, "by-terminal")
        log.words.append(ApprovalAnswer(decision="no", who="Bob", why="too slow"))

    assert asked(server, "by-terminal", log, meanwhile)
    assert [word.who for word in log.words] == ["Bob"], "what was said elsewhere is not said again"


def test_a_word_that_is_there_already_pauses_nothing(server: Server) -> None:
    log = Log()
    log.words.append(ApprovalAnswer(**YES))
    assert asked(server, "at-once", log, lambda: None)
    found = server.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": ["at-once"]}}})
    states = server.ask(f"flow_run_states/?flow_run_id={found[0]['id']}")
    assert "PAUSED" not in [state["type"] for state in states]


def test_a_refused_word_shows_the_form_again(server: Server) -> None:
    log = Log()

    def meanwhile() -> None:
        run = paused(server, "again")
        resume(server, run, {**YES, "why": "  "})
        until = time.monotonic() + 30
        while resume(server, run, YES)["status"] != "ACCEPT":
            assert time.monotonic() < until
            time.sleep(0.2)

    assert asked(server, "again", log, meanwhile)
    assert [word.why for word in log.words] == ["better answers"]


def test_nobody_answers(server: Server) -> None:
    with pytest.raises(MillError, match=r"tiny/3: nobody answered within 0\.0005 h"):
        asked(server, "unanswered", Log(), lambda: None, hours=0.0005)


def test_a_mill_under_prefect_asks_and_goes_on(server: Server, tmp_path: Path) -> None:
    """The real record of what waits, the real audit log, the real form."""
    settings = Settings(home=tmp_path, reference_data=tmp_path, prefect_api_url=server.api)

    @action()
    def promote(config: StageConfig, workspace: Workspace) -> Change[Report]:
        pending = PendingApproval(
            model="tiny",
            version=3,
            bundle="b" * 64,
            bento="abc",
            champion=None,
            figures={},
            verdicts=[],
            hours=1.0,
            since=current_time(),
        )
        said = find_decision(settings, pending.bundle, pending.model)
        if said is None:
            raise NeedsApproval(pending)
        report = Report(name="r", digest="d", lineage=workspace.action_lineage(promote, {}))
        return Change(report, True, f"{said.who}: {said.why}")

    runner = PrefectRunner(Store(settings.store), Workspace(settings), listener=ResultCollector())

    @flow(flow_run_name="through-the-runner")
    def promoting() -> None:
        runner.action("promote", promote, StageConfig())

    other = threading.Thread(
        target=lambda: resume(server, paused(server, "through-the-runner"), YES)
    )
    with temporary_settings({PREFECT_API_URL: server.api}):
        other.start()
        promoting()
        other.join()
    assert isinstance(runner.listener, ResultCollector)
    assert [result.note for result in runner.listener.results] == ["Ada: better answers"]
    found = server.ask(
        "flow_runs/filter", {"flow_runs": {"name": {"any_": ["through-the-runner"]}}}
    )
    asked = {"flow_runs": {"id": {"any_": [found[0]["id"]]}}}
    states: list[str] = []
    for _ in range(200):  # the server takes task runs down a batch at a time
        states = sorted(task["state_name"] for task in server.ask("task_runs/filter", asked))
        if len(states) == 2:
            break
        time.sleep(0.1)
    assert states == ["Completed", "Waiting"]
