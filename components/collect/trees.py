"""Boosted regression trees, read from JSON and applied by a kernel (no training library)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]


@dataclass(frozen=True)
class Trees:
    """All trees' nodes one after the other; a leaf's children are itself."""

    base: float
    roots: NDArray[np.int32]
    column: NDArray[np.int32]
    threshold: Table
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Table
    depth: int

    def score(self, table: Table) -> NDArray[np.float64]:
        """The sum of all trees a row: (rows,)."""
        from components.text.kernels.forest import forest

        nodes = (self.column, self.threshold, self.left, self.right, self.value)
        total: NDArray[np.float64] = self.base + forest(table, self.roots, *nodes)
        return total

    def as_json(self) -> dict[str, Any]:
        """Lists of numbers; a threshold, which a column often equals, with all its digits."""
        digits = {"threshold": 9, "value": 6}
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            listed = value.tolist() if isinstance(value, np.ndarray) else value
            if name in digits:
                listed = [float(f"{number:.{digits[name]}g}") for number in listed]
            found[name] = listed
        return found

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Trees:
        """What ``as_json`` gave."""
        return cls(
            float(told["base"]),
            np.array(told["roots"], dtype=np.int32),
            np.array(told["column"], dtype=np.int32),
            np.array(told["threshold"], dtype=np.float32),
            np.array(told["left"], dtype=np.int32),
            np.array(told["right"], dtype=np.int32),
            np.array(told["value"], dtype=np.float32),
            int(told["depth"]),
        )
