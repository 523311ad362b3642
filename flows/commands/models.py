"""The registry: ``models``, ``rollback``, ``dossier``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.core import settings
from flows.commands.app import Json, Model, app, emit


@app.command()
def models(as_json: Json = False) -> None:
    """Model versions with their aliases and gates."""
    from flows.showing import model_versions

    answer = model_versions(settings.load())
    emit(as_json, answer.value, answer.show)


@app.command()
def rollback(name: Model, as_json: Json = False) -> None:
    """Put the former champion back."""
    from components.publish.promote import rollback as put_back

    version = put_back(settings.load(), name)
    emit(
        as_json,
        {"model": name, "champion": version},
        lambda console: console.print(f"champion of {name} is version {version} again"),
    )


@app.command()
def dossier(
    model: Annotated[str, typer.Argument(help="MODEL/VERSION, MODEL@ALIAS, or MODEL: its newest")],
    output: Annotated[Path | None, typer.Option(help="also write a copy there")] = None,
    as_json: Json = False,
) -> None:
    """One offline HTML file that tells all there is to know of a version."""
    from flows.showing import write_dossier

    answer = write_dossier(settings.load(), model, output)
    emit(as_json, answer.value, answer.show)
