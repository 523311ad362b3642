"""Typer application of the command line, with the options and the output that commands share."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from components.core import settings
from components.core.errors import ConfigError
from components.core.process.failure_line import failure_object

if TYPE_CHECKING:
    from typer._click import Context

PANELS = {
    "Build a model": ("init", "plan", "run", "show"),
    "Serve it": ("serve", "up", "status", "down"),
    "Model versions": ("models", "approve", "promote", "rollback", "audit", "dossier"),
    "Pages": ("trace", "forget"),
    "Single stages": ("stage", "autopilot", "schema"),
    "Maintenance": ("doctor", "gc", "bench"),
}
"""Commands by panel of ``--help``, in the order in which a user needs them."""


class _Panels(TyperGroup):
    """Command group whose help follows ``PANELS``, whatever the order of imports."""

    def list_commands(self, ctx: Context) -> list[str]:
        for panel, names in PANELS.items():
            for name in names:
                command = self.commands[name]
                assert isinstance(command, TyperCommand)
                command.rich_help_panel = panel
        return [name for names in PANELS.values() for name in names]


app = typer.Typer(
    name="modelmill",
    cls=_Panels,
    help="Train, align and serve your own models from raw pages, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Target = Annotated[
    str, typer.Argument(help="Preset (nano, tiny, small), or a YAML file based on one.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE of the run's config, for example pretrain.minutes=5."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Model = Annotated[str, typer.Argument(help="Name of a registered model.")]


_WITHOUT_WORKSPACE = ("schema", "init")
"""Commands that need no workspace, so no interrupted run is looked for."""


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"modelmill {importlib.metadata.version('modelmill')}")
        raise typer.Exit


@app.callback()
def close_interrupted_runs(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Train, align and serve your own models from raw pages, on your own machines."""
    if context.invoked_subcommand in _WITHOUT_WORKSPACE or {"--help", "-h"} & set(sys.argv):
        return
    try:
        workspace = settings.load_settings()
    except ConfigError:
        return  # outside a checkout: the command itself says so, where it needs a workspace
    if workspace.runs.is_dir():
        from flows.operations.retention.interrupted_runs import close_interrupted

        close_interrupted(workspace)


def print_result(
    as_json: bool, value: dict[str, Any], show: Callable[[Console], None], *, failed: str = ""
) -> None:
    """Print the result of a command: as one JSON object, or by ``show``.

    Args:
        as_json: True where ``--json`` was given.
        value: the JSON object.
        show: prints the same for a terminal.
        failed: reason why the command ends with exit code 1 although it has a result.
    """
    if failed:
        value = value | failure_object(failed, "CheckFailed", 1)
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        show(Console())
    if failed:
        raise typer.Exit(1)
