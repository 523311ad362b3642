"""Regression trees applied: every row walks down every tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compiled

Numbers = NDArray[np.int32]
Values = NDArray[np.float32]


@compiled
def forest(
    table: Values,
    roots: Numbers,
    column: Numbers,
    threshold: Values,
    left: Numbers,
    right: Numbers,
    value: Values,
) -> NDArray[np.float64]:
    """The sum of the leaves a row reaches: (rows,). A leaf's children are itself."""
    found = np.zeros(len(table), np.float64)
    for row in range(len(table)):
        total = 0.0
        for root in roots:
            at = root
            while left[at] != at:
                at = left[at] if table[row, column[at]] <= threshold[at] else right[at]
            total += value[at]
        found[row] = total
    return found
