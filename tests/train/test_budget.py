"""Minutes become steps once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from components.core.errors import DataError
from components.train.budget import steps_within


def test_measured_journalled_and_kept(tmp_path: Path) -> None:
    calls: list[str] = []

    def step(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    def phases() -> list[tuple[float, object]]:
        return [(0.5, lambda: step("a", 0.01)), (0.5, lambda: step("b", 0.03))]

    steps = steps_within(0.02, tmp_path, phases)  # type: ignore[arg-type]
    assert 25 <= steps <= 60  # 1.2 s less the probe, at 0.02 s a step
    assert calls == ["a"] * 5 + ["b"] * 5
    assert json.loads((tmp_path / "budget.json").read_text())["steps"] == steps
    assert steps_within(0.02, tmp_path, phases) == steps  # type: ignore[arg-type]
    assert len(calls) == 10


def test_there_is_always_a_step(tmp_path: Path) -> None:
    assert steps_within(1e-9, tmp_path, lambda: [(1.0, lambda: time.sleep(0.001))]) == 1


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "budget.json").write_text("{}")
    with pytest.raises(DataError, match=r"budget\.json is damaged"):
        steps_within(1.0, tmp_path, list)
