"""Figures that a run's reports declare, and the check of gates against them.

A report is every field of a run whose config is a ``ReportConfig``; gates, their bounds and the
comparisons with the champion name its figures as ``REPORT.FIGURE``. A name that nothing will
measure is refused when the run is read, hours before ``promote`` would look for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from components.core.stats.report_config import ReportConfig

if TYPE_CHECKING:
    from components.core.config.config_errors import Location
    from components.core.config.stage_config import StageConfig
    from components.publish.promotion.promote import PromoteConfig

PAGE_REPORTS = ("check", "choice", "facts")
"""Reports on pages and on questions made of them."""
Figures = Mapping[str, tuple[str, ...]]
"""Report -> names of its figures; ``*`` in a name stands for any text."""


def declared_figures(run: StageConfig) -> Figures:
    """Figures of every report of a run, in the order of its fields."""
    reports: dict[str, tuple[str, ...]] = {}
    for field in type(run).model_fields:
        config = getattr(run, field)
        if isinstance(config, ReportConfig):
            reports[config.report or field] = config.figure_names()
    return reports


def check_run_figures(run: StageConfig, promote: PromoteConfig, *, has_pages: bool) -> None:
    """Refuse gates and comparisons on figures that no report of a run declares.

    Args:
        run: config of the run.
        promote: its gates and comparisons.
        has_pages: False for a run that starts from somebody's model.

    Raises:
        ValidationError: names each place, and the reports or figures there are.
        ValueError: some are of pages, and there are none.
    """
    reports = declared_figures(run)
    check_gate_figures(promote, reports if has_pages else _without_page_reports(reports, promote))


def _without_page_reports(reports: Figures, promote: PromoteConfig) -> Figures:
    named = dict.fromkeys(name for _, name in _figure_fields(promote))
    of_pages = [name for name in named if name.partition(".")[0] in PAGE_REPORTS]
    left = {report: names for report, names in reports.items() if report not in PAGE_REPORTS}
    if of_pages:
        raise ValueError(
            f"promote: {', '.join(of_pages)} {'is' if len(of_pages) == 1 else 'are'} measured on "
            "pages, and a run with base has none: take preset finetune, or gates and comparisons "
            f"of {', '.join(left)}"
        )
    return left


def check_gate_figures(promote: PromoteConfig, reports: Figures, field: str = "promote") -> None:
    """Refuse gates and comparisons on figures that no report declares.

    Args:
        promote: the gates and comparisons.
        reports: reports that there are.
        field: the run's field that ``promote`` stands in; begins each location.

    Raises:
        ValidationError: names each place, and the reports or figures there are.
    """
    problems = [
        InitErrorDetails(
            type="value_error", loc=(field, *at), input=name, ctx={"error": ValueError(problem)}
        )
        for at, name in _figure_fields(promote)
        if (problem := _problem(name, reports, is_pattern=at[0] == "gates" and at[-1] == "figure"))
    ]
    if problems:
        raise ValidationError.from_exception_data(type(promote).__name__, problems)


def _figure_fields(promote: PromoteConfig) -> Iterator[tuple[Location, str]]:
    """Every place that names a figure, with the name."""
    for index, gate in enumerate(promote.gates):
        yield ("gates", index, "figure"), gate.figure
        if isinstance(gate.bound, str):
            yield ("gates", index, "bound"), gate.bound
    for index, comparison in enumerate(promote.compare):
        yield ("compare", index, "figure"), comparison.figure


def _problem(name: str, reports: Figures, *, is_pattern: bool) -> str:
    """Say why a name is of no figure; empty where it is of one."""
    report, _, figure = name.partition(".")
    if report not in reports:
        return f"there is no report {report!r}; write REPORT.FIGURE, reports: {', '.join(reports)}"
    wanted = figure if is_pattern else figure.replace("*", "\0")
    if any(_share_a_text(wanted, declared) for declared in reports[report]):
        return ""
    return f"the report {report} has no such figure; its figures: {', '.join(reports[report])}"


@cache
def _share_a_text(left: str, right: str) -> bool:
    """Tell whether two names, in which ``*`` stands for any text, can mean the same figure."""
    if not left or not right:
        return not (left + right).strip("*")
    if left[0] == "*":
        return _share_a_text(left[1:], right) or _share_a_text(left, right[1:])
    if right[0] == "*":
        return _share_a_text(right, left)
    return left[0] == right[0] and _share_a_text(left[1:], right[1:])
