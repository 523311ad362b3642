"""Commands below a whole run: ``stage``, ``autopilot``, ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer.core import TyperCommand

from components.core import settings
from flows.cli.app import Json, Sets, Target, app, print_result

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


_TYPED_WORDS = "modelmill.words"
"""Key under which the words behind ``stage`` are passed to its help."""


@app.command()
def autopilot(
    target: Target,
    set_: Sets = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=2, help="Number of distinct tokens; by default that of the last `tokens` stage."
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=1, max=600, help="Seconds for measuring the throughput of this machine."),
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Recommend model shape, batch and learning rates for a budget, with reasons; train nothing."""
    from flows.cli.views.autopilot_view import recommend_fields

    advice = recommend_fields(settings.load_settings(), target, set_ or [], tokens, seconds)
    print_result(as_json, advice.as_json(), advice.show)


class _StageHelp(TyperCommand):
    """Command whose help ends with the inputs of the named stage, or of all stages."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        ctx.meta[_TYPED_WORDS] = list(args)  # --help is answered before any other word is read
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        from flows.pipelines.stage_roles import list_stages

        super().format_help(ctx, formatter)
        stages = list_stages()
        named = [word for word in ctx.meta.get(_TYPED_WORDS, ()) if word in stages]
        typer.echo("Inputs by ROLE:\n")
        for name in named or stages:
            typer.echo(f"  {name}: {stages[name].listing or 'no input'}")


@app.command(cls=_StageHelp)
def stage(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a stage that `modelmill plan tiny` lists, or adapt, distill, merge, "
            "import_hf, import_tokenizer."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the result; it must not exist.")],
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", help="[ROLE=]PATH of an input; repeat it for each input."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="FIELD=VALUE of the stage's config: minutes=5, or pretrain.minutes=5 as in a run.",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Preset that the stage's config is based on.")
    ] = "tiny",
    as_json: Json = False,
) -> None:
    """Run one stage on your own files; its result is copied to OUTPUT, complete or not at all."""
    from flows.pipelines.run_stage import run_stage

    shown = None if as_json else Console(stderr=True)
    result = run_stage(
        settings.load_settings(), name, input_ or [], output, set_ or [], preset, shown
    )
    print_result(
        as_json, result, lambda console: console.print(f"{result['output']}  {result['digest']}")
    )


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a reference for readers, in Markdown.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the JSON Schema of a run's YAML file, for editors."""
    from flows.configs.run_file import run_file_schema

    if markdown and not as_json:
        from flows.configs.config_reference import render_reference

        typer.echo(render_reference(), nl=False)
        return

    value = run_file_schema()
    print_result(as_json, value, lambda console: console.print_json(data=value))
