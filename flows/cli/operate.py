"""What a team leaves running: ``up``, ``down``, ``status``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import settings
from flows.cli.app import Json, app, print_result


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="return when everything answers; `down` ends it")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="the one that is served; left out: whose champion moved last"),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="the endpoint's")] = 3000,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Prefect's")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="MLflow's")] = 5000,
    wait: Annotated[float, typer.Option(min=1, help="seconds a service has to answer")] = 120.0,
    as_json: Json = False,
) -> None:
    """Prefect server and worker, MLflow UI and the champion's endpoint, on this machine alone."""
    from flows.operations.up.run_platform import UpOptions, run_platform_detached
    from flows.operations.up.run_platform import run_platform as run_up
    from flows.operations.up.services import Ports

    ports = Ports(endpoint=port, prefect=prefect_port, mlflow=mlflow_port)
    options = UpOptions(ports, wait, model)
    console = Console(stderr=as_json)

    def print_platform(value: dict[str, Any]) -> None:
        if as_json:
            print_result(True, value, lambda _: None)
            sys.stdout.flush()  # whoever reads it does not wait for the end of `up`

    if detach:
        print_platform(run_platform_detached(settings.load_settings(), options, console))
    else:
        stop = run_up(settings.load_settings(), options, console, print_platform)
        if stop is not None:
            raise typer.Exit(stop.exit_code)


@app.command()
def down(as_json: Json = False) -> None:
    """End what `up` started."""
    from flows.operations.up.run_platform import end_platform as run_down

    count = run_down(settings.load_settings())
    line = f"ended {count} processes" if count else "nothing runs"
    print_result(as_json, {"ended": count}, lambda console: console.print(line))


@app.command()
def status(as_json: Json = False) -> None:
    """What runs, since when, and with how much memory; the newest runs; the champion."""
    from flows.operations.up.platform_status import read_platform_status as look

    answer = look(settings.load_settings())
    print_result(as_json, answer.value, answer.show)


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
