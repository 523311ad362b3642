"""A state is whole or absent, and a broken one is passed over."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from components.core.errors import DataError
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_state import StateFiles, collect_state, restore_state
from components.train.training_config import OptimConfig


def saved(folder: Path, steps: int = 3) -> StateFiles:
    states = StateFiles(folder, keep=2)
    for step in range(1, steps + 1):
        states.save(step, {"a": torch.full((4,), float(step))}, {"note": step})
    return states


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    state = saved(tmp_path).latest()
    assert state is not None
    assert (state.step, state.meta) == (3, {"note": 3})
    assert torch.equal(state.tensors["a"], torch.full((4,), 3.0))
    assert len(list(tmp_path.iterdir())) == 4


def test_nothing_saved_is_nothing(tmp_path: Path) -> None:
    assert StateFiles(tmp_path / "new").latest() is None


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "record"])
def test_a_broken_newest_is_passed_over(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    states = saved(tmp_path)
    weights, record = (tmp_path / f"state-00000003.{kind}" for kind in ("safetensors", "json"))
    content = weights.read_bytes()
    if harm == "cut":
        weights.write_bytes(content[:-3])
    elif harm == "flip":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "gone":
        weights.unlink()
    else:
        record.write_text('{"step": 3')
    with caplog.at_level(logging.WARNING, logger="modelmill"):
        logging.getLogger("modelmill").propagate = True
        state = states.latest()
    assert state is not None
    assert state.step == 2
    assert "passed over" in caplog.text


def test_weights_without_a_record_do_not_count(tmp_path: Path) -> None:
    states = saved(tmp_path)
    (tmp_path / "state-00000003.json").unlink()  # as a kill between the two writes leaves it
    state = states.latest()
    assert state is not None
    assert state.step == 2


def test_collected_state_restores_weights_and_generator(tmp_path: Path) -> None:
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    tensors = collect_state({"model": one}, Optimiser(one, OptimConfig()))
    StateFiles(tmp_path).save(1, tensors, {})
    drawn = torch.rand(3)
    state = StateFiles(tmp_path).latest()
    assert state is not None
    restore_state(state.tensors, {"model": two}, Optimiser(two, OptimConfig()))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(torch.rand(3), drawn)


def test_another_shape_is_refused() -> None:
    one, two = nn.Linear(3, 2), nn.Linear(4, 2)
    tensors = collect_state({"model": one}, Optimiser(one, OptimConfig()))
    with pytest.raises(DataError, match="another model: model/weight"):
        restore_state(tensors, {"model": two}, Optimiser(two, OptimConfig()))
