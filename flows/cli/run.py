"""Commands that build a model: ``init``, ``plan``, ``run``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.core import settings
from flows.cli.app import Json, Sets, Target, app, print_result


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.")] = Path(
        "run.yaml"
    ),
    as_json: Json = False,
) -> None:
    """Write a commented YAML file for a run on your own pages."""
    from flows.configs.run_file import write_run_file

    write_run_file(file)
    next_command = f"modelmill plan {shlex.quote(str(file))}"
    line = f"wrote {file}; next: [bold]{next_command}[/bold]"
    print_result(
        as_json,
        {"file": str(file), "next": next_command},
        lambda console: console.print(line, soft_wrap=True),
    )


@app.command()
def plan(target: Target, set_: Sets = None, as_json: Json = False) -> None:
    """List the stages that a run would execute, with reasons, time and cost; run nothing."""
    from flows.runner.run_pipeline import plan_target

    planned = plan_target(settings.load_settings(), target, set_ or [])
    print_result(as_json, planned.as_json(), planned.show)


@app.command()
def run(
    target: Target,
    set_: Sets = None,
    until: Annotated[str | None, typer.Option(help="Name of the last stage to run.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Crawl again instead of using the last crawl.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Run without a Prefect server.")] = False,
    as_json: Json = False,
) -> None:
    """Run the pipeline; stages whose result is in the store are not run again."""
    from flows.runner.run_pipeline import RunOptions, run_target

    console = Console(stderr=as_json)
    options = RunOptions(target=target, sets=set_ or [], until=until, refresh=refresh, plain=plain)
    outcome = run_target(settings.load_settings(), options, console)
    print_result(as_json, outcome.as_json(), outcome.show)
