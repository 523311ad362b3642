"""``modelmill bench orchestrate``: orchestration overhead, beside the same chain on other tools.

Two measurements: a fully cached run of a preset, without a Prefect server and against a running
one; and a chain of steps that each add one, cold and cached, on Modelmill, Prefect alone, Metaflow,
Kedro and DVC. Every measurement is a whole process, imports included. The tools take turns, so that
a machine that slows down slows all of them, and medians are reported.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench_report import BenchFigure, BenchReport, describe_machine
from benchmarks.peer_programs import (
    bench_environment,
    find_interpreter,
    peer_program,
    run_program,
)
from components.core.errors import MillError
from components.core.log import get_logger
from components.core.process import shutdown
from components.core.process.process_tree import kill_process_tree
from components.core.settings import Settings
from flows.runner.plan_runner import IS_CACHED
from flows.runner.run_pipeline import plan_target

NAME = "orchestrate"
PRESETS = ("tiny", "nano")
"""Candidates for the cached run: the first one that this workspace has finished is measured."""
MAX_SERVERLESS_SECONDS, MAX_SERVER_SECONDS, MAX_STEP_MILLISECONDS = 5.0, 8.0, 50.0
log = get_logger(__name__)


@dataclass(frozen=True)
class ChainTool:
    """One tool that runs the chain: a program of ``peers/`` and the package it needs."""

    name: str
    program: str
    package: str | None = None
    arguments: tuple[str, ...] = ()
    on_server: bool = False
    compared_with: str | None = None
    """Modelmill's variant that it is compared with; None for Modelmill itself."""
    caches: bool = True


OURS, OURS_ON_PREFECT = "Modelmill", "Modelmill on Prefect"
TOOLS = (
    ChainTool(OURS, "own_chain"),
    ChainTool(OURS_ON_PREFECT, "own_chain", arguments=("--prefect",), on_server=True),
    ChainTool("Prefect alone", "prefect_chain", on_server=True, compared_with=OURS_ON_PREFECT),
    ChainTool("DVC", "dvc_chain", compared_with=OURS),
    ChainTool("Metaflow", "metaflow_chain", package="metaflow", compared_with=OURS),
    # Kedro checks that an output exists, not that it still belongs to its inputs.
    ChainTool("Kedro", "kedro_chain", package="kedro", compared_with=OURS, caches=False),
)


@dataclass
class ChainTimings:
    """Seconds of whole processes, and of the steps alone where the program prints them."""

    cold: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def bench_orchestrate(
    settings: Settings, steps: int, repeats: int, on_progress: Callable[[str], None]
) -> BenchReport:
    """Measure cached runs and the chain on every installed tool.

    Args:
        settings: the workspace whose finished preset is run from the cache.
        steps: length of the chain.
        repeats: measurements of which the median is reported.
        on_progress: called with a line a measurement.

    Raises:
        MillError: a run or a peer's chain failed; the message ends with its last lines of output.
    """
    machine = describe_machine()
    preset = _finished_preset(settings, on_progress)
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder:
        place = Path(folder)
        with _prefect_server(settings, place) as address:
            runs = _time_cached_runs(settings, preset, address, repeats, on_progress)
            timings = _time_chains(settings, place, address, steps, repeats, on_progress)
    return BenchReport(
        NAME, machine, [*_run_figures(preset, runs, timings, steps), *_peer_figures(timings, steps)]
    )


def _finished_preset(settings: Settings, on_progress: Callable[[str], None]) -> str:
    """Name of a preset that is fully cached; ``nano`` is run first where there is none."""
    for preset in PRESETS:
        steps = plan_target(settings, preset, ()).steps
        if all(step.state == IS_CACHED or step.unchanged for step in steps):
            return preset
    on_progress("no finished run in this workspace: making nano")
    run_program([*_modelmill("run"), PRESETS[-1], "--plain", "--json"], bench_environment(None))
    return PRESETS[-1]


def _modelmill(command: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli.main", command]


@contextmanager
def _prefect_server(settings: Settings, place: Path) -> Iterator[str]:
    """Address of the running Prefect server; without one, of a temporary server."""
    if settings.prefect_api_url:
        yield settings.prefect_api_url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (place / "server.log").open("wb") as log_file:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            env=bench_environment(None, PREFECT_HOME=str(place / "prefect")),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}/api"
        _wait_until_ready(f"{address}/health", server)
        yield address
    finally:
        if shutdown.requested_stop() is None:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(30)
        kill_process_tree(server.pid)
        server.wait()


def _wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - loopback, our own
                return
        except OSError:
            time.sleep(0.2)
    raise MillError("bench: the Prefect server did not answer within 120 s")


@dataclass(frozen=True)
class CachedRuns:
    """Median seconds of fully cached runs of a preset."""

    serverless: float
    on_server: float
    step_milliseconds: float
    """Mean time of one cached stage, without a server."""


def _time_cached_runs(
    settings: Settings, preset: str, address: str, repeats: int, on_progress: Callable[[str], None]
) -> CachedRuns:
    home = {"MODELMILL_HOME": str(settings.home)}
    without_server, with_server, step_milliseconds = list[float](), list[float](), list[float]()
    for turn in range(repeats + 1):
        on_progress(
            f"cached runs of {preset}, turn {turn} of {repeats}" + (" (to warm up)" * (not turn))
        )
        command = [*_modelmill("run"), preset, "--json"]
        seconds, output = run_program([*command, "--plain"], bench_environment(None, **home))
        server_seconds, _ = run_program(command, bench_environment(address, **home))
        if turn:
            without_server.append(seconds)
            with_server.append(server_seconds)
            steps = json.loads(output)["steps"]
            step_milliseconds += [1000 * s["seconds"] for s in steps if s["state"] == "Cached"]
    return CachedRuns(
        statistics.median(without_server),
        statistics.median(with_server),
        statistics.fmean(step_milliseconds),
    )


def _time_chains(
    settings: Settings,
    place: Path,
    address: str,
    steps: int,
    repeats: int,
    on_progress: Callable[[str], None],
) -> dict[str, ChainTimings]:
    """Time every installed tool in turn, in a new folder each time."""
    interpreters = {tool.name: find_interpreter(settings, tool.package) for tool in TOOLS}
    timings = {tool.name: ChainTimings() for tool in TOOLS if interpreters[tool.name]}
    for turn in range(repeats):
        for tool in TOOLS:
            if tool.name not in timings:
                continue
            on_progress(f"chain of {steps} on {tool.name}, turn {turn + 1} of {repeats}")
            folder = place / f"{tool.name.replace(' ', '-')}-{turn}"
            program = str(peer_program(tool.program))
            command = [str(interpreters[tool.name]), program, str(folder), str(steps)]
            results = {"PREFECT_LOCAL_STORAGE_PATH": str(folder / "results")}
            variables = bench_environment(address if tool.on_server else None, **results)
            if tool.package:
                variables.pop("PYTHONPATH")
            cold, _ = run_program([*command, *tool.arguments], variables)
            cached, output = run_program([*command, *tool.arguments], variables)
            timings[tool.name].cold.append(cold)
            timings[tool.name].cached.append(cached)
            if tool.compared_with is None:
                timings[tool.name].steps.append(float(output.split()[-1]))
    return timings


def _run_figures(
    preset: str, runs: CachedRuns, timings: Mapping[str, ChainTimings], steps: int
) -> list[BenchFigure]:
    at_most, run = BenchFigure.against_target, f"cached run of `{preset}`"
    figures = [
        at_most(f"{run}, without a server", runs.serverless, "s", MAX_SERVERLESS_SECONDS),
        at_most(f"{run}, against a running server", runs.on_server, "s", MAX_SERVER_SECONDS),
        at_most("a cached stage of it, mean", runs.step_milliseconds, "ms", MAX_STEP_MILLISECONDS),
    ]
    for name in (OURS, OURS_ON_PREFECT):
        each = 1000 * statistics.median(timings[name].steps) / (steps + 1)
        step_name = f"a cached step of the chain, {name}"
        figures.append(at_most(step_name, each, "ms", MAX_STEP_MILLISECONDS))
    return figures


def _peer_figures(timings: Mapping[str, ChainTimings], steps: int) -> list[BenchFigure]:
    figures: list[BenchFigure] = []
    for tool in TOOLS:
        if tool.compared_with is None:
            continue
        ours, theirs = timings[tool.compared_with], timings.get(tool.name)
        for state in ("cached", "cold"):
            value = statistics.median(getattr(ours, state))
            peer = statistics.median(getattr(theirs, state)) if theirs else None
            must_win = tool.caches and state == "cached"
            name = f"chain of {steps}, {state}, {tool.compared_with}"
            figures.append(BenchFigure.beside_peer(name, value, "s", tool.name, peer, must_win))
    return figures
