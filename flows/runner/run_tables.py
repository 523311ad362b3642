"""Tables and Markdown summary of a run: funnel, curves, figures, parity, gates.

Plain rows that know no place of display; ``flows/runner/prefect/prefect_reporter.py`` puts it into
Prefect's UI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.settings import Settings
from components.core.stats.figures import REPORT_FILE, read_report
from components.core.store.artifact import (
    DROPPED_BY_PREFIX,
    Bento,
    Bundle,
    Checkpoint,
    Corpus,
    Dataset,
    ModelVersion,
)
from flows.runner.progress_display import format_duration, result_summary
from flows.runner.runner import StepResult

CURVE_FILE, BUNDLE_FILE = "curve.parquet", "bundle.json"
CURVE_ROWS = 12
"""Rows of a training curve in a table; its last step is always among them."""
_CURVE_COLUMNS = ("loss", "reward", "kl", "entropy", "length", "rate", "grad_norm")

TableRow = dict[str, Any]


@dataclass(frozen=True)
class ResultTable:
    """Table of a step's results: ``key`` names it within its run."""

    key: str
    title: str
    rows: list[TableRow]


def table_of_step(
    settings: Settings, result: StepResult, earlier: Mapping[str, StepResult]
) -> ResultTable | None:
    """Table of a finished step's results; None where it has none.

    Args:
        settings: say where the store is.
        result: result of the step.
        earlier: results of the steps before it, by name.

    Raises:
        DataError: a report that it made cannot be read.
    """
    folder = settings.store / result.artifact.name
    if isinstance(result.artifact, Corpus) and result.name == "select":
        return ResultTable(
            "funnel", "Documents in, dropped by each rule, kept", funnel_rows(result, earlier)
        )
    if isinstance(result.artifact, Checkpoint | Bundle) and (folder / BUNDLE_FILE).is_file():
        return ResultTable("parity", "Each form beside the torch model", parity_rows(folder))
    if (folder / CURVE_FILE).is_file():
        return ResultTable(
            f"curve-{_dashed(result.name)}", f"Training curve of {result.name}", curve_rows(folder)
        )
    if (folder / REPORT_FILE).is_file():
        rows = figure_rows(folder)
        title = f"Figures of {result.name}, with 95 % intervals"
        return ResultTable(f"figures-{_dashed(result.name)}", title, rows) if rows else None
    return None


def _dashed(stage: str) -> str:
    """Stage name as part of a key: Prefect takes letters, digits and dashes."""
    return stage.replace("_", "-")


def funnel_rows(select: StepResult, earlier: Mapping[str, StepResult]) -> list[TableRow]:
    """Funnel of documents: pages fetched, documents extracted, dropped by each rule, kept.

    A document that several rules dropped is counted at each of them.
    """
    rows: list[TableRow] = []
    for stage, stat, label in (
        ("scrape", "pages", "pages fetched"),
        ("extract", "quarantined", "pages without a text"),
        ("extract", "documents", "documents extracted"),
    ):
        stats = earlier[stage].artifact.stats if stage in earlier else {}
        if stat in stats:
            rows.append({"stage": stage, "what": label, "documents": int(stats[stat])})
    stats = select.artifact.stats
    dropped = {name: int(n) for name, n in stats.items() if name.startswith(DROPPED_BY_PREFIX)}
    for name, count in sorted(dropped.items(), key=lambda pair: (-pair[1], pair[0])):
        label = f"dropped by {name.removeprefix(DROPPED_BY_PREFIX)}"
        rows.append({"stage": select.name, "what": label, "documents": count})
    for stat, label in (("dropped", "dropped in all"), ("kept", "kept")):
        if stat in stats:
            rows.append({"stage": select.name, "what": label, "documents": int(stats[stat])})
    return rows


def curve_rows(folder: Path) -> list[TableRow]:
    """About ``POINTS`` rows of a training curve, evenly spaced, first and last step included."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / CURVE_FILE)
    last = table.num_rows - 1
    chosen = (
        sorted({round(at * last / (CURVE_ROWS - 1)) for at in range(CURVE_ROWS)})
        if last > 0
        else [0]
    )
    columns = ["step", *(name for name in _CURVE_COLUMNS if name in table.column_names)]
    rows = table.select(columns).take(chosen).to_pylist() if table.num_rows else []
    return [{name: _rounded(value) for name, value in row.items()} for row in rows]


def figure_rows(folder: Path) -> list[TableRow]:
    """Figures of a report with their intervals; none where it holds none."""
    if "figures" not in json.loads((folder / REPORT_FILE).read_bytes()):
        return []
    return [
        {
            "figure": name.replace("_", " "),
            "value": _rounded(figure.value),
            "low": _rounded(figure.low),
            "high": _rounded(figure.high),
            "unit": figure.unit,
            "n": figure.n,
        }
        for name, figure in read_report(folder).items()
    ]


def parity_rows(folder: Path) -> list[TableRow]:
    """Parity record of each form in a bundle, then the forms that were left out."""
    content = json.loads((folder / BUNDLE_FILE).read_bytes())
    rows = [
        {
            "form": form,
            "passes": _yes_no(bool(record["passes"])),
            "mean KL, nats": _rounded(record["kl_mean"]),
            "top-1 agreement": _rounded(record["top1_agreement"]),
            "largest logit difference": _rounded(record.get("max_abs_logit_difference")),
            "positions": record["positions"],
            "measured on": record.get("measured_on", ""),
        }
        for form, record in sorted(content["forms"].items())
    ]
    left_out = content.get("left_out", {})
    return rows + [
        {"form": form, "passes": "no", "measured on": str(why)} for form, why in left_out.items()
    ]


def gate_rows(record: Sequence[Mapping[str, Any]]) -> list[TableRow]:
    """Gates of a model version, a row a verdict."""
    return [
        {
            "gate": verdict.get("gate", ""),
            "figure": verdict.get("figure", ""),
            "on": verdict.get("on", ""),
            "found": _rounded(verdict.get("found")),
            "must be": f"{verdict.get('direction', '')} {_rounded(verdict.get('bound'))}".strip(),
            "bound is": verdict.get("bound_is", ""),
            "passes": _yes_no(bool(verdict.get("passes"))),
        }
        for verdict in record
    ]


def run_summary(
    title: str, settings: Settings, run: str, results: Sequence[StepResult], ending: str
) -> str:
    """Summary of a run as Markdown: its end, the places of what it made, every step.

    Args:
        title: heading.
        settings: say where records, registry and store are.
        run: identifier of the run's record.
        results: results of the steps.
        ending: sentence on how the run ended.
    """
    lines = [f"# {title}", "", ending, "", *_artifact_locations(settings, results)]
    lines += [f"* record: `{settings.runs / (run + '.json')}` (`modelmill show {run}`)", ""]
    lines += ["| step | state | took | figure |", "|---|---|---:|---|"]
    lines += [
        f"| {result.name} | {result.state} | {format_duration(result.seconds)} | "
        f"{_cell(result_summary(result))} |"
        for result in results
    ]
    return "\n".join(lines) + "\n"


def _artifact_locations(settings: Settings, results: Sequence[StepResult]) -> list[str]:
    """Places of the version, the Bento and the dataset: as text, since nothing here serves them."""
    lines: list[str] = []
    for result in results:
        artifact = result.artifact
        if isinstance(artifact, ModelVersion) and result.name == "registry":
            lines.append(f"* model version: `{artifact.name}` in `{settings.mlflow_uri}`")
        elif isinstance(artifact, Bento):
            lines.append(f"* Bento: {_cell(result.note)}, `{artifact.name}`")
        elif isinstance(artifact, Dataset):
            lines.append(f"* dataset: {_cell(result.note)}")
        elif result.name == "change":
            lines.append(f"* change of the corpus: {_cell(result.note)}")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _yes_no(holds: bool) -> str:
    return "yes" if holds else "no"


def _rounded(value: Any) -> Any:
    """A float to four significant digits, enough for a table; anything else unchanged."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
