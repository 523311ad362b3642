"""What a user types: ``modelmill run tiny``, ``plan``, ``stage``, ``show``, ``serve`` ...

Every command takes ``--json`` (one object on standard output, everything else on standard error)
and exits 0, 1 (failed) or 2 (bad input), never with a traceback for a user's mistake.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import log, settings
from components.core.errors import MillError

app = typer.Typer(
    name="modelmill",
    help="Train, align and serve your own models from raw pages, on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Target = Annotated[str, typer.Argument(help="a preset (nano, tiny, small) or a YAML file over one")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="field=value, e.g. pretrain.minutes=5")
]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]


def emit(as_json: bool, value: dict[str, Any], show: Callable[[Console], None]) -> None:
    """The answer: one JSON object, or whatever ``show`` prints."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        show(Console())


@app.command()
def run(
    target: Target,
    set_: Sets = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage")] = None,
    refresh: Annotated[bool, typer.Option(help="crawl again instead of using the last")] = False,
    plain: Annotated[bool, typer.Option(help="without a Prefect server")] = False,
    as_json: Json = False,
) -> None:
    """Run the chain: what the store holds is taken from there, the rest is made."""
    from flows.running import RunOptions, run_text

    console = Console(stderr=as_json)
    options = RunOptions(target=target, sets=set_ or [], until=until, refresh=refresh, plain=plain)
    outcome = run_text(settings.load(), options, console)
    emit(as_json, outcome.as_json(), outcome.show)


@app.command()
def plan(target: Target, set_: Sets = None, as_json: Json = False) -> None:
    """What a run would do, and why; runs nothing."""
    from flows.running import plan_text

    planned = plan_text(settings.load(), target, set_ or [])
    rows = [
        (
            step.name,
            step.state,
            "" if step.seconds is None else f"{step.seconds:.1f} s",
            "; ".join(step.because),
        )
        for step in planned
    ]

    def show(console: Console) -> None:
        from flows.display import rows_table

        console.print(rows_table(("stage", "plan", "last time", "because"), rows))

    emit(as_json, {"plan": [step.as_json() for step in planned]}, show)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="a stage's name, as `modelmill plan tiny` lists it")],
    output: Annotated[Path, typer.Option(help="folder for the result; must not exist")],
    input_: Annotated[
        list[str] | None, typer.Option("--input", help="[ROLE=]PATH, once for each input")
    ] = None,
    set_: Sets = None,
    preset: Annotated[str, typer.Option(help="where the stage's config starts from")] = "tiny",
    as_json: Json = False,
) -> None:
    """One stage on your own files; the result is copied to OUTPUT whole or not at all."""
    from flows.staging import run_stage

    result = run_stage(settings.load(), name, input_ or [], output, set_ or [], preset)
    emit(as_json, result, lambda console: console.print(f"{result['output']}  {result['digest']}"))


@app.command()
def show(
    what: Annotated[
        str | None, typer.Argument(help="a run, or an artifact's key or digest")
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs, artifacts and models; or one of them in full."""
    from flows.showing import describe, overview

    found = settings.load()
    answer = overview(found) if what is None else describe(found, what)
    emit(as_json, answer.value, answer.show)


@app.command()
def models(as_json: Json = False) -> None:
    """Model versions with their aliases and gates."""
    from flows.showing import model_versions

    answer = model_versions(settings.load())
    emit(as_json, answer.value, answer.show)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="a registered model's name")], as_json: Json = False
) -> None:
    """Put the former champion back."""
    from components.publish.promote import rollback as put_back

    version = put_back(settings.load(), name)
    emit(
        as_json,
        {"model": name, "champion": version},
        lambda console: console.print(f"champion of {name} is version {version} again"),
    )


@app.command()
def schema(as_json: Json = False) -> None:
    """JSON Schema of a run's YAML, for editors."""
    from flows.presets.text import TextRun

    value = TextRun.model_json_schema()
    emit(as_json, value, lambda console: console.print_json(data=value))


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(help="MODEL@ALIAS or MODEL/VERSION; the newest champion if left out"),
    ] = None,
    host: Annotated[str, typer.Option(help="another than loopback needs MODELMILL_API_KEY")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    as_json: Json = False,
) -> None:
    """Serve a model: an endpoint for the `openai` client."""
    from serving.run import serve_forever

    serve_forever(settings.load(), model, host=host, port=port, as_json=as_json)


def main() -> None:
    """The console script."""
    log.configure()
    # So that what a run started (pool, server) is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except MillError as error:
        sys.stderr.write(f"modelmill: {log.mask(str(error))}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
