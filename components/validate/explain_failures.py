"""Error lines of failed expectations: the figure, its bound, pages that break it, the way on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from components.validate.suite_config import Expectation

ROW_COUNT_EXPECTATION = "expect_table_row_count_to_be_between"
_MEASURE = re.compile(r"expect_column_(mean|median|min|max|sum)_to_be_between")
_MEASURES = {"mean": "the mean", "median": "the median", "min": "the least", "max": "the greatest"}
_PAGE_FAILURES = {
    "expect_column_values_to_be_between": "have {column} that is not {bounds}",
    "expect_column_value_lengths_to_be_between": "have {column} of a length that is not {bounds}",
    "expect_column_values_to_be_unique": "have {column} that another page has too",
}
_SUITE = "check.expectations"
_DEFAULTS = "data/expectations/corpus.yaml holds the defaults"


def explain_failure(
    expectation: Expectation,
    result: Mapping[str, Any],
    frame: pd.DataFrame,
    examples: int,
    documents_read: int | None = None,
) -> str:
    """Describe a failure in one line: figure, bound, pages that break it, field to change.

    Args:
        expectation: that failed.
        result: result of Great Expectations.
        frame: one row a document.
        examples: most pages to name.
        documents_read: before ``select`` dropped some; None where it left no ledger.
    """
    outcome = result["result"]
    failure = _describe_failure(expectation, outcome, documents_read)
    urls = _example_urls(expectation, outcome, frame, examples)
    shown = f"; e.g. {', '.join(urls)}" if urls else ""
    why = f" [{expectation.why}]" if expectation.why else ""
    is_count = expectation.type == ROW_COUNT_EXPECTATION
    fix = "give more pages under scrape" if is_count else "fix the pages"
    rule = f"{expectation.type} in {_SUITE} ({_DEFAULTS})"
    if expectation.asked_in != _SUITE:
        rule = expectation.asked_in
    return f"{failure}{shown}{why}: {fix}, or change {rule}"


def _describe_failure(
    expectation: Expectation, outcome: Mapping[str, Any], documents_read: int | None
) -> str:
    kwargs = expectation.kwargs
    bounds, column = _format_bounds(kwargs), f"`{expectation.column}`"
    measure = _MEASURE.fullmatch(expectation.type)
    observed = outcome.get("observed_value")
    figure = f"{observed:.6g}" if isinstance(observed, float) else f"{observed}"
    if expectation.type == ROW_COUNT_EXPECTATION:
        gone = (
            ""
            if documents_read is None or documents_read == observed
            else f" of {documents_read} that select judged"
        )
        left = "1 page is left" if observed == 1 else f"{figure} pages are left"
        return f"{left}{gone}, {bounds} are needed"
    if measure:
        name = _MEASURES.get(measure[1], f"the {measure[1]}")
        return f"{name} of {column} over all pages is {figure}, must be {bounds}"
    if "unexpected_count" not in outcome:
        bound = _format_kwargs(kwargs)
        return f"{expectation.type} ({expectation.column}) is {figure}, bound: {bound}"
    share = outcome.get("unexpected_percent", 0.0)
    count = f"{outcome['unexpected_count']} of {outcome['element_count']} pages ({share:.3g} %)"
    each = _PAGE_FAILURES.get(expectation.type)
    if each is None:
        bound = _format_kwargs(kwargs)
        return f"{count} fail {expectation.type} ({expectation.column}), bound: {bound}"
    allowed = 100 * (1 - float(kwargs.get("mostly", 1.0)))
    most = f"at most {allowed:.3g} % may" if allowed else "none may"
    return f"{count} {each.format(column=column, bounds=bounds)}, {most}"


def _format_bounds(kwargs: Mapping[str, Any]) -> str:
    sides = (("at least", kwargs.get("min_value")), ("at most", kwargs.get("max_value")))
    return " and ".join(f"{word} {bound}" for word, bound in sides if bound is not None)


def _format_kwargs(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in kwargs.items() if name != "column")


def _example_urls(
    expectation: Expectation, outcome: Mapping[str, Any], frame: pd.DataFrame, examples: int
) -> list[str]:
    """Pages that break the expectation; for a mean or a sum, those that pull it most."""
    listed = outcome.get("unexpected_index_list") or []
    if listed:
        return sorted({str(row["url"]) for row in listed})[:examples]
    observed, column = outcome.get("observed_value"), expectation.column
    if column not in frame or not isinstance(observed, int | float):
        return []
    if not str(frame[column].dtype).startswith(("int", "float")):
        return []
    upper = expectation.kwargs.get("max_value")
    too_high = upper is not None and observed > upper
    ranked = frame.sort_values([column, "url"], ascending=[not too_high, True])
    return [str(url) for url in ranked["url"].head(examples)]
