"""What a person typed is shown as it is; every command explains itself."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.cli import COMMANDS, app
from flows.display import rows_table

NAMES = sorted(
    (command.name or getattr(command.callback, "__name__", "")).replace("_", "-")
    for command in app.registered_commands
)


@pytest.mark.parametrize("command", NAMES)
def test_every_command_explains_itself(command: str) -> None:
    """A bracket in a help text is markup to what prints it."""
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0, done.output
    assert len(NAMES) > len(COMMANDS)


def test_what_a_person_wrote_is_no_markup() -> None:
    out = io.StringIO()
    table = rows_table(("what",), [("bad [/close] tag [red]x",)])
    Console(file=out, width=80).print(table)
    assert "bad [/close] tag [red]x" in out.getvalue()
