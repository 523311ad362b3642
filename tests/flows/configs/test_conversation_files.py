"""Files of conversations in a run's config: found beside the YAML file, tried before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.configs.target_config import read_target
from tests.flows.configs.conftest import planned_steps

GOOD = '{"question": "Where?", "answer": "There."}\n'


def run_file(folder: Path, files: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(f"preset: nano\ninstructions:\n  max_bad_share: 0\n  files: {files}\n")
    return str(path)


def test_relative_files_start_from_the_folder_of_the_yaml_file(
    tmp_path: Path, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = run_file(tmp_path / "team", "[chats.jsonl, more/faq.jsonl]")
    (tmp_path / "team" / "more").mkdir()
    (tmp_path / "team" / "chats.jsonl").write_text(GOOD)
    (tmp_path / "team" / "more" / "faq.jsonl").write_text(GOOD)
    (tmp_path / "chats.jsonl").write_text("not this one")
    monkeypatch.chdir(tmp_path)
    run = read_target("team/run.yaml", (), here)
    assert [file.place for file in run.instructions.files] == ["team/chats.jsonl", "more/faq.jsonl"]
    assert read_target(target, (), here) == run
    given = read_target(target, ["instructions.files=[team/more/faq.jsonl]"], here)
    assert [file.place for file in given.instructions.files] == ["more/faq.jsonl"]


def test_a_step_more_where_there_are_files(tmp_path: Path, here: Settings) -> None:
    without = planned_steps(read_target("nano", (), here), here)
    assert "conversations" not in without
    (tmp_path / "chats.jsonl").write_text(GOOD)
    sets = [f"instructions.files=[{tmp_path / 'chats.jsonl'}]", "instructions.heldout_share=0.3"]
    run = read_target("nano", [*sets, "select.pii.email=drop", "sft.kinds=[conversation]"], here)
    steps = planned_steps(run, here)
    assert [step for step in steps if step != "conversations"] == without
    assert steps.index("conversations") == steps.index("instructions") - 1
    resolved = run.resolved_conversations
    assert resolved.heldout_share == 0.3
    assert resolved.select.pii.email == "drop"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no file"),
        (
            "a\n1\n",
            "none of the first rows of bad.jsonl is a conversation, the first: row 1 no",
        ),
        ("", "bad.jsonl holds no row"),
        ('{"prompt": "a", "chosen": "b"}\n', "row 1 its fields (prompt, chosen) are of no known"),
        (
            "a,b\n1,2\n",
            "files.1: bad.jsonl looks like CSV: save it as JSON lines or Parquet",
        ),
    ],
)
def test_an_unusable_file_is_named_before_anything_runs(
    tmp_path: Path, here: Settings, content: str | None, said: str
) -> None:
    target = run_file(tmp_path, "[good.jsonl, bad.jsonl]")
    (tmp_path / "good.jsonl").write_text(GOOD)
    if content is not None:
        (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(ConfigError) as refused:
        read_target(target, (), here)
    line = str(refused.value)
    assert line.startswith(f"{target}:4: instructions.files.1: ")
    assert said in line
    assert "\n" not in line


def test_one_good_row_among_the_first_is_enough_to_begin(tmp_path: Path, here: Settings) -> None:
    target = run_file(tmp_path, "[chats.jsonl]")
    (tmp_path / "chats.jsonl").write_text("broken\n" * 3 + GOOD)
    assert len(read_target(target, (), here).instructions.files) == 1
