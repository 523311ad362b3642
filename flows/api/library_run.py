"""Runs and plans for a Python caller, through the command line's own code."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rich.console import Console

from components.core.settings import Settings
from flows.api.finished_run import Plan, Run
from flows.api.own_thread import call_beside_loop
from flows.api.run_source import Overrides, Source, read_source
from flows.operations.retention.interrupted_runs import close_interrupted
from flows.runner.run_pipeline import RunOptions, plan_config, run_target


@dataclass(frozen=True)
class RunRequest:
    """Arguments of ``modelmill.run``."""

    source: Source
    overrides: Overrides = None
    until: str | None = None
    refresh: bool = False
    plain: bool = True
    show: bool = False


def run_pipeline(settings: Settings, request: RunRequest) -> Run:
    """Run a pipeline in the caller's thread, or beside the event loop that runs there.

    Raises:
        ConfigError: the source or a field is wrong.
        MillError: a stage failed.
        KeyboardInterrupt: the caller was interrupted.
    """

    def work() -> Run:
        source = read_source(request.source, request.overrides, settings)
        if settings.runs.is_dir():
            close_interrupted(settings)
        options = RunOptions(
            target=source.target,
            sets=source.sets,
            until=request.until,
            refresh=request.refresh,
            plain=request.plain,
            config=source.config,
            handles_signals=False,
        )
        return Run(run_target(settings, options, make_console(request.show)), settings)

    return call_beside_loop(work)


def plan_pipeline(settings: Settings, source: Source, overrides: Overrides) -> Plan:
    """Plan a run; nothing runs and nothing is written.

    Args:
        settings: workspace whose store says what is made already.
        source: preset, file, mapping or config.
        overrides: values over it.

    Raises:
        ConfigError: the source or a field is wrong.
    """
    plan = plan_config(settings, read_source(source, overrides, settings).config)
    return Plan(**{field.name: getattr(plan, field.name) for field in fields(plan)})


def make_console(show: bool) -> Console:
    """Console of a library: plain lines on standard output, or none at all.

    It is no terminal whatever it writes to: a live line would take the program's streams over.
    """
    return Console(quiet=not show, force_terminal=False, force_jupyter=False, soft_wrap=True)
