"""Items behind a report's figures, one row each in ``items.parquet``.

An item is a page or a question. Its key names everything that was asked and how, so two models
that hold one key were asked the same thing, and their values are a pair. A figure is the sum of
its items' values over the sum of their weights. A figure of some of the items has no value (NaN)
in the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.errors import DataError
from components.core.store.artifact import digest_value
from components.core.store.shards import read_shard, write_shard

ITEMS_FILE = "items.parquet"
_VALUE = "value."
_DIGITS = 32


@dataclass(frozen=True)
class ReportItems:
    """Columns of a report's items, of equal length n."""

    keys: Sequence[str]
    """[n] distinct; equal where the same was asked in the same way."""
    pages: Sequence[str]
    """[n] page of each item; items of one page are correlated."""
    weights: NDArray[np.float64]
    """[n] bytes of a page, 1 for a question."""
    values: Mapping[str, NDArray[np.float64]]
    """figure -> [n]; NaN where an item is none of the figure's."""


def item_keys(questions: Sequence[object]) -> list[str]:
    """Keys of JSON-safe questions; one that occurs twice gets two keys."""
    seen: Counter[str] = Counter()
    keys: list[str] = []
    for question in questions:
        plain = digest_value(question)
        keys.append(digest_value([plain, seen[plain]])[:_DIGITS])
        seen[plain] += 1
    return keys


def write_items(folder: Path, items: ReportItems) -> None:
    """Write ``items.parquet``, sorted by key.

    Raises:
        ValueError: the columns differ in length, a key occurs twice, a weight is not finite, a
            value is infinite, or a figure has none.
    """
    numbers = {"weight": items.weights, **{_VALUE + n: v for n, v in items.values.items()}}
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in numbers.items()}
    lengths = {len(items.keys), len(items.pages), *(len(values) for values in columns.values())}
    if len(lengths) != 1 or len(set(items.keys)) != len(items.keys):
        raise ValueError("items need distinct keys and columns of one length")
    unusable = any(
        np.isinf(values).any() or (len(values) and np.isnan(values).all())
        for values in columns.values()
    )
    if unusable or not np.isfinite(columns["weight"]).all():
        raise ValueError("items must be finite, and every figure needs one")
    table = pa.table({"key": list(items.keys), "page": list(items.pages), **columns})
    write_shard(folder / ITEMS_FILE, table.sort_by("key"))


def read_items(folder: Path) -> ReportItems | None:
    """Read the items of a report; None where it kept none.

    Raises:
        DataError: they cannot be read.
    """
    path = folder / ITEMS_FILE
    if not path.is_file():
        return None
    table = read_shard(path)
    try:
        values = {
            name.removeprefix(_VALUE): table[name].to_numpy()
            for name in table.column_names
            if name.startswith(_VALUE)
        }
        weights = table["weight"].to_numpy()
        return ReportItems(table["key"].to_pylist(), table["page"].to_pylist(), weights, values)
    except (KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{folder.name}: {ITEMS_FILE} holds no items: {error}") from error
