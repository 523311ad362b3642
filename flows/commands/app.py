"""The command line's application, and what its commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError

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
Model = Annotated[str, typer.Argument(help="a registered model's name")]


_LOOK_AT_NOTHING = ("schema",)
"""Commands that need no workspace."""


@app.callback()
def close_interrupted_runs(context: typer.Context) -> None:
    """Train, align and serve your own models from raw pages, on your own machines."""
    if context.invoked_subcommand in _LOOK_AT_NOTHING or {"--help", "-h"} & set(sys.argv):
        return
    try:
        home = settings.load()
    except ConfigError:
        return  # outside a checkout: the command itself says so, where it needs a workspace
    if home.runs.is_dir():
        from flows.keeping.interrupted import close_interrupted

        close_interrupted(home)


def emit(as_json: bool, value: dict[str, Any], show: Callable[[Console], None]) -> None:
    """The answer: one JSON object, or whatever ``show`` prints."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        show(Console())
