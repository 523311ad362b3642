"""The area under the curve, against counting pairs; its interval holds the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.stats.roc_auc import auc_interval


def test_it_counts_pairs_and_halves_ties() -> None:
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 9, 60).astype(float)
    positive = draw.random(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc_interval(scores, positive).value == pytest.approx(float(np.mean(pairs)))


def test_the_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    draw = np.random.default_rng(1)
    positive = np.arange(200) < 100
    held = 0
    for _ in range(400):
        found = auc_interval(draw.normal(size=200) + positive, positive)
        held += found.low <= 0.7602 <= found.high  # of two normals one deviation apart
    assert 0.92 <= held / 400 <= 0.98


def test_one_label_alone_has_none() -> None:
    with pytest.raises(ValueError, match="two of each"):
        auc_interval(np.arange(5.0), np.ones(5, dtype=bool))
