"""What a corpus fails in, in plain words: what was found, what must be, and where that is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from components.validate.suite_config import Expectation

ROWS = "expect_table_row_count_to_be_between"
_MEASURE = re.compile(r"expect_column_(mean|median|min|max|sum)_to_be_between")
_MEASURES = {"mean": "the mean", "median": "the median", "min": "the least", "max": "the greatest"}
_EACH = {
    "expect_column_values_to_be_between": "have {column} that is not {bounds}",
    "expect_column_value_lengths_to_be_between": "have {column} of a length that is not {bounds}",
    "expect_column_values_to_be_unique": "have {column} that another page has too",
}
_SUITE = "check.expectations"
_HOUSE = "data/expectations/corpus.yaml holds the house's"


def explain(
    expectation: Expectation,
    result: Mapping[str, Any],
    frame: pd.DataFrame,
    examples: int,
    read: int | None = None,
) -> str:
    """One line: the figure, its bound, pages that break it, and the field to change.

    Args:
        read: documents before ``select`` dropped some; None where its ledger does not tell.
    """
    found = result["result"]
    said = _said(expectation, found, read)
    urls = _examples(expectation, found, frame, examples)
    shown = f"; e.g. {', '.join(urls)}" if urls else ""
    why = f" [{expectation.why}]" if expectation.why else ""
    mend = "give more pages under scrape" if expectation.type == ROWS else "mend the pages"
    rule = f"{expectation.type} in {_SUITE} ({_HOUSE})"
    if expectation.asked_in != _SUITE:
        rule = expectation.asked_in
    return f"{said}{shown}{why}: {mend}, or change {rule}"


def _said(expectation: Expectation, found: Mapping[str, Any], read: int | None) -> str:
    kwargs = expectation.kwargs
    bounds, column = _bounds(kwargs), f"`{expectation.column}`"
    measure = _MEASURE.fullmatch(expectation.type)
    observed = found.get("observed_value")
    figure = f"{observed:.6g}" if isinstance(observed, float) else f"{observed}"
    if expectation.type == ROWS:
        gone = "" if read is None or read == observed else f" of {read} that select judged"
        left = "1 page is left" if observed == 1 else f"{figure} pages are left"
        return f"{left}{gone}, {bounds} are needed"
    if measure:
        name = _MEASURES.get(measure[1], f"the {measure[1]}")
        return f"{name} of {column} over all pages is {figure}, must be {bounds}"
    if "unexpected_count" not in found:
        return f"{expectation.type} ({expectation.column}) is {figure}, bound: {_raw(kwargs)}"
    share = found.get("unexpected_percent", 0.0)
    count = f"{found['unexpected_count']} of {found['element_count']} pages ({share:.3g} %)"
    each = _EACH.get(expectation.type)
    if each is None:
        return f"{count} fail {expectation.type} ({expectation.column}), bound: {_raw(kwargs)}"
    allowed = 100 * (1 - float(kwargs.get("mostly", 1.0)))
    most = f"at most {allowed:.3g} % may" if allowed else "none may"
    return f"{count} {each.format(column=column, bounds=bounds)}, {most}"


def _bounds(kwargs: Mapping[str, Any]) -> str:
    sides = (("at least", kwargs.get("min_value")), ("at most", kwargs.get("max_value")))
    return " and ".join(f"{word} {bound}" for word, bound in sides if bound is not None)


def _raw(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in kwargs.items() if name != "column")


def _examples(
    expectation: Expectation, found: Mapping[str, Any], frame: pd.DataFrame, examples: int
) -> list[str]:
    """Pages that break the expectation; for a mean or a sum, those that pull it most."""
    listed = found.get("unexpected_index_list") or []
    if listed:
        return sorted({str(row["url"]) for row in listed})[:examples]
    observed, column = found.get("observed_value"), expectation.column
    if column not in frame or not isinstance(observed, int | float):
        return []
    if not str(frame[column].dtype).startswith(("int", "float")):
        return []
    upper = expectation.kwargs.get("max_value")
    too_high = upper is not None and observed > upper
    ranked = frame.sort_values([column, "url"], ascending=[not too_high, True])
    return [str(url) for url in ranked["url"].head(examples)]
