"""``modelmill init``, its file and the schema of such files; the help that leads there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from components.core.config.stage_config import read_yaml
from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.cli.app import PANELS
from flows.cli.main import app
from flows.configs.presets import PRESETS
from flows.configs.prices import Prices
from flows.configs.run_file import commented_run_file, run_file_schema, write_run_file
from flows.configs.target_config import read_target
from tests.flows.conftest import ROOT


def modelmill(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder of nobody's, without a workspace of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "MODELMILL_HOME"}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_new_file_is_planned_without_a_word_of_complaint(tmp_path: Path) -> None:
    done = modelmill(tmp_path, "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote run.yaml; next: modelmill plan run.yaml\n"
    planned = modelmill(tmp_path, "plan", "run.yaml")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "scrape" in planned.stdout
    again = modelmill(tmp_path, "init")
    assert again.returncode == 2
    assert again.stderr.startswith("modelmill: run.yaml: exists already and is left unchanged")
    assert again.stderr.count("\n") == 1


def test_what_it_shows_is_what_holds(tmp_path: Path) -> None:
    """Each commented field may be taken as it stands: together they change nothing."""
    path, settings = tmp_path / "mine.yaml", Settings(home=tmp_path, reference_data=tmp_path)
    write_run_file(path)
    preset = PRESETS["tiny"]().model_copy(update={"name": "my-pages"})
    assert read_target(str(path), [], settings) == preset
    text = re.sub(r"(?m)^#(?=\w|  +\w+:)", "", commented_run_file("mine.yaml"))
    text = re.sub(r"(?m)^ +modelmill .*$", "", text)
    path.write_text(text)
    values, _ = read_yaml(path)
    assert {"scrape", "select", "pretrain", "prices"} <= set(values)
    priced = preset.model_copy(update={"prices": Prices()})
    assert read_target(str(path), [], settings) == priced


@pytest.mark.parametrize(
    ("name", "expected"), [("mine.txt", "name it .yaml"), ("no/mine.yaml", "cannot be written")]
)
def test_a_file_that_cannot_be_is_one_line(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        write_run_file(tmp_path / name)


def test_the_schema_knows_all_that_a_file_may_hold() -> None:
    schema = run_file_schema()
    assert schema["properties"]["preset"]["enum"] == list(PRESETS)
    assert schema["required"] == ["preset"]
    assert list(schema["patternProperties"]) == ["^x-"]
    assert schema["additionalProperties"] is False


def commands() -> dict[str, TyperCommand]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {name: c for name, c in group.commands.items() if isinstance(c, TyperCommand)}


def test_every_command_is_in_a_panel_and_the_daily_ones_come_first(tmp_path: Path) -> None:
    assert sorted(commands()) == sorted(name for names in PANELS.values() for name in names)
    shown = modelmill(tmp_path, "--help").stdout
    places = [shown.index(f"│ {name} ") for names in PANELS.values() for name in names]
    assert places == sorted(places)
    assert next(iter(PANELS.values()))[:3] == ("init", "plan", "run")


@pytest.mark.parametrize("name", commands())
def test_a_switch_has_no_opposite(name: str) -> None:
    opposites = [word for param in commands()[name].params for word in param.secondary_opts]
    assert opposites == (["--no"] if name == "approve" else [])


def test_the_version_and_completion(tmp_path: Path) -> None:
    assert re.fullmatch(r"modelmill \d+\.\d+\.\d+\n", modelmill(tmp_path, "--version").stdout)
    asked = {"COMP_WORDS": "modelmill pl", "COMP_CWORD": "1"}
    done = modelmill(tmp_path, _MODELMILL_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == ["plan"]
    # typer asks the processes above for the shell, and a runner of tests may have none
    told = modelmill(
        tmp_path,
        "--show-completion",
        "bash",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "complete -o default" in told.stdout


def test_the_schema_is_one_object(tmp_path: Path) -> None:
    assert json.loads(modelmill(tmp_path, "schema", "--json").stdout) == run_file_schema()


@pytest.mark.parametrize(
    ("field", "present"),
    [
        ("pretrain.recompute", "activation_checkpointing"),
        ("pretrain.positions", "sequence_length"),
        ("ppo.kept", "kept_samples"),
    ],
)
def test_an_earlier_name_of_a_field_leads_to_the_present_one(
    tmp_path: Path, field: str, present: str
) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    with pytest.raises(ConfigError, match=rf"{field}: unknown field; it is called '{present}' now"):
        read_target("tiny", [f"{field}=1"], settings)
