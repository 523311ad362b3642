"""Command ``show``: runs, artifacts and models of the workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from components.core import settings
from flows.cli.app import Json, app, print_result


@app.command()
def show(
    what: Annotated[
        str | None,
        typer.Argument(
            help="Name of a run, or key or digest of an artifact; the beginning is enough."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List runs, artifacts and models, or show one run or artifact in full."""
    from flows.cli.views.workspace_view import describe_run_or_artifact, summarize_workspace

    workspace = settings.load_settings()
    answer = (
        summarize_workspace(workspace)
        if what is None
        else describe_run_or_artifact(workspace, what)
    )
    print_result(as_json, answer.value, answer.show)
