"""The stages beside the chain, on a user's own folders: adapt, distill, merge."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.pipelines.run_stage import run_stage
from models.shape import DecoderShape
from tests.train.conftest import NANO, sealed_model, sealed_tokens

SMALL = ("sequence_length=32", "batch=64", "steps=3", "precision=float32")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with a checkpoint, one of another shape, and tokens."""
    store, folder = tmp_path / "elsewhere", tmp_path / "given"
    wide = DecoderShape(**{**NANO.__dict__, "hidden": 96})
    made = {
        "model": sealed_model(store),
        "wide": sealed_model(store, wide),
        "tokens": sealed_tokens(store, 8),
    }
    for name, artifact in made.items():
        shutil.copytree(store / artifact.name, folder / name)
    return folder


def stage(given: Path, name: str, inputs: dict[str, str], *sets: str) -> dict[str, Any]:
    settings = Settings(home=given.parent / "home", reference_data=given)
    named = [f"{role}={given / path}" for role, path in inputs.items()]
    return run_stage(settings, name, named, given / name, sets, "nano")


def test_an_adapter_is_learnt_and_merged_by_hand_to_the_same_weights(given: Path) -> None:
    stage(given, "adapt", {"model": "model", "tokens": "tokens"}, *SMALL, "lora.rank=4")
    stage(given, "merge", {"model": "model", "adapter": "adapt/adapter"})
    weights = [(given / name / "model.safetensors").read_bytes() for name in ("adapt", "merge")]
    assert weights[0] == weights[1] != (given / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(given / "merge")
    inputs = {"model": "wide", "adapter": "adapt/adapter"}
    with pytest.raises(ConfigError, match=r"given/adapt/adapter is of another model") as refused:
        stage(given, "merge", inputs, "same_base=false")
    assert "sealed" not in str(refused.value)
    assert not (given / "merge").exists()


def test_a_student_is_taught(given: Path) -> None:
    student = "shape={width: 16, layers: 1, context: 64}"
    made = stage(given, "distill", {"teacher": "model", "tokens": "tokens"}, *SMALL, student)
    assert made["stats"]["steps"] == 3
