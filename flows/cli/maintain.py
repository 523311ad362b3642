"""Commands that maintain the workspace: ``doctor``, ``gc``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.cli.app import Json, app, print_result

if TYPE_CHECKING:
    from flows.operations.retention.collect_garbage import GarbageCollection


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the deletions; delete nothing.")
    ] = False,
    keep_runs: Annotated[
        int,
        typer.Option(min=0, help="Number of the newest completed runs whose artifacts are kept."),
    ] = 10,
    keep_days: Annotated[
        float, typer.Option(min=0, help="Days for which everything made or used is kept.")
    ] = 7.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete without asking for confirmation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete what nothing needs; champions, their predecessors and running stages are kept."""
    from components.core.store.gc_plan import RetentionPolicy
    from flows.operations.retention.collect_garbage import collect_garbage, plan_collection
    from flows.operations.retention.gc_report import show_collection

    workspace, policy = settings.load_settings(), RetentionPolicy(keep_runs, keep_days)
    if dry_run:
        planned = plan_collection(workspace, policy)
        value = {"deleted": False, **planned.as_json()}
        print_result(as_json, value, lambda console: show_collection(console, planned, "would go"))
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError(
                "gc cannot ask for confirmation here: pass --yes, or --dry-run to list deletions"
            )
        _confirm_collection(plan_collection(workspace, policy))
    deleted = collect_garbage(workspace, policy)
    value = {"deleted": True, **deleted.as_json()}
    print_result(as_json, value, lambda console: show_collection(console, deleted, "deleted"))


@app.command()
def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file and compare its digest.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First apply the fixes that lose no data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check machine and workspace, with a command to fix each problem; exit code 1 if broken."""
    from flows.operations.doctor.diagnosis import examine_workspace

    diagnosis = examine_workspace(settings.load_settings(), deep=deep, fix=fix)
    print_result(as_json, diagnosis.as_json(), diagnosis.show, failed=diagnosis.failure)


def _confirm_collection(planned: GarbageCollection) -> None:
    from flows.operations.retention.gc_report import show_collection
    from flows.runner.progress_display import format_bytes

    console = Console()
    show_collection(console, planned, "would go")
    if planned.is_empty or not typer.confirm(f"delete {format_bytes(planned.size)}?"):
        raise typer.Exit(0)
