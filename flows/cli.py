"""What a user types: ``modelmill run tiny``, ``plan``, ``stage``, ``show``, ``serve`` ...

Every command takes ``--json`` (one object on standard output, everything else on standard error)
and exits 0, 1 (failed) or 2 (bad input), never with a traceback for a user's mistake.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import typer

from components.core import log
from components.core.errors import MillError
from flows.commands import bench, housekeeping, lineage, looking, machine, models, platform, runs
from flows.commands.app import app

COMMANDS = (runs, looking, lineage, models, machine, platform, housekeeping, bench)
"""Importing a module adds its commands to ``app``."""
TOLD = ("components.train.autopilot_settle", "components.train.budget")
"""Modules that log what the autopilot chose, and what minutes come to: read before it trains."""
STOPPED = 130
"""The exit code of a command that Ctrl+C ended, as shells have it."""


def main() -> None:
    """The console script."""
    # So that what a run started (pool, server) is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    as_json = "--json" in sys.argv
    log.configure(told=() if as_json else TOLD)
    try:
        code = _answer(as_json)
    except MillError as error:
        code = _refuse(str(error), type(error).__name__, error.exit_code, as_json=as_json)
    except typer.TyperException as error:  # --json: otherwise typer has shown it with the usage
        code = _refuse(_usage(error), "UsageError", 2, as_json=as_json)
    sys.exit(code)


def _answer(as_json: bool) -> Any:
    """Run the command; its exit code. For a program nothing but the answer is printed."""
    try:
        code = app(prog_name="modelmill", standalone_mode=not as_json)
    except typer.Abort:
        return _refuse("stopped before an answer", "Stopped", 1, as_json=as_json)
    if code == STOPPED:
        return _refuse("stopped by the user", "Stopped", STOPPED, as_json=as_json)
    return code


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the words typed, in a line, and where the right ones stand."""
    said = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{said}; see `{context.command_path if context else 'modelmill'} --help`"


def _refuse(error: str, kind: str, exit_code: int, *, as_json: bool) -> int:
    """One line on standard error and, for a program, one object on standard output."""
    message = log.mask(error)
    sys.stderr.write(f"modelmill: {message}\n")
    if as_json:
        told = {"error": message, "kind": kind, "exit_code": exit_code}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    return exit_code


if __name__ == "__main__":
    main()
