"""A purge begins with its journal, stays inside the workspace, and may be repeated."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from components.core.errors import DataError, MillError
from components.core.settings import Settings
from components.lineage.purge import (
    Purge,
    begin_purge,
    carry_out_purge,
    journal_path,
    read_unfinished_purge,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    return Settings(home=home, reference_data=home)


def test_what_the_journal_names_goes_and_then_the_journal(settings: Settings) -> None:
    folder = settings.store / "sealed" / "key"
    folder.mkdir(parents=True)
    (folder / "text").write_text("secret")
    (settings.home / "page.html").write_text("secret")
    latest = settings.bentos / "bentos" / "modelmill" / "latest"
    latest.parent.mkdir(parents=True)
    latest.write_text("gone")
    purge = Purge(["a.example"], folders=["store/sealed/key", "never"], files=["page.html"])
    begin_purge(settings, purge)
    again = read_unfinished_purge(settings)
    assert again == purge
    carry_out_purge(settings, again)
    assert not folder.exists()
    assert not (settings.home / "page.html").exists()
    assert not latest.exists()
    assert read_unfinished_purge(settings) is None
    (told,) = (settings.home / "audit.jsonl").read_text().splitlines()
    assert json.loads(told)["event"] == "purge"


@pytest.mark.parametrize("name", ["../outside", "store/../../outside", "/etc/nothing"])
def test_nothing_outside_the_workspace_is_touched(settings: Settings, name: str) -> None:
    outside = settings.home.parent / "outside"
    outside.write_text("mine")
    begin_purge(settings, Purge(["a.example"], files=[name]))
    with pytest.raises(DataError, match="outside the workspace"):
        carry_out_purge(settings, Purge(["a.example"], files=[name]))
    assert outside.read_text() == "mine"
    assert journal_path(settings).exists()


def test_nothing_begins_while_a_stage_is_at_work(settings: Settings) -> None:
    lock = settings.store / "locks" / "key"
    lock.parent.mkdir(parents=True)
    purge = Purge(["a.example"], folders=["store/partial/key"])
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MillError, match="a run is at work on key"):
            begin_purge(settings, purge)
        assert not journal_path(settings).exists()
    begin_purge(settings, purge)


@pytest.mark.parametrize("content", ["", "junk", "[]", '{"folders": []}'])
def test_a_damaged_journal_is_one_line(settings: Settings, content: str) -> None:
    journal_path(settings).write_text(content)
    with pytest.raises(DataError, match="not a journal of a purge"):
        read_unfinished_purge(settings)
