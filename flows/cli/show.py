"""Asking what there is: ``show``."""

from __future__ import annotations

from typing import Annotated

import typer

from components.core import settings
from flows.cli.app import Json, app, emit


@app.command()
def show(
    what: Annotated[
        str | None, typer.Argument(help="a run, or an artifact's key or digest")
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs, artifacts and models; or one of them in full."""
    from flows.cli.show_workspace import describe, overview

    found = settings.load_settings()
    answer = overview(found) if what is None else describe(found, what)
    emit(as_json, answer.value, answer.show)
