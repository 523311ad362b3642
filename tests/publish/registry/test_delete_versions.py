"""Versions and datasets are taken away whole; what another version shares stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from components.core.action import Workspace
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.publish.dataset.delete_dataset import (
    DatasetDeletion,
    _delete_through_dvc,
    find_unshared_objects,
    list_remotes,
    plan_dataset_purge,
)
from components.publish.dataset.push_dataset import DatasetConfig, push_dataset
from components.publish.registry.delete_versions import (
    RegistryDeletion,
    mark_forgotten,
    plan_registry_purge,
)
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.model_registry import CHALLENGER, FORGOTTEN_TAG, list_versions
from components.publish.registry.register import RegisterConfig, register
from tests.publish.conftest import Bench

REPORT = ("accuracy", 0.5, 0.4, 0.6)


@pytest.fixture
def pushed(tmp_path: Path, corpus_of: Callable[..., Corpus]) -> tuple[Workspace, list[str]]:
    """Two versions of a dataset that share a shard."""
    workspace = Workspace(Settings(home=tmp_path, reference_data=tmp_path))
    pages = [f"text of page {number}" for number in range(6)]
    first = push_dataset(DatasetConfig(), corpus_of(pages), workspace).artifact
    without = push_dataset(DatasetConfig(), corpus_of(pages[:-1]), workspace).artifact
    return workspace, [first.name, without.name]


def test_a_dataset_goes_and_the_other_stays_whole(
    pushed: tuple[Workspace, list[str]], corpus_of: Callable[..., Corpus]
) -> None:
    workspace, (bad, good) = pushed
    settings = workspace.settings
    files = sorted(settings.datasets.rglob("*.parquet"))
    assert {path.parent.name for path in files} == {bad, good}
    remotes = list_remotes(settings)
    objects = find_unshared_objects(settings, bad, remotes)
    assert len(objects) == 2  # one of two shards, and the list
    plan, system = plan_dataset_purge(settings, [bad], remotes), DatasetDeletion()
    assert system.find_left(settings, plan)
    system.delete(settings, plan)
    system.delete(settings, plan)  # as after a kill
    assert system.find_left(settings, plan) == []
    assert not (settings.datasets / bad).exists()
    assert not (settings.datasets / f"{bad}.dvc").exists()
    for place in (settings.datasets / ".dvc" / "cache", settings.datasets / "remote"):
        held = {path.parent.name + path.name for path in place.rglob("*") if path.is_file()}
        assert not {md5 for md5 in objects if md5 in held}
    pages = [f"text of page {number}" for number in range(5)]
    again = push_dataset(DatasetConfig(), corpus_of(pages), workspace)
    assert (again.artifact.name, again.changed) == (good, False)


def test_objects_are_known_though_cache_and_remote_lost_the_list(
    pushed: tuple[Workspace, list[str]],
) -> None:
    settings, (bad, _) = pushed[0].settings, pushed[1]
    remotes = list_remotes(settings)
    before = find_unshared_objects(settings, bad, remotes)
    for place in (settings.datasets / ".dvc" / "cache", settings.datasets / "remote"):
        for path in place.rglob("*.dir*"):
            path.unlink()
    assert find_unshared_objects(settings, bad, remotes) == before


def test_a_remote_that_only_dvc_reaches(pushed: tuple[Workspace, list[str]]) -> None:
    settings, (bad, good) = pushed[0].settings, pushed[1]
    remote = settings.datasets / "remote"
    before = {path for path in remote.rglob("*") if path.is_file()}
    objects = find_unshared_objects(settings, bad, [str(remote)])
    _delete_through_dvc(settings, str(remote), objects)
    gone = before - {path for path in remote.rglob("*") if path.is_file()}
    assert sorted(path.parent.name + path.name for path in gone) == sorted(objects)
    _delete_through_dvc(settings, str(remote), objects)
    assert find_unshared_objects(settings, good, [str(remote)])


def test_the_remote_of_the_workspace_this_one_was_copied_from_is_not_ours(
    pushed: tuple[Workspace, list[str]], tmp_path: Path
) -> None:
    home = pushed[0].settings.home
    copy = Settings(home=tmp_path / "copy", reference_data=tmp_path)
    (copy.datasets / ".dvc").mkdir(parents=True)
    config = home / "datasets" / ".dvc" / "config"
    (copy.datasets / ".dvc" / "config").write_bytes(config.read_bytes())
    assert list_remotes(copy) == [str(copy.datasets / "remote")]
    text = config.read_text().replace(str(home / "datasets" / "remote"), "s3://bucket/x")
    (copy.datasets / ".dvc" / "config").write_text(text)
    assert list_remotes(copy) == [str(copy.datasets / "remote"), "s3://bucket/x"]


def test_a_version_goes_with_alias_model_and_files(bench: Bench) -> None:
    settings = bench.settings
    given = {"model": bench.model(), "dataset": bench.dataset()}
    reports = {"choice": bench.report(*REPORT)}
    for content in ("first", "second"):
        register(
            RegisterConfig(name="withdrawn"),
            bench.bundle(content),
            reports=reports,
            workspace=bench.workspace,
            **given,
        )
    newest, first = list_versions(settings, "withdrawn")
    mark_forgotten(settings, [newest], "bad.example")
    mark_forgotten(settings, [newest], "bad.example")
    mark_forgotten(settings, list_versions(settings, "withdrawn")[:1], "https://a.example/x")
    mark_forgotten(settings, list_versions(settings, "withdrawn")[:1], "a.example")
    (tagged, clean) = list_versions(settings, "withdrawn")
    assert tagged.tags[FORGOTTEN_TAG] == "bad.example, https://a.example/x, a.example"
    assert FORGOTTEN_TAG not in clean.tags
    assert CHALLENGER in tagged.aliases
    folder = newest.files_folder(settings).parent
    assert folder.is_dir()
    plan, system = plan_registry_purge(settings, [newest], []), RegistryDeletion()
    assert f"withdrawn/{newest.version}" in system.find_left(settings, plan)
    for _ in range(2):  # the second as after a kill
        system.delete(settings, plan)
    assert system.find_left(settings, plan) == []
    run = next(item.name for item in plan.deletions if item.kind == "run")
    with pytest.raises(MlflowException, match=run):
        connect_mlflow(settings).get_run(run)
    assert not folder.exists()
    assert [entry.version for entry in list_versions(settings, "withdrawn")] == [first.version]
    assert first.files_folder(settings).is_dir()
