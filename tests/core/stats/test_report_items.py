"""Items of a report: equal bytes for equal items, and nothing that could not be paired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.core.stats.report_items import (
    ITEMS_FILE,
    ReportItems,
    item_keys,
    read_items,
    write_items,
)


def items(keys: list[str], values: list[float]) -> ReportItems:
    return ReportItems(keys, ["p"] * len(keys), np.ones(len(keys)), {"hits": np.array(values)})


def test_what_is_written_is_read_and_order_does_not_matter(tmp_path: Path) -> None:
    for name, given in (("one", items(["b", "a"], [1, 0])), ("two", items(["a", "b"], [0, 1]))):
        (tmp_path / name).mkdir()
        write_items(tmp_path / name, given)
    found = read_items(tmp_path / "one")
    assert found is not None
    assert (list(found.keys), found.values["hits"].tolist()) == (["a", "b"], [0.0, 1.0])
    contents = {(tmp_path / name / ITEMS_FILE).read_bytes() for name in ("one", "two")}
    assert len(contents) == 1


def test_a_report_without_items_has_none_and_a_broken_one_says_so(tmp_path: Path) -> None:
    assert read_items(tmp_path) is None
    (tmp_path / ITEMS_FILE).write_text("no parquet")
    with pytest.raises(DataError, match=r"items.parquet: cannot be read"):
        read_items(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        items(["a", "a"], [0, 1]),
        items(["a", "b"], [0]),
        items(["a"], [float("nan")]),
        items(["a", "b"], [1, float("inf")]),
    ],
)
def test_what_could_not_be_paired_is_refused(tmp_path: Path, wrong: ReportItems) -> None:
    with pytest.raises(ValueError, match="items"):
        write_items(tmp_path, wrong)


def test_a_key_names_what_was_asked_and_how() -> None:
    one, two, again = item_keys([["q", 0.7], ["q", 0.8], ["q", 0.7]])
    assert len({one, two, again}) == 3
    assert item_keys([["q", 0.7]]) == [one]
