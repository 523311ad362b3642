"""Asking what there is: ``show``."""

from __future__ import annotations

from typing import Annotated

import typer

from components.core import settings
from flows.cli.app import Json, app, print_result


@app.command()
def show(
    what: Annotated[
        str | None, typer.Argument(help="a run, or an artifact's key or digest")
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs, artifacts and models; or one of them in full."""
    from flows.cli.views.workspace_view import describe_run_or_artifact, summarize_workspace

    workspace = settings.load_settings()
    answer = (
        summarize_workspace(workspace)
        if what is None
        else describe_run_or_artifact(workspace, what)
    )
    print_result(as_json, answer.value, answer.show)
