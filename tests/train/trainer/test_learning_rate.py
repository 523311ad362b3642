"""Warm-up, stable, decay."""

from __future__ import annotations

import pytest

from components.train.trainer.learning_rate import rate_factor
from components.train.training_config import ScheduleConfig


def test_rises_stays_and_falls_to_the_floor() -> None:
    config = ScheduleConfig(warmup=0.1, decay=0.5, floor=0.2)
    factors = [rate_factor(step, 100, config) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert set(factors[10:50]) == {1.0}
    falls = factors[50:]
    assert falls == sorted(falls, reverse=True)
    assert 0.2 < falls[-1] < 0.22


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_even_the_shortest_run_moves_at_every_step(steps: int) -> None:
    config = ScheduleConfig(warmup=0.5, decay=0.5, floor=0.0)
    assert all(0 < rate_factor(step, steps, config) <= 1 for step in range(steps))


def test_without_decay_the_rate_stays() -> None:
    config = ScheduleConfig(warmup=0.0, decay=0.0)
    assert {rate_factor(step, 10, config) for step in range(10)} == {1.0}


def test_a_cosine_falls_slowly_then_fast_then_slowly() -> None:
    config = ScheduleConfig(kind="cosine", warmup=0.1, floor=0.2)
    factors = [rate_factor(step, 100, config) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.6)  # halfway down, halfway between
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0.2 < factors[-1] < 0.201
