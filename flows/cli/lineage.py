"""Commands on the lineage of pages and models: ``trace``, ``forget``."""

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
            help="URL or file of a page, row of a file of conversations (chats.jsonl:17), id of a "
            "document, MODEL, MODEL/VERSION or MODEL@ALIAS."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show which stages kept or dropped a page and why, or the sources of a model."""
    from flows.cli.views.trace_view import trace_page_or_model

    answer = trace_page_or_model(settings.load_settings(), what)
    print_result(as_json, answer.value, answer.show)


@app.command()
def forget(
    target: Annotated[
        str,
        typer.Argument(
            help="URL of a page (with all pages below it), a domain, or a row of a file of "
            "conversations (chats.jsonl:17)."
        ),
    ],
    why: Annotated[str, typer.Option(help="Reason, which the audit log keeps.")] = "",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Run the affected pipelines again without the page.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete every affected copy for good.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Purge a champion even if no rebuilt version has replaced it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List everything affected; change nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete without asking for confirmation.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Search everything for this page, domain or TEXT; exit code 1 unless it is gone.",
        ),
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Rebuild without a Prefect server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Exclude a page or domain from all future runs; --purge deletes what holds it already."""
    from flows.operations.retention import forget, forget_report

    workspace = settings.load_settings()
    if verify:
        value = forget.verify_absence(workspace, target)
        left = "" if value["clean"] else f"{target}: it is not proven to be gone"
        show = partial(forget_report.show_verified, value=value)
        print_result(as_json, value, show, failed=left)
        return
    if as_json and purge and not (yes or dry_run):
        raise ConfigError(
            "--json cannot ask before deleting: pass --yes, or --dry-run to list what is affected"
        )
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
