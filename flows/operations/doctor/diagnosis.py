"""Diagnosis of ``modelmill doctor``: all checks, and the fixes that are safe without asking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar

from components.core.errors import MillError
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.leases import Leases
from flows.operations.doctor import (
    endpoint_check,
    machine_checks,
    package_checks,
    privacy_checks,
    process_checks,
    registry_checks,
    store_checks,
)
from flows.operations.doctor.finding import Finding, report_broken, run_check
from flows.operations.retention.collect_garbage import delete_free_locks
from flows.operations.retention.interrupted_runs import find_dead_records
from flows.runner.prefect.prefect_recovery import crash_flow_runs, stuck_flow_runs
from flows.runner.run_records import close_interrupted_record

CHECKS = (
    package_checks.check_python,
    package_checks.check_packages,
    machine_checks.check_ports,
    machine_checks.check_disk,
    machine_checks.check_memory,
    machine_checks.check_clock,
    machine_checks.check_accelerator,
    privacy_checks.check_telemetry,
    privacy_checks.check_access,
    privacy_checks.check_permissions,
    store_checks.check_store,
    store_checks.check_leftovers,
    store_checks.check_audit,
    registry_checks.check_registry,
    registry_checks.check_datasets,
    registry_checks.check_bentos,
    process_checks.check_runs,
    process_checks.check_flow_runs,
    process_checks.check_processes,
    endpoint_check.check_endpoint,
)
_MARKS = {
    "ok": "[green]✓[/]",
    "info": "[cyan]·[/]",
    "warning": "[yellow]![/]",
    "broken": "[red]✗[/]",
}


@dataclass
class Diagnosis:
    """Findings of all checks, and the fixes applied before."""

    findings: list[Finding] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)

    def count(self, state: str) -> int:
        return sum(finding.state == state for finding in self.findings)

    @property
    def failure(self) -> str:
        """Broken checks in a line; empty if there are none. A warning is no failure."""
        checks = [finding.check for finding in self.findings if finding.state == "broken"]
        return f"broken: {', '.join(dict.fromkeys(checks))}" if checks else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "broken": self.count("broken"),
            "warnings": self.count("warning"),
            "fixed": self.fixed,
            "findings": [finding.as_json() for finding in self.findings],
        }

    def show(self, console: Console) -> None:
        """Print a line for each finding, with the command that fixes it below."""
        for done in self.fixed:
            console.print(f"[green]fixed[/] {escape(done)}", soft_wrap=True)
        for finding in self.findings:
            mark, what = _MARKS[finding.state], escape(finding.what)
            console.print(f"{mark} {finding.check:<12} {what}", soft_wrap=True)
            if finding.fix:
                console.print(f"  {'':<12} → {escape(finding.fix)}", style="bold", soft_wrap=True)
        console.print(f"{self.count('broken')} broken, {self.count('warning')} warnings")


def examine_workspace(settings: Settings, *, deep: bool = False, fix: bool = False) -> Diagnosis:
    """Run all checks of machine and workspace.

    Args:
        settings: workspace to examine, with its reference data.
        deep: True also reads every file of the store and compares its digest.
        fix: True first applies the fixes that lose no data: it closes the records of dead runs
            here and in Prefect's database, ends servers whose run was killed, and deletes lock
            files that nothing needs.
    """
    diagnosis = Diagnosis()
    if fix:
        diagnosis.fixed = apply_fixes(settings)
    for check in CHECKS:
        diagnosis.findings += run_check(check, settings)
    if deep:
        diagnosis.findings += _examine_contents(settings)
    return diagnosis


def _examine_contents(settings: Settings) -> list[Finding]:
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def listen(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.done)

        try:
            return list(store_checks.check_contents(settings, Progress(listener=listen)))
        except (MillError, OSError) as error:
            return [report_broken("deep", str(error), "modelmill doctor")]


def apply_fixes(settings: Settings) -> list[str]:
    """Apply the safe fixes; returns a line for each."""
    done = []
    for path in find_dead_records(settings.runs):
        close_interrupted_record(path)
        done.append(f"{path.stem}: recorded as interrupted")
    stuck = stuck_flow_runs(settings)
    if stuck:
        from flows.runner.prefect.prefect_runner import end_orphan_servers

        end_orphan_servers(settings.prefect)
        crash_flow_runs(settings, stuck)
        done += [f"{run.name}: crashed, in Prefect's database" for run in stuck]
    if settings.store.is_dir():
        with Leases(settings.store).freeze_keys() as used:
            cleared = delete_free_locks(settings, used)
        if cleared:
            done.append(f"{cleared} lock files that nothing needs")
    return done
