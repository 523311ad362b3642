"""Dispatch of a command, with its signals, errors and exit code.

Every command takes ``--json`` (one object on standard output, everything else on standard error)
and exits 0, 1 (failed) or 2 (bad input), never with a traceback for a user's mistake. The object of
a failure holds ``error``, ``kind`` and ``exit_code``.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from typing import Any

import typer

from components.core import log
from components.core.errors import MillError, error_line, typed_error_line
from components.core.io.full_disk import explain_full_disk
from components.core.process import shutdown
from components.core.process.failure_line import report_failure
from components.core.process.shutdown import Stopped
from flows.cli import bench, lineage, maintain, models, operate, run, show, stages
from flows.cli.app import app

COMMANDS = (run, show, operate, models, lineage, stages, maintain, bench)
"""Modules of commands: importing one adds its commands to ``app``."""
VERBOSE_MODULES = (
    "components.train.autopilot.apply_choices",
    "components.train.budget.time_budget",
)
"""Modules whose log lines a user reads before training: autopilot choices, steps of a budget."""


def main() -> None:
    """Console script ``modelmill``."""
    run_app(app, "modelmill")


def run_app(commands: typer.Typer, name: str) -> None:
    """Run the command that was typed, and leave with its exit code.

    Args:
        commands: application that parses the command line.
        name: program name in the usage line.
    """
    as_json = "--json" in sys.argv

    def report_stop() -> None:
        stop = shutdown.requested_stop() or Stopped()
        report_failure(shutdown.stop_message(), "Stopped", stop.exit_code, as_json=as_json)

    interrupted = Stopped().exit_code  # typer's too, which says nothing
    code: Any = interrupted
    with shutdown.handle_signals(force=True):
        with suppress(KeyboardInterrupt), shutdown.before_forced_exit(report_stop):
            log.configure_logging(verbose_modules=() if as_json else VERBOSE_MODULES)
            code = _run_command(commands, name, as_json)
        stop = shutdown.requested_stop()
        if stop is not None:
            report_stop()
            shutdown.exit_after_stop(stop.exit_code)
    if code == interrupted:  # a KeyboardInterrupt that no signal of ours caused
        code = report_failure("stopped", "Stopped", interrupted, as_json=as_json)
    sys.exit(code)


def _run_command(commands: typer.Typer, name: str, as_json: bool) -> Any:
    """Run the command and return its exit code; ``as_json`` leaves all printing to the command."""
    try:
        with explain_full_disk("the workspace"):
            return commands(prog_name=name, standalone_mode=not as_json)
    except SystemExit as ended:  # how typer gives its exit code to a user
        return ended.code
    except typer.Abort:
        return report_failure("stopped before an answer", "Stopped", 1, as_json=as_json)
    except MillError as error:
        return report_failure(str(error), type(error).__name__, error.exit_code, as_json=as_json)
    except typer.TyperException as error:  # --json: otherwise typer has shown it with the usage
        return report_failure(_usage_error_line(error), "UsageError", 2, as_json=as_json)
    except PermissionError as error:
        place = f"{error.filename}: " if error.filename else ""
        line = f"{place}{error.strerror or error}; the workspace is that of MODELMILL_HOME"
        return report_failure(line, type(error).__name__, 1, as_json=as_json)
    except Exception as error:  # a bug, or what no stage foresaw: its traceback is for a report
        if shutdown.requested_stop() is not None:
            return None  # a library made another error of the stop, which is told of
        sys.stderr.write(log.mask_secrets(traceback.format_exc()))
        return report_failure(typed_error_line(error), type(error).__name__, 1, as_json=as_json)


def _usage_error_line(error: typer.TyperException) -> str:
    """One-line usage error that names the command's ``--help``."""
    problem = error_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{problem}; see `{context.command_path if context else 'modelmill'} --help`"


if __name__ == "__main__":
    main()
