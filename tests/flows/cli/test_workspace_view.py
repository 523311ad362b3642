"""What the commands that only look say to a person: no fact twice, no raw number, no empty column."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core.settings import Settings
from components.publish.promotion import audit_log
from flows.cli.views.workspace_view import CommandResult, describe_run_or_artifact, show_audit_log
from flows.operations.up import platform_status as looking
from tests.workspace import Hand


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


def shown(answer: CommandResult | looking.PlatformStatus) -> str:
    told = StringIO()
    answer.show(Console(file=told, width=200))
    return told.getvalue()


def test_the_audit_log_says_who_once_and_another_person_beside(settings: Settings) -> None:
    audit_log.append_entry(
        settings, "promoted", model="tiny", version=1, by=audit_log.current_user()
    )
    audit_log.append_entry(settings, "approved", model="tiny", version=2, by="Ada")
    for who in (audit_log.current_user(), "Ada"):
        audit_log.append_entry(
            settings, "promoted", model="tiny", version=2, said=f"approved by {who}"
        )
    answer = show_audit_log(settings)
    said = shown(answer)
    assert said.count(audit_log.current_user()) == 4
    assert "said approved by Ada" in said
    assert f"by {audit_log.current_user()}" not in said
    assert "by Ada" in said
    assert answer.value["log"][0]["facts"]["by"] == audit_log.current_user()


def record(settings: Settings, **facts: Any) -> None:
    settings.runs.mkdir(exist_ok=True)
    whole = {"run": "tiny-1", "preset": "tiny", "state": "completed", "process": 1, "steps": []}
    whole |= {"started": "2026-01-02T03:04:05+00:00", **facts}
    (settings.runs / f"{whole['run']}.json").write_text(json.dumps(whole))


def test_a_run_s_keys_are_what_show_takes(tmp_path: Path) -> None:
    """Two artifacts of equal content have one digest, and an action's result is not in the store."""
    hand = Hand(tmp_path)
    made = {stage: hand.seal("same", stage=stage) for stage in ("first", "second")}
    hand.record("tiny-1", made, named={"registry": "models:/tiny/1"})
    run = shown(describe_run_or_artifact(hand.settings, "tiny-1"))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run.splitlines()]
    keys = {row[0]: row[3] for row in rows if len(row) == 5}
    assert keys.pop("registry") == ""
    for stage, key in keys.items():
        assert (
            describe_run_or_artifact(hand.settings, key).value["artifact"]["name"]
            == made[stage].name
        )
    assert sorted(keys) == ["first", "second"]


def test_status_has_no_empty_column(settings: Settings) -> None:
    record(settings)
    said = shown(looking.read_platform_status(settings))
    assert "2026-01-02 03:04:05" in said
    heading = next(line for line in said.splitlines() if "started" in line)
    assert [cell.strip(" │┃") for cell in heading.split("┃")[1:-1]] == [
        "run",
        "state",
        "started (UTC)",
    ]
    record(settings, run="tiny-2", state="failed", at="pretrain")
    assert "pretrain" in shown(looking.read_platform_status(settings))


def test_status_tells_how_long_a_flow_run_took(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"name": "tiny-v1", "state": "Completed", "started": "2026-01-02T03:04:05Z"}
    monkeypatch.setattr(looking, "_newest_flow_runs", lambda api: [{**run, "seconds": 514.004399}])
    said = shown(looking.read_platform_status(settings))
    assert "8:34" in said
    assert "514.004399" not in said
