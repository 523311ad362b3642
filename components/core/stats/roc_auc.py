"""Area under the ROC curve with its 95 % interval (DeLong, DeLong & Clarke-Pearson 1988)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.core.stats.figures import Z_95, Figure


def auc_interval(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], *, name: str = "auc"
) -> Figure:
    """Probability that a positive scores above a negative, ties counted half.

    Args:
        scores: [n].
        positive: [n] labels.
        name: name of the figure.

    Raises:
        ValueError: there are not two of each.
    """
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    if len(above) < 2 or len(below) < 2:
        raise ValueError(f"an AUC needs two of each, not {len(above)} and {len(below)}")
    of_positive = _share_below(below, above)  # each positive's share of negatives it beats
    of_negative = 1 - _share_below(above, below)
    value = float(of_positive.mean())
    variance = of_positive.var(ddof=1) / len(above) + of_negative.var(ddof=1) / len(below)
    reach = Z_95 * math.sqrt(float(variance))
    return Figure(
        name=name,
        value=value,
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        n=len(scores),
    )


def _share_below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return np.asarray((left + right) / 2 / len(ordered), dtype=np.float64)
