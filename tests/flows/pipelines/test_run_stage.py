"""``modelmill stage`` as a user meets it: what it shows, takes and refuses."""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core import log
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Instructions, Tokenizer
from components.core.store.store import Store
from components.train.autopilot import apply_choices
from flows.cli.main import VERBOSE_MODULES
from flows.pipelines.input_kinds import check_input_kind
from flows.pipelines.run_stage import _name_given_paths, run_stage
from tests.train.conftest import sealed_model, sealed_tokens

SMALL = ("sequence_length=32", "batch=64", "steps=3", "precision=float32")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with a checkpoint and tokens."""
    store, folder = tmp_path / "elsewhere", tmp_path / "given"
    made = {"model": sealed_model(store), "tokens": sealed_tokens(store, 8)}
    for name, artifact in made.items():
        shutil.copytree(store / artifact.name, folder / name)
    return folder


def stage(
    given: Path,
    name: str,
    inputs: dict[str, str],
    *sets: str,
    output: str = "out",
    console: Console | None = None,
) -> dict[str, Any]:
    settings = Settings(home=given.parent / "home", reference_data=given)
    named = [f"{role}={given / path}" for role, path in inputs.items()]
    return run_stage(settings, name, named, given / output, sets, "nano", console)


ADAPT = {"model": "model", "tokens": "tokens"}


def test_a_stage_is_shown_at_work_and_as_cached(given: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    assert not stage(given, "adapt", ADAPT, *SMALL, console=console)["cached"]
    assert "… adapt" in out.getvalue()
    assert "3 steps" in out.getvalue()
    assert "Completed" in out.getvalue()
    again = io.StringIO()
    told = stage(given, "adapt", ADAPT, *SMALL, output="b", console=Console(file=again))
    assert told["cached"]
    assert "adapt Cached" in " ".join(again.getvalue().split())


def test_what_the_autopilot_chose_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert apply_choices.__name__ in VERBOSE_MODULES
    try:
        log.configure_logging(verbose_modules=VERBOSE_MODULES)
        apply_choices.log.info("autopilot: batch: 512")
        log.get_logger("components.other").info("of no interest")
    finally:  # other tests listen to the house's log
        apply_choices.log.setLevel(logging.NOTSET)
        house = logging.getLogger(log.ROOT_LOGGER)
        house.handlers.clear()
        house.propagate = True
    told = capsys.readouterr().err
    assert "autopilot: batch: 512\n" in told
    assert "of no interest" not in told


def test_a_field_may_be_named_as_in_a_run(given: Path) -> None:
    sets = [f"adapt.{one}" for one in SMALL]
    assert stage(given, "adapt", ADAPT, *sets)["stats"]["steps"] == 3
    with pytest.raises(ConfigError, match=r"^--set steps=0: adapt\.steps: given 0: must be"):
        stage(given, "adapt", ADAPT, "steps=0", output="b")


def test_all_missing_inputs_are_named(given: Path) -> None:
    asked = "--input instructions=PATH, --input tokenizer=PATH are missing"
    with pytest.raises(ConfigError, match=f"sft: {asked}"):
        stage(given, "sft", {"model": "model"})


@pytest.mark.parametrize(
    ("name", "inputs", "told"),
    [
        (
            "adapt",
            {"model": "tokens", "tokens": "tokens"},
            "/given/tokens is of kind tokens; adapt takes checkpoint (model.json, "
            "model.safetensors) as model",
        ),
        (
            "merge",
            {"model": "model", "adapter": "adapted"},
            "/given/adapted holds no adapter_config.json, no adapter_model.safetensors; merge "
            "takes adapter (adapter_config.json, adapter_model.safetensors) as adapter: give "
            "{given}/adapted/adapter",
        ),
        ("import_hf", {"folder": "model"}, "is of kind checkpoint; import_hf takes a model as"),
        ("import_hf", {"folder": "empty"}, "/given/empty holds no config.json; import_hf takes"),
        (
            "loss",
            {"model": "model", "tokens": "empty"},
            "holds no meta.json, no train.npy, no train.docs.npy; loss takes tokens",
        ),
        (
            "tokens",
            {"corpus": "tokens", "tokenizer": "model"},
            "/given/tokens is of kind tokens; tokens takes corpus (00000.parquet) as corpus",
        ),
        (
            "pretrain",
            {"tokens": "tokens", "tokenizer": "model"},
            "is of kind checkpoint; pretrain takes tokenizer (tokenizer.json) as tokenizer",
        ),
        (
            "sft",
            {"model": "model", "tokenizer": "tokenizer.json", "instructions": "own.jsonl"},
            "/given/own.jsonl is a single file; sft takes instructions (train.parquet, "
            "heldout.parquet) as instructions, a folder that a run made: `modelmill show` lists",
        ),
        (
            "sft",
            {"model": "model", "tokenizer": "tokenizer.json", "instructions": "empty"},
            "/given/empty holds no train.parquet, no heldout.parquet; sft takes instructions",
        ),
        ("adapt", {"model": "own.jsonl", "tokens": "tokens"}, "own.jsonl is a single file; adapt"),
        ("quality", {"corpus": "own.jsonl"}, "is a single file; quality takes corpus (00000.parq"),
        ("extract", {"pages": "own.jsonl"}, "is a single file; extract takes pages (*.warc*) as"),
        ("bundle", {"model": "model", "exports.hf": "own.jsonl"}, "takes export (parity.json"),
    ],
)
def test_another_kind_of_input_is_named(
    given: Path, name: str, inputs: dict[str, str], told: str
) -> None:
    (given / "empty").mkdir()
    (given / "own.jsonl").write_text('{"question": "Why?", "answer": "So."}')
    (given / "tokenizer.json").write_text("{}")
    (given / "adapted" / "adapter").mkdir(parents=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (given / "adapted" / "adapter" / file).write_text("{}")
    with pytest.raises(ConfigError) as refused:
        stage(given, name, inputs)
    assert told.replace("{given}", str(given)) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (given.parent / "home").exists()


def test_instructions_of_ones_own_are_taken_by_their_files_alone(given: Path) -> None:
    (given / "made").mkdir()
    for name in ("train.parquet", "heldout.parquet"):
        (given / "made" / name).touch()
    check_input_kind("x", given / "made", "instructions", "sft", Instructions)
    (given / "made" / "artifact.json").write_text('{"format": "preferences/1"}')
    with pytest.raises(ConfigError, match="is of kind preferences; sft takes instructions"):
        check_input_kind("x", given / "made", "instructions", "sft", Instructions)


def test_a_checkpoint_that_holds_a_tokenizer_is_one_too(given: Path) -> None:
    (given / "model" / "tokenizer.json").write_text("{}")
    check_input_kind("x", given / "model", "tokenizer", "pretrain", Tokenizer)
    check_input_kind("x", given / "model" / "tokenizer.json", "tokenizer", "pretrain", Tokenizer)


def test_an_error_without_inputs_does_not_speak_of_any(tmp_path: Path) -> None:
    assert _name_given_paths("it is broken", Store(tmp_path), {}, []) == "it is broken"
