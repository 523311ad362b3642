"""Versions go when nothing needs them; what a killed registration left goes; nothing else does."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import GateFailed
from components.core.store.artifact import ModelVersion
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.promotion.promote import PROMOTED_TAG, ROLLED_BACK_TAG
from components.publish.registry import registry_gc
from components.publish.registry.delete_versions import RegistryDeletion
from components.publish.registry.mlflow_client import connect_mlflow, ensure_experiment
from components.publish.registry.mlflow_tables import select_dangling_aliases
from components.publish.registry.model_registry import BUNDLE_TAG, GATES_TAG, list_versions
from components.publish.registry.register import RegisterConfig, register
from tests.publish.conftest import Bench

NOTHING = RetentionPolicy(runs=0, days=0)
LATER = time.time() + 3600
"""So that nothing counts as young."""


@pytest.fixture(scope="module", name="bench")
def own(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A copy of the shared database, since what is deleted here is deleted for all."""
    connect_mlflow(bench.settings)
    mine = Bench(tmp_path_factory.mktemp("retire"))
    mine.settings.mlflow.mkdir()
    shutil.copy(bench.settings.mlflow / "mlflow.db", mine.settings.mlflow)
    RegistryDeletion().delete(mine.settings, swept(mine))
    return mine


def version(bench: Bench, name: str, content: str, **tags: str) -> ModelVersion:
    reports = {"choice": bench.report("accuracy", 0.5, 0.4, 0.6)}
    change = register(
        RegisterConfig(name=name),
        bench.bundle(f"{name} {content}"),
        bench.model(),
        bench.dataset(),
        reports,
        bench.workspace,
    )
    number = change.artifact.name.rpartition("/")[2]
    for key, value in tags.items():
        connect_mlflow(bench.settings).set_model_version_tag(name, number, key, value)
    return change.artifact


def alias(bench: Bench, name: str, **aliases: str) -> None:
    client = connect_mlflow(bench.settings)
    for held in ("champion", "previous", "challenger"):
        client.delete_registered_model_alias(name, held)
    for held, number in aliases.items():
        client.set_registered_model_alias(name, held, number)


def swept(
    bench: Bench, keeping: RetentionPolicy = NOTHING, now: float = LATER, **named: str
) -> GcPlan:
    settings = bench.settings
    standing = registry_gc.decide_retention(settings, named, keeping, now)
    return registry_gc.plan_registry_gc(settings, standing, keeping, now)


def goes(sweep: GcPlan, name: str) -> set[str]:
    return {item.name for item in sweep.deletions if item.name.startswith(f"{name}/")}


def test_only_what_nobody_needs_goes_whatever_the_options(bench: Bench) -> None:
    for content in "abcdefg":
        version(bench, "many", content)
    client = connect_mlflow(bench.settings)
    for number in "1234":
        client.set_model_version_tag("many", number, GATES_TAG, "passed")
        client.set_model_version_tag("many", number, PROMOTED_TAG, "true")
    client.set_model_version_tag("many", "2", ROLLED_BACK_TAG, "true")
    client.set_model_version_tag("many", "5", GATES_TAG, "passed")  # asked, not promoted yet
    client.set_model_version_tag("many", "6", GATES_TAG, "refused by better than chance")
    alias(bench, "many", champion="4", previous="3", challenger="7")

    sweep = swept(bench)
    assert goes(sweep, "many") == {"many/1", "many/6"}
    before = {
        entry.version: entry.files_folder(bench.settings)
        for entry in list_versions(bench.settings, "many")
    }
    RegistryDeletion().delete(bench.settings, sweep)
    left = list_versions(bench.settings, "many")
    assert {entry.version for entry in left} == {2, 3, 4, 5, 7}
    assert all((entry.files_folder(bench.settings) / "bundle.json").is_file() for entry in left)
    assert not before[1].parent.exists()
    assert {alias for entry in left for alias in entry.aliases} == {
        "champion", "previous", "challenger"
    }  # fmt: skip
    assert select_dangling_aliases(bench.settings) == []
    # A finished run is history and stays; what MLflow itself says agrees.
    assert {v.version for v in client.search_model_versions("name='many'")} == {2, 3, 4, 5, 7}
    assert len(client.search_runs([ensure_experiment(client, bench.settings, "many")])) == 7
    assert goes(swept(bench), "many") == set()


def test_what_is_rolled_back_stays_but_not_what_it_came_from(bench: Bench) -> None:
    for content in "ab":
        version(bench, "back", content)
    client = connect_mlflow(bench.settings)
    client.set_model_version_tag("back", "1", ROLLED_BACK_TAG, "true")
    alias(bench, "back", champion="2")
    found = {one.entry.version: one for one in registry_gc.decide_retention(bench.settings, {}, NOTHING, LATER)
             if one.entry.model == "back"}  # fmt: skip
    assert found[1].why
    assert found[1].root().digests == frozenset()
    bundle = found[2].entry.tags[BUNDLE_TAG]
    assert bundle in found[2].root().digests
    assert len(found[2].root().digests) == 4  # bundle, checkpoint, dataset, report


def test_young_named_and_asked_versions_stay(bench: Bench) -> None:
    for content in "abc":
        version(bench, "some", content, **{GATES_TAG: "refused"})
    alias(bench, "some", champion="3")
    assert goes(swept(bench), "some") == {"some/1", "some/2"}
    assert goes(swept(bench, RetentionPolicy(0, 1), time.time()), "some") == set()
    named = registry_gc.decide_retention(
        bench.settings, {"models:/some/1": "a run"}, NOTHING, LATER
    )
    assert {one.entry.uri: one.why for one in named}["models:/some/1"] == "a run"
    waiting = bench.settings.home / "approvals" / "some-2.json"
    waiting.parent.mkdir()
    waiting.write_text('{"model": "some", "version": 2}')
    assert goes(swept(bench), "some") == {"some/1"}
    waiting.unlink()


def test_a_registration_that_was_killed_is_cleared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def killed(*_: Any, **__: Any) -> None:
        raise GateFailed("killed")

    monkeypatch.setattr(MlflowClient, "create_model_version", killed)
    with pytest.raises(GateFailed):
        version(bench, "killed", "a")
    monkeypatch.setattr(MlflowClient, "set_terminated", killed)
    with pytest.raises(GateFailed):
        version(bench, "killed", "b")
    stray = bench.settings.mlflow / "artifacts" / "models" / "m-0123456789abcdef"
    stray.mkdir()
    (stray / "file").write_text("x")

    sweep = swept(bench)
    kinds = [item.kind for item in sweep.deletions if item.kind != "version"]
    assert sorted(kinds) == ["files", "logged model", "logged model", "run"]
    RegistryDeletion().delete(bench.settings, sweep)
    assert not stray.exists()
    client = connect_mlflow(bench.settings)
    place = ensure_experiment(client, bench.settings, "killed")
    assert list(client.search_logged_models([place])) == []
    assert [run.info.status for run in client.search_runs([place])] == ["FINISHED"]
    assert not swept(bench).deletions


def test_a_copied_workspace_deletes_nothing_of_the_one_it_was_copied_from(
    bench: Bench, tmp_path: Path
) -> None:
    """The database names files by absolute addresses, which still point at the original."""
    version(bench, "twin", "a", **{GATES_TAG: "refused"})
    version(bench, "twin", "b")
    alias(bench, "twin", champion="2")
    shutil.copytree(bench.settings.mlflow, tmp_path / "mlflow")
    copy = Bench(tmp_path)
    sweep = swept(copy)
    assert goes(sweep, "twin") == {"twin/1"}
    RegistryDeletion().delete(copy.settings, sweep)
    assert [entry.version for entry in list_versions(copy.settings, "twin")] == [2]
    originals = list_versions(bench.settings, "twin")
    assert [entry.version for entry in originals] == [2, 1]
    assert all(
        (entry.files_folder(bench.settings) / "bundle.json").is_file() for entry in originals
    )


def test_an_alias_of_a_version_that_is_gone_is_found(bench: Bench) -> None:
    version(bench, "lost", "a")
    with closing(sqlite3.connect(bench.settings.mlflow / "mlflow.db")) as connection, connection:
        connection.execute(
            "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = 'lost'"
        )
    assert select_dangling_aliases(bench.settings) == [("lost", "challenger", 1)]
