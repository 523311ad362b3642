"""What a run has to show, as plain tables and Markdown: funnel, curves, figures, parity, gates.

Nothing here knows where it is shown; ``flows/runner/prefect/prefect_reporter.py`` puts it into
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
    DROPPED_BY,
    Bento,
    Bundle,
    Checkpoint,
    Corpus,
    Dataset,
    ModelVersion,
)
from flows.runner.progress_display import duration, outcome
from flows.runner.runner import StepResult

CURVE_FILE, BUNDLE_FILE = "curve.parquet", "bundle.json"
POINTS = 12
"""Rows of a training curve; its last step is always among them."""
_CURVE_COLUMNS = ("loss", "reward", "kl", "entropy", "length", "rate", "grad_norm")

Row = dict[str, Any]


@dataclass(frozen=True)
class Exhibit:
    """One table: ``key`` names it within its run."""

    key: str
    title: str
    rows: list[Row]


def exhibit_of(
    settings: Settings, result: StepResult, earlier: Mapping[str, StepResult]
) -> Exhibit | None:
    """The table that a finished step has to show; None where it has none.

    Raises:
        DataError: a report that it made cannot be read.
    """
    folder = settings.store / result.artifact.name
    if isinstance(result.artifact, Corpus) and result.name == "select":
        return Exhibit(
            "funnel", "Documents in, dropped by each rule, kept", funnel(result, earlier)
        )
    if isinstance(result.artifact, Checkpoint | Bundle) and (folder / BUNDLE_FILE).is_file():
        return Exhibit("parity", "Each form beside the torch model", parity(folder))
    if (folder / CURVE_FILE).is_file():
        return Exhibit(
            f"curve-{_dashed(result.name)}", f"Training curve of {result.name}", curve(folder)
        )
    if (folder / REPORT_FILE).is_file():
        rows = figures(folder)
        title = f"Figures of {result.name}, with 95 % intervals"
        return Exhibit(f"figures-{_dashed(result.name)}", title, rows) if rows else None
    return None


def _dashed(stage: str) -> str:
    """A stage's name as a key may hold it: Prefect takes letters, digits and dashes."""
    return stage.replace("_", "-")


def funnel(select: StepResult, earlier: Mapping[str, StepResult]) -> list[Row]:
    """Pages fetched, documents extracted, dropped by each rule, kept.

    A document that several rules dropped is counted at each of them.
    """
    rows: list[Row] = []
    for stage, stat, says in (
        ("scrape", "pages", "pages fetched"),
        ("extract", "quarantined", "pages without a text"),
        ("extract", "documents", "documents extracted"),
    ):
        stats = earlier[stage].artifact.stats if stage in earlier else {}
        if stat in stats:
            rows.append({"stage": stage, "what": says, "documents": int(stats[stat])})
    stats = select.artifact.stats
    dropped = {name: int(n) for name, n in stats.items() if name.startswith(DROPPED_BY)}
    for name, count in sorted(dropped.items(), key=lambda pair: (-pair[1], pair[0])):
        says = f"dropped by {name.removeprefix(DROPPED_BY)}"
        rows.append({"stage": select.name, "what": says, "documents": count})
    for stat, says in (("dropped", "dropped in all"), ("kept", "kept")):
        if stat in stats:
            rows.append({"stage": select.name, "what": says, "documents": int(stats[stat])})
    return rows


def curve(folder: Path) -> list[Row]:
    """About ``POINTS`` rows of a training curve, evenly spaced, first and last step included."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / CURVE_FILE)
    last = table.num_rows - 1
    chosen = sorted({round(at * last / (POINTS - 1)) for at in range(POINTS)}) if last > 0 else [0]
    columns = ["step", *(name for name in _CURVE_COLUMNS if name in table.column_names)]
    rows = table.select(columns).take(chosen).to_pylist() if table.num_rows else []
    return [{name: _short(value) for name, value in row.items()} for row in rows]


def figures(folder: Path) -> list[Row]:
    """Every figure of a report with its interval; none where it holds no figures."""
    if "figures" not in json.loads((folder / REPORT_FILE).read_bytes()):
        return []
    return [
        {
            "figure": name.replace("_", " "),
            "value": _short(found.value),
            "low": _short(found.low),
            "high": _short(found.high),
            "unit": found.unit,
            "n": found.n,
        }
        for name, found in read_report(folder).items()
    ]


def parity(folder: Path) -> list[Row]:
    """Each form in a bundle, and each that was left out, with its record."""
    content = json.loads((folder / BUNDLE_FILE).read_bytes())
    rows = [
        {
            "form": form,
            "passes": _yes(bool(record["passes"])),
            "mean KL, nats": _short(record["kl_mean"]),
            "top-1 agreement": _short(record["top1_agreement"]),
            "largest logit difference": _short(record.get("max_abs_logit_difference")),
            "positions": record["positions"],
            "measured on": record.get("measured_on", ""),
        }
        for form, record in sorted(content["forms"].items())
    ]
    left = content.get("left_out", {})
    return rows + [{"form": form, "passes": "no", "measured on": str(left[form])} for form in left]


def gates(record: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The gates' record of a model version, a row a gate."""
    return [
        {
            "gate": verdict.get("gate", ""),
            "figure": verdict.get("figure", ""),
            "on": verdict.get("on", ""),
            "found": _short(verdict.get("found")),
            "must be": f"{verdict.get('direction', '')} {_short(verdict.get('bound'))}".strip(),
            "bound is": verdict.get("bound_is", ""),
            "passes": _yes(bool(verdict.get("passes"))),
        }
        for verdict in record
    ]


def summary(
    title: str, settings: Settings, run: str, results: Sequence[StepResult], ending: str
) -> str:
    """The run as Markdown: how it ended, what it made and where that lies, every step."""
    lines = [f"# {title}", "", ending, "", *_made(settings, results)]
    lines += [f"* record: `{settings.runs / (run + '.json')}` (`modelmill show {run}`)", ""]
    lines += ["| step | state | took | figure |", "|---|---|---:|---|"]
    lines += [
        f"| {result.name} | {result.state} | {duration(result.seconds)} | "
        f"{_cell(outcome(result))} |"
        for result in results
    ]
    return "\n".join(lines) + "\n"


def _made(settings: Settings, results: Sequence[StepResult]) -> list[str]:
    """Where the version, the Bento and the dataset are: as text, since nothing here serves them."""
    lines: list[str] = []
    for result in results:
        artifact = result.artifact
        if isinstance(artifact, ModelVersion) and result.name == "register":
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


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _short(value: Any) -> Any:
    """Four digits of a float, which is what a table is read for; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
