"""Errors of the Python API name what the caller wrote, and no option of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import modelmill
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Report
from components.core.store.workdir import Workdir


def make_report(config: StageConfig, work: Workdir) -> Report:
    """A stage that no call of this test reaches."""
    return work.seal(Report)


@pytest.mark.parametrize(
    ("source", "overrides", "words"),
    [
        ({"preset": "tiny", "zzz": 1}, None, "zzz: unknown field"),
        ("tiny", {"zzz": "a: b"}, "zzz: unknown field"),
        ("tiny", {"pretrain": {"steps": "many"}}, "pretrain.steps: given 'many'"),
        ("tiny", ["pretrain.steps=many"], "pretrain.steps: given 'many'"),
        ("tiny", ["pretrain.steps"], "pretrain.steps: write it as field=value"),
        ("tiny", ["pretrain.steps=[1"], "pretrain.steps: '[1' is not a value"),
        (modelmill.TextRun(), {"zzz": 1}, "zzz: unknown field"),
        ({"preset": "assistant"}, None, "the preset assistant needs instructions.files: add"),
    ],
)
def test_a_field_is_named_as_it_was_given(
    source: Any, overrides: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(modelmill.ConfigError) as caught:
        modelmill.plan(source, overrides, home=tmp_path)
    assert str(caught.value).startswith(words)
    assert "--" not in str(caught.value)


def test_a_field_of_a_stage_is_named_alone(tmp_path: Path) -> None:
    with pytest.raises(modelmill.ConfigError, match=r"^zzz: unknown field"):
        modelmill.stage(make_report, {"zzz": 1}, home=tmp_path)


def test_a_last_stage_that_is_none_is_named_as_an_argument(tmp_path: Path) -> None:
    with pytest.raises(modelmill.ConfigError, match=r"^until: given 'nope': no such stage; stages"):
        modelmill.run("nano", home=tmp_path / "home", until="nope")


def test_a_workspace_is_named_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a file"
    file.touch()
    with pytest.raises(modelmill.ConfigError, match=rf"^home={file}: is a file; name a folder$"):
        modelmill.artifact("0" * 12, home=file)
    (tmp_path / "workspace.json").write_text("{}")
    with pytest.raises(modelmill.ConfigError) as caught:
        modelmill.plan("nano", home=tmp_path)
    assert "set home to a new folder" in str(caught.value)
    assert "MODELMILL_HOME" not in str(caught.value)
    monkeypatch.setenv("MODELMILL_HOME", str(file))
    with pytest.raises(modelmill.ConfigError, match=rf"^MODELMILL_HOME={file}: is a file"):
        modelmill.artifact("0" * 12)
