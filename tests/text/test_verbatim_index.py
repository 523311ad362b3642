"""Verbatim passages: exactly those that a plain search finds, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from components.text.dedup.verbatim_index import covered_runs, find_known_windows, token_windows


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_it_finds_what_a_plain_search_finds(block: int) -> None:
    draw = np.random.default_rng(0)
    training = draw.integers(1, 4, size=500).astype(np.uint16)
    texts = [draw.integers(1, 4, size=30).tolist() for _ in range(8)]
    texts.append(training[490:].tolist())  # the very end
    texts.append([1, 2])  # too short to hold a passage
    known = find_known_windows(texts, training, 6, block)
    there = set(token_windows(training.tolist(), 6))
    wanted = {window for text in texts for window in token_windows(text, 6)} & there
    assert known == wanted
    assert known
    assert known != {window for text in texts for window in token_windows(text, 6)}


def test_nothing_asked_or_too_little_training_finds_nothing() -> None:
    training = np.arange(10, dtype=np.uint16)
    assert find_known_windows([], training, 4) == set()
    assert find_known_windows([[1, 2, 3]], training, 4) == set()
    assert find_known_windows([list(range(20))], training, 11) == set()


def test_overlapping_windows_are_one_passage_and_the_longest_is_first() -> None:
    training = np.array([1, 2, 3, 4, 5, 9, 9, 9, 6, 7, 8, 0], dtype=np.uint32)
    said = [6, 7, 8, 50, 1, 2, 3, 4, 5, 60]
    known = find_known_windows([said], training, 3)
    assert covered_runs(said, known, 3) == [(4, 9), (0, 3)]
