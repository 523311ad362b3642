"""Command ``bench``, which executes the benchmarks of the checkout."""

from __future__ import annotations

import os
import sys

import typer

from components.core import settings
from components.core.environment import child_environment, environment_variable
from components.core.errors import ConfigError
from flows.cli.app import app

BENCHMARKS_PACKAGE = "benchmarks"
"""Package at the checkout's root whose ``__main__`` parses the rest of the command line."""


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],  # `bench --help` is answered there, where the options are
    }
)
def bench(context: typer.Context) -> None:
    """Measure Modelmill beside other tools; exit code 1 where a figure is outside its bound."""
    root = settings.own_checkout()
    if not (root / BENCHMARKS_PACKAGE / "__main__.py").is_file():
        raise ConfigError(
            f"bench: there is no {BENCHMARKS_PACKAGE}/ in {root}: run it in a checkout of Modelmill"
        )
    path = os.pathsep.join(filter(None, [str(root), environment_variable("PYTHONPATH")]))
    # The benchmark is the command from here on: its output, its signals, its exit code.
    os.execve(  # noqa: S606 - fixed words, and what the user typed
        sys.executable,
        [sys.executable, "-m", BENCHMARKS_PACKAGE, *context.args],
        child_environment({"PYTHONPATH": path}),
    )
