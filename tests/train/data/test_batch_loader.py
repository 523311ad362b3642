"""Batches come in the order that is asked for, made ahead, and waiting for one is counted."""

from __future__ import annotations

import threading
import time

import pytest

from components.train.data.batch_loader import AHEAD, BatchLoader


def test_the_next_batches_are_ready_when_they_are_asked_for() -> None:
    made: list[int] = []

    def fetch(number: int) -> list[int]:
        time.sleep(0.01)
        made.append(number)
        return [number]

    with BatchLoader(fetch) as loader:
        for step in range(10):
            assert loader.take_batch(step, range(step + 1, step + 1 + AHEAD)) == [step]
            time.sleep(0.05)  # the step
        assert loader.late_batches == 0
        assert loader.wait_seconds < 0.05  # the first alone
    assert made == list(range(12))


def test_a_slow_source_is_seen() -> None:
    def fetch(number: int) -> list[int]:
        time.sleep(0.05)
        return [number]

    with BatchLoader(fetch) as loader:
        for step in range(5):
            loader.take_batch(step, [step + 1])
    assert loader.late_batches == 4
    assert 0.2 < loader.wait_seconds < 1.0


def test_what_was_made_ahead_is_forgotten_when_numbers_change_their_meaning() -> None:
    meaning = ["old"]
    with BatchLoader(lambda number: [meaning[0]]) as loader:
        loader.take_batch(0, [1, 2])
        time.sleep(0.05)
        meaning[0] = "new"
        loader.drop_pending()
        assert loader.take_batch(1, [2]) == ["new"]


def test_a_jump_drops_what_is_not_wanted() -> None:
    made: list[int] = []
    gate = threading.Event()

    def fetch(number: int) -> list[int]:
        gate.wait()
        made.append(number)
        return [number]

    with BatchLoader(fetch) as loader:
        threading.Timer(0.05, gate.set).start()
        loader.take_batch(0, [1, 2])
        assert loader.take_batch(7, [8]) == [7]
    assert 7 in made


def test_an_error_comes_where_its_batch_is_asked_for() -> None:
    def fetch(number: int) -> list[int]:
        if number == 2:
            raise ValueError("two")
        return [number]

    with BatchLoader(fetch) as loader:
        assert loader.take_batch(0, [1, 2]) == [0]
        assert loader.take_batch(1, [2]) == [1]
        with pytest.raises(ValueError, match="two"):
            loader.take_batch(2, [])
