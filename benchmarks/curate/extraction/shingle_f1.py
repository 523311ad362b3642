"""Shingle F1 of extracted texts: 4-gram precision and recall a page, F1 of their means.

The published scoring of scrapinghub/article-extraction-benchmark (``evaluate.py``): shingles of
four words as a multiset; precision is averaged over pages with any predicted shingle, recall over
pages with any true one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SHINGLE = 4
_WORD = re.compile(r"\w+")


def score_page(truth: str, text: str) -> tuple[float, float]:
    """(precision, recall) of one page; NaN where the page does not enter the mean."""
    true, predicted = _shingles(truth), _shingles(text)
    common = (true & predicted).total()
    precision = common / predicted.total() if predicted else float("nan")
    recall = common / true.total() if true else float("nan")
    return precision, recall


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    starts = range(max(1, len(words) - SHINGLE + 1)) if words else ()
    return Counter(tuple(words[start : start + SHINGLE]) for start in starts)


def score_pages(truth: Mapping[str, str], texts: Mapping[str, str]) -> NDArray[np.float64]:
    """Precision and recall [pages, 2] in the order of ``truth``; a missing text counts as empty."""
    return np.array([score_page(text, texts.get(name, "")) for name, text in truth.items()])


def average_scores(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """(F1, precision, recall) averaged over pages."""
    precision, recall = (float(value) for value in np.nanmean(scores, axis=0))
    return 2 * precision * recall / ((precision + recall) or 1.0), precision, recall


def bootstrap_f1_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64] | None = None, resamples: int = 4000
) -> tuple[float, float]:
    """95 % bootstrap interval over pages of F1, or of its paired difference to ``theirs``.

    Args:
        ours: precision and recall [pages, 2].
        theirs: the same of a peer, pages in the same order.
        resamples: draws of the bootstrap.
    """
    random = np.random.default_rng(0)
    values = []
    for _ in range(resamples):
        drawn = random.integers(0, len(ours), len(ours))
        value = average_scores(ours[drawn])[0]
        values.append(value - average_scores(theirs[drawn])[0] if theirs is not None else value)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def format_scores(scores: NDArray[np.float64], label: Sequence[str] = ()) -> str:
    """Precision, recall and the interval of F1, such as ``P 0.958 R 0.971 [0.950, 0.976]``."""
    _, precision, recall = average_scores(scores)
    low, high = bootstrap_f1_interval(scores)
    return " ".join((*label, f"P {precision:.3f} R {recall:.3f} [{low:.3f}, {high:.3f}]"))
