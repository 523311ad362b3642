"""A purge begins with its journal, stays inside the workspace, and may be repeated."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from rich.console import Console

from components.core.errors import DataError, MillError
from components.core.io.trash import Trash
from components.core.settings import Settings
from components.core.store.gc_plan import Deletion, GcPlan
from components.lineage.affected_copies import find_affected
from components.lineage.forget_orders import record_order
from components.publish.bento_folders import PLACE as BENTOS
from components.publish.registry.mlflow_tables import artifacts_folder
from components.publish.registry.model_registry import DOSSIER_FILE
from flows.operations.doctor.store_checks import check_leftovers
from flows.operations.retention.forget import ForgetOptions, forget_target, verify_absence
from flows.operations.retention.purge import (
    Purge,
    begin_purge,
    carry_out_purge,
    journal_path,
    plan_copies,
    read_unfinished_purge,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    return Settings(home=home, reference_data=home)


def planned(root: Path, *paths: Path) -> GcPlan:
    """A plan of files; it names those too that are gone, as one that is read after a kill does."""
    plan = GcPlan("files", root)
    plan.deletions += [Deletion(path.name, "a reason", 1, (path,)) for path in paths]
    return plan


def test_what_is_still_there_keeps_the_journal(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = settings.home / "page.html"
    page.write_text("secret")
    purge = Purge(["a.example"], [planned(settings.home, page)])
    begin_purge(settings, purge)
    monkeypatch.setattr(Trash, "discard", lambda self, path: None)
    with pytest.raises(MillError, match=r"page.html is still there: see who writes it"):
        carry_out_purge(settings, purge)
    monkeypatch.undo()
    again = read_unfinished_purge(settings)
    assert again == purge
    carry_out_purge(settings, again)
    assert read_unfinished_purge(settings) is None
    assert not page.exists()


def test_what_the_journal_names_goes_and_then_the_journal(settings: Settings) -> None:
    folder = settings.store / "sealed" / "key"
    folder.mkdir(parents=True)
    (folder / "text").write_text("secret")
    (settings.home / "page.html").write_text("secret")
    latest = settings.bentos / "bentos" / "modelmill" / "latest"
    latest.parent.mkdir(parents=True)
    latest.write_text("gone")
    never = settings.store / "never"
    strays = planned(settings.home, settings.home / "page.html")
    bentos = GcPlan(BENTOS, settings.bentos)
    purge = Purge(["a.example"], [planned(settings.store, folder, never), strays, bentos])
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
    begin_purge(settings, Purge(["a.example"], [planned(settings.home, settings.home / "inside")]))
    journal = journal_path(settings)
    journal.write_text(journal.read_text().replace("inside", name))
    with pytest.raises(DataError, match="outside the workspace"):
        read_unfinished_purge(settings)
    assert outside.read_text() == "mine"
    assert journal_path(settings).exists()


def test_nothing_begins_while_a_stage_is_at_work(settings: Settings) -> None:
    lock = settings.store / "locks" / "key"
    lock.parent.mkdir(parents=True)
    purge = Purge(["a.example"], [planned(settings.store, settings.store / "partial" / "key")])
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


def test_the_same_command_finishes_a_killed_purge_whose_crawl_is_gone(settings: Settings) -> None:
    record_order(settings, "file:///pages/archive.md", "x")
    left = settings.home / "page.html"
    left.write_text("secret")
    begin_purge(settings, Purge(["file:///pages/archive.md"], [planned(settings.home, left)]))
    options = ForgetOptions("pages/archive.md", purge=True, force=True)
    outcome = forget_target(settings, options, lambda question: True, Console(quiet=True))
    assert outcome.target == "file:///pages/archive.md"
    assert not left.exists()
    assert not journal_path(settings).exists()


def test_a_purged_page_is_verified_by_its_short_name(settings: Settings) -> None:
    record_order(settings, "file:///pages/secret.md", "x")
    value = verify_absence(settings, "pages/secret.md")
    assert (value["looked_for"], value["clean"]) == ("file:///pages/secret.md", True)


def test_a_purge_of_what_nothing_was_made_from_plans_nothing(settings: Settings) -> None:
    dossier = artifacts_folder(settings) / "models" / "m-1" / "artifacts" / DOSSIER_FILE
    dossier.parent.mkdir(parents=True)
    dossier.write_text("of pages that stay")
    plans = plan_copies(settings, find_affected(settings, ["nosuch.example"]))
    assert [item.name for plan in plans for item in plan.deletions] == []
    (settings.store / "partial" / "key").mkdir(parents=True)  # of unknown content
    plans = plan_copies(settings, find_affected(settings, ["nosuch.example"]))
    names = [item.name for plan in plans for item in plan.deletions]
    assert names == ["dossier of m-1", "store/partial/key"]


def test_the_doctor_names_a_killed_purge(settings: Settings) -> None:
    begin_purge(settings, Purge(["a.example"], [planned(settings.home, settings.home / "page")]))
    (found,) = check_leftovers(settings)
    assert found.what == "a purge of a.example was killed before its end"
    assert found.fix == "modelmill forget a.example --purge"
    journal_path(settings).write_text("junk")
    (found,) = check_leftovers(settings)
    assert found.state == "broken"
    assert "not a journal of a purge" in found.what
