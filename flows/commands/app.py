"""The command line's application, and what its commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

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


def emit(as_json: bool, value: dict[str, Any], show: Callable[[Console], None]) -> None:
    """The answer: one JSON object, or whatever ``show`` prints."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        show(Console())
