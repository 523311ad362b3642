"""Figures of a registered version: those of its reports, and its forms' parity with the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.core.action import Workspace
from components.core.errors import DataError
from components.core.settings import Settings
from components.core.stats.figures import Figure, exact_figure, proportion_interval, read_report
from components.core.stats.report_items import ReportItems, read_items
from components.core.store.artifact import Report
from components.publish.registry.model_registry import RegisteredVersion

BUNDLE_FILE = "bundle.json"
REPORTS = "reports"
"""Folder of a version's artifacts that holds its reports, one a folder."""


@dataclass(frozen=True)
class VersionFigures:
    """Figures of one version, and the items they are made of."""

    figures: Mapping[str, Figure]
    """``report.figure`` -> figure."""
    items: Mapping[str, ReportItems] = field(default_factory=dict)
    """report -> items that its figures are made of."""


def read_report_figures(workspace: Workspace, reports: Mapping[str, Report]) -> dict[str, Figure]:
    """``report.figure`` -> figure, of every report."""
    return {
        f"{role}.{name}": figure
        for role, report in sorted(reports.items())
        for name, figure in read_report(workspace.artifact_folder(report)).items()
    }


def read_stored_reports(settings: Settings, entry: RegisteredVersion) -> dict[str, Figure]:
    """``report.figure`` -> figure, of the reports stored with a version."""
    folders = sorted((entry.files_folder(settings) / REPORTS).glob("*/"))
    return {
        f"{folder.name}.{name}": figure
        for folder in folders
        for name, figure in read_report(folder).items()
    }


def read_parity_figures(settings: Settings, entry: RegisteredVersion) -> dict[str, Figure]:
    """Parity of each form that a version holds, as figures.

    ``parity.FORM.kl_mean`` and ``parity.FORM.top1_agreement`` (Wilson's interval over positions),
    ``parity.forms`` and ``parity.left_out``: how many passed and how many did not.

    Raises:
        DataError: the records cannot be read.
    """
    path = entry.files_folder(settings) / BUNDLE_FILE
    figures: dict[str, Figure] = {}
    try:
        forms = json.loads(path.read_bytes())["forms"]
        passing = {form: parity for form, parity in sorted(forms.items()) if parity["passes"]}
        for form, parity in passing.items():
            n = int(parity["positions"])
            agreed = round(parity["top1_agreement"] * n)
            named = f"parity.{form}."
            figures[f"{named}kl_mean"] = exact_figure("kl_mean", parity["kl_mean"], "nats", n)
            figures[f"{named}top1_agreement"] = proportion_interval(
                agreed, n, name="top1_agreement"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{entry.uri}: {path.name} holds no parity records: {error}") from error
    figures["parity.forms"] = exact_figure("forms", len(passing), n=len(forms))
    figures["parity.left_out"] = exact_figure("left_out", len(forms) - len(passing), n=len(forms))
    return figures


def read_run_figures(
    workspace: Workspace, reports: Mapping[str, Report], entry: RegisteredVersion
) -> VersionFigures:
    """Figures of a version by the reports of this run and the parity records stored with it.

    Args:
        workspace: holds the reports.
        reports: report's role -> report.
        entry: version whose parity records are read.
    """
    folders = {role: workspace.artifact_folder(report) for role, report in sorted(reports.items())}
    parity = read_parity_figures(workspace.settings, entry)
    return VersionFigures({**read_report_figures(workspace, reports), **parity}, _items(folders))


def read_stored_figures(settings: Settings, entry: RegisteredVersion) -> VersionFigures:
    """Figures of a version by the reports and parity records stored with it."""
    folders = {p.name: p for p in sorted((entry.files_folder(settings) / REPORTS).glob("*/"))}
    figures = {**read_stored_reports(settings, entry), **read_parity_figures(settings, entry)}
    return VersionFigures(figures, _items(folders))


def _items(folders: Mapping[str, Path]) -> dict[str, ReportItems]:
    by_report = {role: read_items(folder) for role, folder in folders.items()}
    return {role: items for role, items in by_report.items() if items is not None}
