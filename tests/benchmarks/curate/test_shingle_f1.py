"""The published scoring, and the parts' own reading of known answers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.curate.extraction.code_verbatim import read_pre_blocks
from benchmarks.curate.extraction.shingle_f1 import (
    average_scores,
    bootstrap_f1_interval,
    score_page,
    score_pages,
)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ("a b c d e", "a b c d e", (1.0, 1.0)),
        ("a b c d e", "a b c d", (1.0, 0.5)),
        ("a b c d", "x a b c d", (0.5, 1.0)),
        ("a b", "a b", (1.0, 1.0)),
        ("a b c d a b c d", "a b c d", (1.0, 0.2)),
        ("a b c d", "w x y z", (0.0, 0.0)),
    ],
)
def test_page_scores(truth: str, found: str, expected: tuple[float, float]) -> None:
    assert score_page(truth, found) == pytest.approx(expected)


def test_empty_prediction_counts_for_recall_alone() -> None:
    scores = score_pages({"1": "a b c d", "2": "a b c d"}, {"1": "a b c d", "2": ""})
    f1, precision, recall = average_scores(scores)
    assert (precision, recall) == (1.0, 0.5)
    assert f1 == pytest.approx(2 / 3)


def test_interval_of_a_difference_is_paired() -> None:
    ours = np.random.default_rng(1).uniform(0.5, 1, size=(60, 2))
    low, high = bootstrap_f1_interval(ours, ours - 0.01, resamples=200)
    assert 0.009 < low <= high < 0.011


def test_pre_texts() -> None:
    page = "<pre>\n a &lt; <b>b</b>\n</pre><p>no</p><pre> </pre>"
    assert read_pre_blocks(page) == [" a < b"]
