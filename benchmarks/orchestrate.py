"""``modelmill bench orchestrate``: what orchestrating costs, beside the same chain on the peers.

Two questions. How long does a run take that has nothing left to do, without a server and against
one that runs? And what does a chain of steps that only add one cost, when all run and when all
are cached, here, on Prefect alone, Metaflow, Kedro and DVC? Every measurement is a whole process,
imports included; the tools take turns, and medians are kept.
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
from benchmarks.peer_programs import PEERS, bench_environment, find_interpreter, run_program
from components.core.errors import MillError
from components.core.log import get_logger
from components.core.process import shutdown
from components.core.process.process_tree import kill_process_tree
from components.core.settings import Settings
from flows.runner.plan_runner import IS_CACHED
from flows.runner.run_pipeline import plan_target

NAME = "orchestrate"
PRESETS = ("tiny", "nano")
"""Whose cached run is measured: the first one that this workspace has finished."""
SERVERLESS_SECONDS, SERVER_SECONDS, STEP_MILLISECONDS = 5.0, 8.0, 50.0
log = get_logger(__name__)


@dataclass(frozen=True)
class Tool:
    """One way to run the chain: a program, and what must be importable for it."""

    name: str
    program: str
    needs: str | None = None
    arguments: tuple[str, ...] = ()
    on_server: bool = False
    compared_with: str | None = None
    """Which of ours stands beside it; None for ours."""
    caches: bool = True


OURS, OURS_ON_PREFECT = "Modelmill", "Modelmill on Prefect"
TOOLS = (
    Tool(OURS, "own_chain"),
    Tool(OURS_ON_PREFECT, "own_chain", arguments=("--prefect",), on_server=True),
    Tool("Prefect alone", "prefect_chain", on_server=True, compared_with=OURS_ON_PREFECT),
    Tool("DVC", "dvc_chain", compared_with=OURS),
    Tool("Metaflow", "metaflow_chain", needs="metaflow", compared_with=OURS),
    # Kedro looks whether an output exists, not whether it is still the right one.
    Tool("Kedro", "kedro_chain", needs="kedro", compared_with=OURS, caches=False),
)


@dataclass
class Timings:
    """Seconds of whole processes, and of the steps alone where the program tells."""

    cold: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def bench_orchestrate(
    settings: Settings, steps: int, repeats: int, tell: Callable[[str], None]
) -> BenchReport:
    """Measure everything; ``tell`` hears what is being measured.

    Raises:
        MillError: a run or a peer's chain failed; ends with what it said last.
    """
    described = describe_machine()
    preset = _finished_preset(settings, tell)
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder:
        place = Path(folder)
        with _server(settings, place) as address:
            runs = _cached_runs(settings, preset, address, repeats, tell)
            timings = _chains(settings, place, address, steps, repeats, tell)
    return BenchReport(
        NAME, described, [*_run_figures(preset, runs, timings, steps), *_beside(timings, steps)]
    )


def _finished_preset(settings: Settings, tell: Callable[[str], None]) -> str:
    """A preset whose run has nothing left to do; ``nano`` is made where there is none."""
    for preset in PRESETS:
        planned = plan_target(settings, preset, ()).steps
        if all(step.state == IS_CACHED or step.unchanged for step in planned):
            return preset
    tell("no finished run in this workspace: making nano")
    run_program([*_modelmill("run"), PRESETS[-1], "--plain", "--json"], bench_environment(None))
    return PRESETS[-1]


def _modelmill(command: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli.main", command]


@contextmanager
def _server(settings: Settings, place: Path) -> Iterator[str]:
    """Address of the running Prefect server; one of our own for the bench where there is none."""
    if settings.prefect_api_url:
        yield settings.prefect_api_url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (place / "server.log").open("wb") as said:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            env=bench_environment(None, PREFECT_HOME=str(place / "prefect")),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}/api"
        _wait(f"{address}/health", server)
        yield address
    finally:
        if shutdown.requested_stop() is None:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(30)
        kill_process_tree(server.pid)
        server.wait()


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - loopback, our own
                return
        except OSError:
            time.sleep(0.2)
    raise MillError("bench: the Prefect server did not get ready")


@dataclass(frozen=True)
class Runs:
    """Cached runs of a preset."""

    serverless: float
    on_server: float
    step_milliseconds: float
    """The mean of what a cached stage took in them, without a server."""


def _cached_runs(
    settings: Settings, preset: str, address: str, repeats: int, tell: Callable[[str], None]
) -> Runs:
    home = {"MODELMILL_HOME": str(settings.home)}
    plain, server, each = list[float](), list[float](), list[float]()
    for turn in range(repeats + 1):
        tell(f"cached runs of {preset}, turn {turn} of {repeats}" + (" (to warm up)" * (not turn)))
        command = [*_modelmill("run"), preset, "--json"]
        seconds, said = run_program([*command, "--plain"], bench_environment(None, **home))
        other, _ = run_program(command, bench_environment(address, **home))
        if turn:
            plain.append(seconds)
            server.append(other)
            told = json.loads(said)["steps"]
            each += [1000 * s["seconds"] for s in told if s["state"] == "Cached"]
    return Runs(statistics.median(plain), statistics.median(server), statistics.fmean(each))


def _chains(
    settings: Settings,
    place: Path,
    address: str,
    steps: int,
    repeats: int,
    tell: Callable[[str], None],
) -> dict[str, Timings]:
    """Every tool in turn, in a new folder each time; those that are not installed are left out."""
    interpreters = {tool.name: find_interpreter(settings, tool.needs) for tool in TOOLS}
    timings = {tool.name: Timings() for tool in TOOLS if interpreters[tool.name]}
    for turn in range(repeats):
        for tool in TOOLS:
            if tool.name not in timings:
                continue
            tell(f"chain of {steps} on {tool.name}, turn {turn + 1} of {repeats}")
            folder = place / f"{tool.name.replace(' ', '-')}-{turn}"
            program = str(PEERS / f"{tool.program}.py")
            command = [str(interpreters[tool.name]), program, str(folder), str(steps)]
            results = {"PREFECT_LOCAL_STORAGE_PATH": str(folder / "results")}
            given = bench_environment(address if tool.on_server else None, **results)
            if tool.needs:
                given.pop("PYTHONPATH")
            cold, _ = run_program([*command, *tool.arguments], given)
            cached, said = run_program([*command, *tool.arguments], given)
            timings[tool.name].cold.append(cold)
            timings[tool.name].cached.append(cached)
            if tool.compared_with is None:
                timings[tool.name].steps.append(float(said.split()[-1]))
    return timings


def _run_figures(
    preset: str, runs: Runs, timings: Mapping[str, Timings], steps: int
) -> list[BenchFigure]:
    at_most, run = BenchFigure.against_target, f"cached run of `{preset}`"
    figures = [
        at_most(f"{run}, without a server", runs.serverless, "s", SERVERLESS_SECONDS),
        at_most(f"{run}, against a running server", runs.on_server, "s", SERVER_SECONDS),
        at_most("a cached stage of it, mean", runs.step_milliseconds, "ms", STEP_MILLISECONDS),
    ]
    for name in (OURS, OURS_ON_PREFECT):
        each = 1000 * statistics.median(timings[name].steps) / (steps + 1)
        named = f"a cached step of the chain, {name}"
        figures.append(at_most(named, each, "ms", STEP_MILLISECONDS))
    return figures


def _beside(timings: Mapping[str, Timings], steps: int) -> list[BenchFigure]:
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
