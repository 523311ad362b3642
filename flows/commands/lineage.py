"""Asking where a page went and what a model was made of: ``trace``; taking it out: ``forget``."""

from __future__ import annotations

from typing import Annotated

import typer

from components.core import settings
from flows.commands.app import Json, app, emit


@app.command()
def trace(
    what: Annotated[
        str, typer.Argument(help="a page's address, a document's id, or MODEL[/VERSION|@ALIAS]")
    ],
    as_json: Json = False,
) -> None:
    """Where a page went and why, or the sources behind a model."""
    from flows.tracing import trace as follow

    answer = follow(settings.load(), what)
    emit(as_json, answer.value, answer.show)
