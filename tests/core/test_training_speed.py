"""Speeds of this machine: kept, renewed, read for sizes in between, and passed over elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.core import training_speed
from components.core.training_speed import (
    MAX_SPEEDS,
    MeasuredSpeeds,
    TrainingSpeed,
    read_speeds,
    record_speed,
)
from components.train.budget.speed_probe import quickest_threads


def measured(parameters: int, rate: float, **over: str) -> TrainingSpeed:
    return TrainingSpeed.model_validate(
        {"parameters": parameters, "operations_per_second": rate, **over}
    )


def test_a_newer_speed_takes_the_place_of_an_older_one_of_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    assert not read_speeds(file)
    for given in (measured(1000, 1.0), measured(2000, 5.0), measured(1000, 3.0)):
        record_speed(file, given)
    kept = read_speeds(file).known
    assert [(one.parameters, one.operations_per_second) for one in kept] == [(1000, 3), (2000, 5)]
    record_speed(file, measured(1000, 9.0, precision="float32"))
    assert len(read_speeds(file).known) == 3
    for size in range(1, MAX_SPEEDS + 9):
        record_speed(file, measured(size, 1.0))
    assert len(read_speeds(file).known) == MAX_SPEEDS


def test_between_sizes_by_logarithms_and_outside_by_the_nearest() -> None:
    known = MeasuredSpeeds([measured(100, 1.0), measured(10_000, 100.0)])
    assert known.interpolate_speed(1000) == pytest.approx(10.0)
    assert known.interpolate_speed(10) == 1.0
    assert known.interpolate_speed(10**9) == 100.0
    assert known.interpolate_speed(100) == 1.0
    assert MeasuredSpeeds().interpolate_speed(100) is None


def test_the_setting_that_was_asked_for_comes_first() -> None:
    known = MeasuredSpeeds([measured(100, 9.0, precision="float32"), measured(100, 1.0)])
    assert known.interpolate_speed(100) == 1.0
    assert known.interpolate_speed(100, precision="float32") == 9.0
    assert known.interpolate_speed(100, device="cuda") == 9.0  # the newest there is


def test_the_workspace_s_own_come_before_those_of_set_up(tmp_path: Path) -> None:
    workspace, setup = tmp_path / "a.json", tmp_path / "b.json"
    record_speed(setup, measured(100, 1.0))
    assert read_speeds(workspace, setup).interpolate_speed(100) == 1.0
    record_speed(workspace, measured(100, 2.0))
    assert read_speeds(workspace, setup).interpolate_speed(100) == 2.0


def test_another_machine_s_speeds_are_kept_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "speed.json"
    record_speed(file, measured(100, 1.0))
    monkeypatch.setattr(
        training_speed, "usable_cores", lambda: 10_000
    )  # pinned otherwise, or moved
    assert not read_speeds(file)
    record_speed(file, measured(100, 7.0))
    assert read_speeds(file).interpolate_speed(100) == 7.0
    monkeypatch.undo()
    assert read_speeds(file).interpolate_speed(100) == 1.0


@pytest.mark.parametrize("content", ["", "[]", '{"speeds": [{"parameters": 0}]}', '{"speeds": 5}'])
def test_a_damaged_file_counts_as_none_and_is_written_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "speed.json"
    file.write_text(content)
    assert not read_speeds(file)
    record_speed(file, measured(100, 1.0))
    assert read_speeds(file).interpolate_speed(100) == 1.0


def test_a_folder_that_cannot_be_written_loses_the_speed_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    record_speed(tmp_path / "file" / "speed.json", measured(100, 1.0))
    assert not read_speeds(tmp_path / "file" / "speed.json")


def test_a_speed_is_measured_on_the_threads_that_are_set_and_leaves_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[int] = []
    monkeypatch.setenv("MODELMILL_THREADS", "3")
    monkeypatch.setattr("components.train.budget.speed_probe.set_torch_threads", used.append)
    with quickest_threads(lambda: None):
        assert used == [3]
    monkeypatch.setenv("MODELMILL_THREADS", "measure")
    monkeypatch.setattr(
        "components.train.budget.speed_probe.time_thread_counts",
        lambda *_: {4: 1.0, 2: 0.5, 1: 0.8},
    )
    with quickest_threads(lambda: None):
        assert used[-1] == 2
    assert used[-1] == torch.get_num_threads()
