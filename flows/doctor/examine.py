"""``modelmill doctor``: every check, and the mends that are safe to make without asking."""

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
from flows.doctor import installed, machine, outside, privacy, serving, storing, working
from flows.doctor.finding import Finding, broken, examined
from flows.keeping.crashed import crash, stuck_flow_runs
from flows.keeping.gc import clear_locks
from flows.records import close_dead

CHECKS = (
    installed.check_python,
    installed.check_packages,
    machine.check_ports,
    machine.check_disk,
    machine.check_memory,
    machine.check_clock,
    machine.check_accelerator,
    privacy.check_telemetry,
    privacy.check_access,
    privacy.check_permissions,
    storing.check_store,
    storing.check_leftovers,
    storing.check_audit,
    outside.check_registry,
    outside.check_datasets,
    outside.check_bentos,
    working.check_runs,
    working.check_flow_runs,
    working.check_processes,
    serving.check_endpoint,
)
_MARKS = {
    "ok": "[green]✓[/]",
    "info": "[cyan]·[/]",
    "warning": "[yellow]![/]",
    "broken": "[red]✗[/]",
}


@dataclass
class Diagnosis:
    """Everything that was found."""

    findings: list[Finding] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)

    def count(self, state: str) -> int:
        return sum(finding.state == state for finding in self.findings)

    @property
    def failure(self) -> str:
        """What is broken, in a line; empty where nothing is. A warning is no failure."""
        broken = [finding.check for finding in self.findings if finding.state == "broken"]
        return f"broken: {', '.join(dict.fromkeys(broken))}" if broken else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "broken": self.count("broken"),
            "warnings": self.count("warning"),
            "mended": self.mended,
            "findings": [finding.as_json() for finding in self.findings],
        }

    def show(self, console: Console) -> None:
        """A line a finding, its mend below."""
        for done in self.mended:
            console.print(f"[green]mended[/] {escape(done)}", soft_wrap=True)
        for finding in self.findings:
            mark, what = _MARKS[finding.state], escape(finding.what)
            console.print(f"{mark} {finding.check:<12} {what}", soft_wrap=True)
            if finding.mend:
                console.print(f"  {'':<12} → {escape(finding.mend)}", style="bold", soft_wrap=True)
        console.print(f"{self.count('broken')} broken, {self.count('warning')} warnings")


def examine(settings: Settings, *, deep: bool = False, mend: bool = False) -> Diagnosis:
    """Look at machine and workspace; ``deep`` reads every byte of the store.

    With ``mend``, first does what loses nothing: closes the records of dead runs here and in
    Prefect's database, ends servers whose run was killed, clears lock files that nobody needs.
    """
    diagnosis = Diagnosis()
    if mend:
        diagnosis.mended = mends(settings)
    for check in CHECKS:
        diagnosis.findings += examined(check, settings)
    if deep:
        diagnosis.findings += _deep(settings)
    return diagnosis


def _deep(settings: Settings) -> list[Finding]:
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def listen(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.done)

        try:
            return list(storing.deep(settings, Progress(listener=listen)))
        except (MillError, OSError) as error:
            return [broken("deep", str(error), "modelmill doctor")]


def mends(settings: Settings) -> list[str]:
    """Make the safe mends; returns what was done."""
    done = []
    for path in working.dead_records(settings):
        close_dead(path)
        done.append(f"{path.stem}: recorded as interrupted")
    stuck = stuck_flow_runs(settings)
    if stuck:
        from flows.orchestrate import end_orphans

        end_orphans(settings.prefect)
        crash(settings, stuck)
        done += [f"{run.name}: crashed, in Prefect's database" for run in stuck]
    if settings.store.is_dir():
        with Leases(settings.store).frozen() as used:
            cleared = clear_locks(settings, used)
        if cleared:
            done.append(f"{cleared} lock files that nothing is left for")
    return done
