"""What runs on this machine: ``serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from components.core import settings
from flows.cli.app import Json, app


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(help="MODEL@ALIAS or MODEL/VERSION; left out: whose champion moved last"),
    ] = None,
    host: Annotated[str, typer.Option(help="another than loopback needs MODELMILL_API_KEY")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    as_json: Json = False,
) -> None:
    """Serve a model: an endpoint for the `openai` client."""
    from serving.serve_model import serve_forever

    serve_forever(settings.load_settings(), model, host=host, port=port, as_json=as_json)
