"""A corpus is pushed once, found again, and restored where it got lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.core.action import Workspace
from components.core.errors import TransientError
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.publish.dataset.push_dataset import DatasetConfig, push_dataset

TEXTS = ["the first page", "the second page", "the third page"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Settings(home=tmp_path, reference_data=tmp_path))


def stored(folder: Path) -> dict[str, int]:
    return {
        p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
    }


def pulled(root: Path, version: str) -> dict[str, bytes]:
    """What DVC brings back from the remote alone."""
    from dvc.repo import Repo

    shutil.rmtree(root / version)
    shutil.rmtree(root / ".dvc" / "cache")
    with Repo(str(root)) as repo:
        repo.pull(targets=[str(root / f"{version}.dvc")])
    return {p.name: p.read_bytes() for p in (root / version).rglob("*") if p.is_file()}


def test_pushed_once_then_unchanged(corpus_of: Callable[..., Corpus], workspace: Workspace) -> None:
    corpus, root = corpus_of(TEXTS), workspace.settings.datasets
    first = push_dataset(DatasetConfig(), corpus, workspace)
    version = f"corpus-{corpus.digest[:12]}"
    assert (first.changed, first.artifact.name) == (True, version)
    assert first.artifact.digest == corpus.digest
    assert first.artifact.lineage.parents == {"corpus": corpus.digest}
    assert version in first.note
    before = stored(root)
    second = push_dataset(DatasetConfig(), corpus, workspace)
    assert (second.changed, second.artifact) == (False, first.artifact)
    assert stored(root) == before
    pin = yaml.safe_load((root / f"{version}.dvc").read_text())
    assert pin["meta"]["corpus"] == corpus.digest
    content = pulled(root, version)
    source = workspace.artifact_folder(corpus)
    assert content == {p.name: p.read_bytes() for p in source.glob("*.parquet")}


@pytest.mark.parametrize(
    "lost", ["remote", "remote and cache", "one file", "pin", "damaged", "listing"]
)
def test_what_is_missing_is_restored(
    corpus_of: Callable[..., Corpus], workspace: Workspace, lost: str
) -> None:
    corpus, root = corpus_of(TEXTS), workspace.settings.datasets
    push_dataset(DatasetConfig(), corpus, workspace)
    version, files = f"corpus-{corpus.digest[:12]}", root / "remote" / "files"
    before = stored(files)
    largest = max((p for p in files.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    if lost == "pin":
        (root / f"{version}.dvc").unlink()
    elif lost == "listing":
        next(files.rglob("*.dir")).chmod(0o644)
        next(files.rglob("*.dir")).write_bytes(b"[")
    elif lost == "one file":
        largest.unlink()
    elif lost == "damaged":
        largest.chmod(0o644)
        largest.write_bytes(b"half")
    else:
        shutil.rmtree(files)
    if lost == "remote and cache":
        shutil.rmtree(root / ".dvc" / "cache")
    assert push_dataset(DatasetConfig(), corpus, workspace).changed
    assert stored(files) == before
    assert not push_dataset(DatasetConfig(), corpus, workspace).changed
    assert len(pulled(root, version)) == 2


def test_versions_stand_side_by_side(
    corpus_of: Callable[..., Corpus], workspace: Workspace
) -> None:
    corpora = [corpus_of(TEXTS), corpus_of(TEXTS[:2])]
    names = [push_dataset(DatasetConfig(), corpus, workspace).artifact.name for corpus in corpora]
    assert len(set(names)) == 2
    assert not any(push_dataset(DatasetConfig(), c, workspace).changed for c in corpora)
    assert {path.stem for path in workspace.settings.datasets.glob("corpus-*.dvc")} == set(names)


def test_another_remote_and_name(
    corpus_of: Callable[..., Corpus], workspace: Workspace, tmp_path: Path
) -> None:
    corpus = corpus_of(TEXTS)
    config = DatasetConfig(name="acme-docs", remote=str(tmp_path / 'ein "anderer" Ört'))
    change = push_dataset(config, corpus, workspace)
    assert change.artifact.name.startswith("acme-docs-")
    assert stored(tmp_path / 'ein "anderer" Ört')
    assert not push_dataset(config, corpus, workspace).changed
    assert push_dataset(DatasetConfig(name="acme-docs"), corpus, workspace).changed


def test_nothing_is_written_outside_the_workspace(
    corpus_of: Callable[..., Corpus], workspace: Workspace
) -> None:
    push_dataset(DatasetConfig(), corpus_of(TEXTS), workspace)
    config = (workspace.settings.datasets / ".dvc" / "config").read_text()
    site = workspace.settings.datasets / ".dvc" / "site"
    assert f"site_cache_dir = {json.dumps(str(site))}" in config
    assert site.is_dir()


def test_a_held_lock_is_waited_for_then_told(
    corpus_of: Callable[..., Corpus], workspace: Workspace
) -> None:
    from dvc.repo import Repo

    corpus, root = corpus_of(TEXTS), workspace.settings.datasets
    push_dataset(DatasetConfig(), corpus_of(TEXTS[:1]), workspace)
    with (
        Repo(str(root)) as repo,
        repo.lock,
        pytest.raises(TransientError, match="another process holds DVC's lock"),
    ):
        push_dataset(DatasetConfig(attempts=1), corpus, workspace)
    assert push_dataset(DatasetConfig(), corpus, workspace).changed
