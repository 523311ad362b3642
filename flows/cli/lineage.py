"""Asking where a page went and what a model was made of: ``trace``; taking it out: ``forget``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.cli.app import Json, app, print_result


@app.command()
def trace(
    what: Annotated[
        str,
        typer.Argument(
            help="a page's address or file, a document's id, MODEL, MODEL/VERSION, MODEL@ALIAS"
        ),
    ],
    as_json: Json = False,
) -> None:
    """Where a page went and why, or the sources behind a model."""
    from flows.cli.views.trace_view import trace_page_or_model as follow

    answer = follow(settings.load_settings(), what)
    print_result(as_json, answer.value, answer.show)


@app.command()
def forget(
    target: Annotated[str, typer.Argument(help="a page's address (with all below it) or a domain")],
    why: Annotated[str, typer.Option(help="the reason, for the record")] = "",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="run the affected chains again without it")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="delete every affected copy for good")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="purge a champion that no clean version took the place of"),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what is affected")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before deleting")] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="look whether this page, domain or TEXT is anywhere; exit 1 if so"
        ),
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="rebuild without a Prefect server")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a page or a domain out: of all runs to come, and with --purge of all that is here."""
    from flows.operations.retention import forget, forget_report

    workspace = settings.load_settings()
    if verify:
        value = forget.verify_absence(workspace, target)
        left = "" if value["clean"] else f"{target}: it is not proven to be gone"
        show = partial(forget_report.show_verified, value=value)
        print_result(as_json, value, show, failed=left)
        return
    if as_json and purge and not (yes or dry_run):
        raise ConfigError("--json cannot ask before deleting: say --yes, or --dry-run to list")
    options = forget.ForgetOptions(
        target, why=why, rebuild=rebuild, purge=purge, force=force, dry_run=dry_run, plain=plain
    )
    outcome = forget.forget_target(
        workspace,
        options,
        lambda question: yes or typer.confirm(question, err=True),
        Console(stderr=as_json),
    )
    print_result(
        as_json, outcome.as_json(), lambda console: forget_report.show_forgotten(console, outcome)
    )
