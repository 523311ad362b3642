"""Files of judged answers in a run's config: found beside the YAML file, tried before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.configs.target_config import read_target
from tests.flows.configs.conftest import planned_steps

GOOD = '{"prompt": "Where?", "chosen": "There.", "rejected": "No."}\n'


def run_file(folder: Path, fields: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(f"preset: nano\npreferences:\n  max_bad_share: 0\n  {fields}\n")
    return str(path)


def test_relative_files_start_from_the_folder_of_the_yaml_file(
    tmp_path: Path, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file(tmp_path / "team", "files: [mine.jsonl]")
    (tmp_path / "team" / "mine.jsonl").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    run = read_target("team/run.yaml", (), here)
    assert [file.place for file in run.preferences.files] == ["team/mine.jsonl"]


def test_a_step_more_before_anything_is_trained_where_there_are_files(
    tmp_path: Path, here: Settings
) -> None:
    plain = read_target("nano", (), here)
    without = planned_steps(plain, here)
    (tmp_path / "mine.jsonl").write_text(GOOD)
    sets = [f"preferences.files=[{tmp_path / 'mine.jsonl'}]", "select.pii.email=drop"]
    run = read_target("nano", [*sets, "preferences.ratings=[stars]"], here)
    steps = planned_steps(run, here)
    assert [step for step in steps if step != "own_preferences"] == without
    assert steps.index("own_preferences") < steps.index("pretrain")
    resolved = run.resolved_own_preferences
    assert resolved.ratings == ("stars",)
    assert resolved.select.pii.email == "drop"
    assert run.resolved_ppo == run.ppo
    assert run.resolved_keep_best == run.keep_best


def test_without_the_principles_own_pairs_reward_and_choose(tmp_path: Path, here: Settings) -> None:
    (tmp_path / "mine.jsonl").write_text(GOOD)
    target = run_file(tmp_path, "files: [mine.jsonl]\n  principles: false")
    run = read_target(target, (), here)
    ppo = run.resolved_ppo
    assert (ppo.principles, ppo.beside_model, ppo.judged) == (0.0, 0.0, 0)
    assert run.resolved_keep_best.decided_by == "own_preferences"
    with pytest.raises(ConfigError, match="principles: false needs files"):
        read_target("nano", ["preferences.principles=false"], here)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no file"),
        ("", "bad.jsonl holds no row"),
        ('{"prompt": "a", "completion": "b"}\n', "row 1 its fields (prompt, completion) are of no"),
        ('{"prompt": "a", "chosen": "b"}\n', "row 1 rejected: is missing"),
    ],
)
def test_an_unusable_file_is_named_before_anything_runs(
    tmp_path: Path, here: Settings, content: str | None, said: str
) -> None:
    target = run_file(tmp_path, "files: [good.jsonl, bad.jsonl]")
    (tmp_path / "good.jsonl").write_text(GOOD)
    if content is not None:
        (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(ConfigError) as refused:
        read_target(target, (), here)
    line = str(refused.value)
    assert line.startswith(f"{target}:4: preferences.files.1: ")
    assert said in line
    assert "\n" not in line
