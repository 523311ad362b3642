"""A run's own files: found from where they are named, known by what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.collect.scrape import scrape
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.configs.target_config import read_target
from flows.runner.run_pipeline import RunOptions, make_source_resolver, plan_target, run_target
from flows.runner.run_records import read_records


def written(folder: Path, glob: str) -> Path:
    """A YAML file beside a folder ``notes`` with two pages."""
    (folder / "notes").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "notes" / f"{name}.md").write_text(f"# {name}\n\nA page of prose.")
    (folder / "acme.yaml").write_text(f"preset: nano\nscrape:\n  files:\n  - {glob!r}\n")
    return folder / "acme.yaml"


def looked_at(target: str, here: Settings, *sets: str) -> Any:
    return make_source_resolver()(read_target(target, sets, here).scrape, [])


def test_a_yaml_file_s_globs_start_from_its_folder(
    tmp_path: Path, here: Settings, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(tmp_path / "one" / "acme", "notes/*.md")
    other = written(tmp_path / "other" / "acme", "notes/*.md")
    monkeypatch.chdir(tmp_path)
    fixed = looked_at(str(one), here)
    assert list(fixed.digests) == ["notes/a.md", "notes/b.md"]
    assert scrape(fixed, work).stats["pages"] == 2
    relative = looked_at(str(other.relative_to(tmp_path)), here)
    store = Store(here.store)
    keys = {store.make_request(scrape, config, {}).key for config in (fixed, relative)}
    assert len(keys) == 1  # where the same files lie is no difference


def test_globs_of_set_start_from_the_current_folder(
    tmp_path: Path, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = written(tmp_path / "acme", "notes/*.md")
    (tmp_path / "mine.txt").write_text("words")
    monkeypatch.chdir(tmp_path)
    assert list(looked_at(str(target), here, "scrape.files=[mine.txt]").digests) == [
        f"{tmp_path.name}/mine.txt"
    ]
    assert len(looked_at("nano", here, "scrape.files=[acme/notes/*.md]").digests) == 2


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("notes/*.txt", "matches no file; looked in {folder}/notes"),
        ("nodes/*.md", "matches no file; there is no folder {folder}/nodes"),
        ("*.yaml", "acme.yaml: its kind is not known; readable are"),
    ],
)
def test_a_glob_without_pages_is_named_with_its_line(
    tmp_path: Path, here: Settings, glob: str, expected: str
) -> None:
    target = written(tmp_path / "acme", glob)
    with pytest.raises(ConfigError) as caught:
        plan_target(here, str(target), ())
    problem = expected.format(folder=tmp_path / "acme")
    assert str(caught.value).startswith(f"{target}:4: scrape.files.0: given {glob!r}: {problem}")


def test_a_glob_of_set_names_the_assignment(here: Settings) -> None:
    with pytest.raises(ConfigError, match=r"^--set scrape.files=\[x.md\]: scrape.files.0: given"):
        read_target("nano", ["scrape.files=[x.md]"], here)


def test_a_repeated_run_whose_files_are_gone_is_recorded_as_failed(
    tmp_path: Path, here: Settings
) -> None:
    target = written(tmp_path / "acme", "notes/*.md")
    config = read_target(str(target), (), here)
    (tmp_path / "acme" / "notes").rename(tmp_path / "away")
    with pytest.raises(ConfigError, match="matches no file"):
        run_target(here, RunOptions("acme", plain=True, config=config), Console(quiet=True))
    (run,) = read_records(here.runs)
    assert (run["state"], run["steps"]) == ("failed", [])
    assert "matches no file" in run["note"]
    assert run["repeat"]["files_folder"] == str(tmp_path / "acme")
