"""Datasets leave cache and remote with the corpus they are of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.action import Workspace
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.dataset.dataset_gc import plan_dataset_gc
from components.publish.dataset.dataset_pins import read_listing, read_pins
from components.publish.dataset.delete_dataset import DatasetDeletion
from components.publish.dataset.push_dataset import DatasetConfig, push_dataset

TEXTS = ["the first page", "the second page", "the third page"]
LATER = time.time() + 3600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Settings(home=tmp_path, reference_data=tmp_path))


@pytest.fixture
def corpora(corpus_of: Callable[..., Corpus], workspace: Workspace) -> list[Corpus]:
    """Two pushed versions that share a shard's worth of nothing."""
    made = [corpus_of(TEXTS), corpus_of([text.upper() for text in TEXTS])]
    for corpus in made:
        push_dataset(DatasetConfig(), corpus, workspace)
    return made


def swept(workspace: Workspace, *kept: Corpus, days: float = 0.0, **named: str) -> GcPlan:
    digests = {corpus.digest for corpus in kept}
    return plan_dataset_gc(workspace.settings, digests, named, RetentionPolicy(0, days), LATER)


def removed(workspace: Workspace, sweep: GcPlan) -> None:
    system = DatasetDeletion()
    system.delete(workspace.settings, sweep)
    assert system.find_left(workspace.settings, sweep) == []


def objects(workspace: Workspace) -> dict[str, set[str]]:
    root = workspace.settings.datasets
    places = {"cache": root / ".dvc" / "cache", "remote": root / "remote"}
    return {
        name: {p.parent.name + p.name for p in (place / "files" / "md5").glob("*/*")}
        for name, place in places.items()
    }


def names(sweep: GcPlan) -> list[str]:
    return [item.name for item in sweep.deletions]


def version(corpus: Corpus) -> str:
    return f"corpus-{corpus.digest[:12]}"


def test_one_goes_from_everywhere_and_the_other_can_still_be_pulled(
    workspace: Workspace, corpora: list[Corpus]
) -> None:
    root, settings = workspace.settings.datasets, workspace.settings
    sweep = swept(workspace, corpora[0])
    assert names(sweep) == [version(corpora[1])]
    assert sweep.size > 0
    removed(workspace, sweep)
    assert [pin.version for pin in read_pins(settings)] == [version(corpora[0])]
    assert not (root / version(corpora[1])).exists()
    (pin,) = read_pins(settings)
    files = read_listing(settings, pin)
    assert files is not None
    needed = {pin.md5, *files.values()}
    assert objects(workspace) == {"cache": needed, "remote": needed}
    assert not push_dataset(DatasetConfig(), corpora[0], workspace).changed
    assert not names(swept(workspace, corpora[0]))


def test_the_last_one_goes_too(workspace: Workspace, corpora: list[Corpus]) -> None:
    removed(workspace, swept(workspace))
    assert objects(workspace) == {"cache": set(), "remote": set()}
    assert push_dataset(DatasetConfig(), corpora[0], workspace).changed


def test_named_young_and_foreign_ones_stay(workspace: Workspace, corpora: list[Corpus]) -> None:
    pin = workspace.settings.datasets / f"{version(corpora[0])}.dvc"
    assert names(swept(workspace, days=1)) == []
    assert names(swept(workspace, **{version(corpora[0]): "a run"})) == [version(corpora[1])]
    pin.write_text(pin.read_text().partition("meta:")[0])
    assert names(swept(workspace)) == [version(corpora[1])]


def test_a_collection_that_was_killed_is_finished(
    workspace: Workspace, corpora: list[Corpus]
) -> None:
    """Killed after the pin: nobody names the objects any more, but they are still there."""
    root = workspace.settings.datasets
    (root / f"{version(corpora[1])}.dvc").unlink()
    sweep = swept(workspace, corpora[0])
    assert len(names(sweep)) == 2  # the objects, and the folder without a pin
    removed(workspace, sweep)
    assert not names(swept(workspace, corpora[0]))
    assert not (root / version(corpora[1])).exists()


def test_a_listing_that_only_the_remote_has_keeps_its_files(
    workspace: Workspace, corpora: list[Corpus]
) -> None:
    """DVC must not take the files of a listing that its cache lost for unused."""
    settings = workspace.settings
    shutil.rmtree(settings.datasets / ".dvc" / "cache")
    before = objects(workspace)["remote"]
    removed(workspace, swept(workspace, corpora[0]))
    (pin,) = read_pins(settings)
    files = read_listing(settings, pin)
    assert files is not None
    assert objects(workspace)["remote"] == {pin.md5, *files.values()}
    assert objects(workspace)["remote"] < before


def test_a_listing_that_nobody_has_stops_the_deletion_of_objects(
    workspace: Workspace, corpora: list[Corpus]
) -> None:
    for path in workspace.settings.datasets.rglob("*.dir"):
        path.chmod(0o644)
        path.write_text("[")
    before = objects(workspace)
    sweep = swept(workspace, corpora[0])
    assert "left alone" in sweep.notes[0]
    removed(workspace, sweep)
    assert objects(workspace) == before


def test_a_remote_outside_the_workspace_is_never_touched(
    corpus_of: Callable[..., Corpus], workspace: Workspace, tmp_path: Path
) -> None:
    """Other workspaces may push there; DVC would delete all that our pins do not name."""
    shared = tmp_path / "shared"
    for texts in (TEXTS, TEXTS[:1]):
        push_dataset(DatasetConfig(remote=str(shared)), corpus_of(texts), workspace)
    before = sorted(path for path in shared.rglob("*") if path.is_file())
    removed(workspace, swept(workspace))
    assert sorted(path for path in shared.rglob("*") if path.is_file()) == before
    assert objects(workspace)["cache"] == set()
