"""Requests lost while the served model changes or its worker is killed, under load.

The endpoint is that of `modelmill up`: the manager with its reverse proxy in a process of its own,
and behind it the server of a Bento. The model goes to another version and back while streams keep
asking; then the process that holds the model is killed, while requests arrive at set times.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.peer_programs import ROOT, bench_environment
from benchmarks.serve.load_generator import LoadGenerator, StreamRecord
from benchmarks.serve.request_mix import MIXED, RequestSizes, mix_requests
from benchmarks.serve.targets.load_targets import HttpTarget
from benchmarks.serve.targets.packed_server import OURS, MeasuredServer, pack_model
from benchmarks.serve.targets.served_models import MODEL_NAME, BenchModel, make_bench_model
from components.core.errors import MillError
from components.core.process.ports import free_port
from components.core.process.process_tree import kill_process_tree
from components.core.settings import Settings
from components.core.store.artifact import Bento
from components.publish.promotion.endpoint_swap import EndpointSwap, ServedModel
from models.shape import DecoderShape
from models.shape_presets import TINY

MOST_SECONDS_DOWN = 5.0
_START_SECONDS = 120.0
_SEED = 29


@dataclass(frozen=True)
class SwapSetup:
    """Shape, load and times; a test has small ones."""

    shape: DecoderShape = TINY
    streams: int = 8
    sizes: RequestSizes = MIXED
    pause: float = 3.0
    """Seconds of load before, between and after the changes."""
    rate: float = 10.0
    """Requests a second while a worker is killed."""
    killed_seconds: float = 20.0
    """Length of these arrivals; the kill comes after a quarter."""


def measure_swaps(setting: BenchSetting, setup: SwapSetup = SwapSetup()) -> list[BenchFigure]:
    """Lost requests and the time to new answers.

    Args:
        setting: scratch folder.
        setup: shape, load and times.

    Raises:
        MillError: the endpoint did not start, or refused to change.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    home = setting.scratch / "home"
    versions = [_served(pack_model(home, model, number), number) for number in (1, 2)]
    swap = EndpointSwap(Settings(home=home, reference_data=home))
    with _run_manager(home, swap) as server:
        swap.switch(versions[0], _START_SECONDS)
        target = HttpTarget(server)
        figures = [_measure_changes(target, model, swap, versions, setup)]
        figures += _measure_kill(target, model, setup)
    return figures


def _served(bento: Bento, number: int) -> ServedModel:
    return ServedModel(MODEL_NAME, str(number), Path(bento.name).name)


@contextmanager
def _run_manager(home: Path, swap: EndpointSwap) -> Iterator[MeasuredServer]:
    """The endpoint's manager, which waits for a model; it ends with all that it started."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    with (
        (home / "manager.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "serving.gateway.endpoint_manager", str(port)],
            cwd=ROOT,
            env=bench_environment(MODELMILL_HOME=str(home)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as manager,
    ):
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not swap.is_running():
                if manager.poll() is not None or time.monotonic() > deadline:
                    lines = (home / "manager.log").read_text(errors="replace").splitlines()
                    raise MillError(f"bench serve: the endpoint did not start: {lines[-1:]}")
                time.sleep(0.05)
            yield MeasuredServer(OURS, port, manager.pid)
        finally:
            kill_process_tree(manager.pid)


def _measure_changes(
    target: HttpTarget,
    model: BenchModel,
    swap: EndpointSwap,
    versions: Sequence[ServedModel],
    setup: SwapSetup,
) -> BenchFigure:
    """Requests lost over a change to another version and back."""
    ended = threading.Event()
    failures: list[str] = []

    def change() -> None:
        try:
            for served in (versions[1], versions[0]):
                time.sleep(setup.pause)
                swap.prepare(served, _START_SECONDS)
                swap.switch(served, _START_SECONDS)
            time.sleep(setup.pause)
        except MillError as error:
            failures.append(str(error))
        finally:
            ended.set()

    requests = mix_requests(target, model, 256, _SEED, setup.sizes)
    changes = threading.Thread(target=change)
    changes.start()
    endless = itertools.takewhile(lambda _: not ended.is_set(), itertools.cycle(requests))
    records = LoadGenerator(target.server.port).run_closed(endless, setup.streams)
    changes.join()
    if failures:
        raise MillError(f"bench serve: {failures[0]}")
    lost = [record for record in records if not record.whole]
    return BenchFigure.against_target(
        "hot swap and rollback under load: lost requests",
        len(lost),
        "",
        0,
        note=f"of {len(records)}, {setup.streams} streams",
    )


def _measure_kill(target: HttpTarget, model: BenchModel, setup: SwapSetup) -> list[BenchFigure]:
    """Time until requests are answered again after the process with the model was killed."""
    killed_at: list[float] = []

    def kill() -> None:
        time.sleep(setup.killed_seconds / 4)
        killed_at.append(time.perf_counter())
        _largest_process(target.server.pid).kill()

    count = int(setup.rate * setup.killed_seconds)
    requests = mix_requests(target, model, count, _SEED + 1, setup.sizes)
    killer = threading.Thread(target=kill)
    killer.start()
    offsets = [index / setup.rate for index in range(count)]
    records = LoadGenerator(target.server.port).run_open(requests, offsets)
    killer.join()
    return kill_figures(records, killed_at[0])


def _largest_process(root: int) -> psutil.Process:
    """The process below ``root`` with the most memory, which holds the model."""
    return max(
        psutil.Process(root).children(recursive=True), key=lambda child: child.memory_info().rss
    )


def kill_figures(records: Sequence[StreamRecord], killed_at: float) -> list[BenchFigure]:
    """Figures of a kill, from the requests around it.

    Args:
        records: of requests that were due at set times.
        killed_at: time of the kill.
    """
    name = "worker killed under load"
    late = [r.ended_at - killed_at for r in records if r.whole and r.due > killed_at]
    running = [r for r in records if not r.whole and r.due <= killed_at]
    refused = [r for r in records if not r.whole and r.due > killed_at and r.status == 503]
    unheard = [r for r in records if not r.whole and r.due > killed_at and r.status != 503]
    note = f"{len(running)} answers cut, {len(refused)} answered 503, {len(unheard)} broken"
    if not late:
        return [BenchFigure(f"{name}: new answers after", None, "s", holds=False, note=note)]
    return [
        BenchFigure.against_target(
            f"{name}: new answers after", min(late), "s", MOST_SECONDS_DOWN, note=note
        )
    ]
