"""Sources of a run as a Python caller gives them, and their mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.collect.scrape_config import ScrapeConfig
from components.core.config.stage_config import parse_assignment
from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.api.run_source import assignments_of, read_source
from flows.configs.presets import nano_run

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(LEAVES | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(VALUES)
def test_any_value_is_read_back_as_it_was(value: Any) -> None:
    (assignment,) = assignments_of({"scrape": {"files": value}})
    assert parse_assignment(assignment) == {"scrape": {"files": value}}


def test_values_of_all_forms_are_one_config(tmp_path: Path) -> None:
    here = Settings(home=tmp_path / "home", reference_data=tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text("preset: nano\nname: mine\npretrain: {steps: 7}\n")
    forms = [
        read_source(file, None, here),
        read_source({"preset": "nano", "name": "mine", "pretrain": {"steps": 7}}, None, here),
        read_source("nano", {"name": "mine", "pretrain.steps": 7}, here),
        read_source("nano", ["name=mine", "pretrain.steps=7"], here),
        read_source(nano_run(), {"name": "mine", "pretrain": {"steps": 7}}, here),
    ]
    assert forms[0].config.pretrain.steps == 7
    assert all(form.config == forms[0].config for form in forms)


def test_headers_keep_names_that_are_no_fields() -> None:
    headers = {"scrape": {"headers": {"User-Agent": "me", "X.y=z": "1"}}}
    (assignment,) = assignments_of(headers)
    assert parse_assignment(assignment) == headers


def test_a_config_object_keeps_the_folder_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# A page\n\nSome words.\n")
    scrape = ScrapeConfig(files=["*.md"], folder=str(tmp_path))
    run = nano_run().model_copy(update={"scrape": scrape})
    here = Settings(home=tmp_path / "home", reference_data=tmp_path)
    for overrides in (None, {"name": "mine"}):
        assert read_source(run, overrides, here).config.scrape.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("source", "overrides", "words"),
    [
        ("nanno", None, "nanno: neither a preset (nano, tiny,"),
        ({"pretrain": {"steps": 7}}, None, "preset: given None: must name the preset"),
        ({"preset": "nano", "pretrian": {}}, None, "pretrian: unknown field; did you mean 'pretrain'?"),
        ("nano", {"pretrain.steps": "many"}, "pretrain.steps: given 'many': must be a whole number"),
        ("nano", {"pretrain.steps": {1, 2}}, "overrides: pretrain.steps: a set is no value"),
        ("nano", {"pretrain.peak_lr": float("nan")}, "overrides: pretrain.peak_lr: "),
        ("nano", {"pretrain steps": 1}, "overrides: 'pretrain steps' is no name of a field"),
        ("nano", {3: 1}, "overrides: 3 is no name of a field"),
        ("nano", "pretrain.steps=7", "overrides: given 'pretrain.steps=7': give a mapping, or a list"),
        (7, None, "source: given int: give a preset, a YAML file, a mapping or a TextRun"),
        ("absent.yaml", None, "absent.yaml: cannot be read: No such file"),
        (nano_run(), {"pretrain.steps": -1}, "pretrain.steps: given -1: must be at least"),
        ({"preset": "assistant"}, None, "the preset assistant needs instructions.files"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(
    source: Any, overrides: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_source(source, overrides, Settings(home=tmp_path, reference_data=tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
