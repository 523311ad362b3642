"""Half an hour of mixed requests: memory, slots, and answers equal to those given alone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.load_generator import LoadGenerator, LoadRequest, StreamRecord
from benchmarks.serve.targets.load_targets import HttpTarget, RoundLoad
from benchmarks.serve.targets.peer_servers import open_own_server
from benchmarks.serve.targets.served_models import BenchModel, make_bench_model
from models.shape import DecoderShape
from models.shape_presets import TINY

MOST_GROWTH = 0.02
_SEED = 31
_SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class SoakSetup:
    """Shape and load; a test has a small one."""

    shape: DecoderShape = TINY
    slots: int = 16
    streams: int = 24
    """More than there are slots, so that some always wait."""
    kinds: int = 64
    """Different greedy requests, each answered alone before."""
    prompt: tuple[int, int] = (4, 300)
    answer: tuple[int, int] = (8, 160)
    cancelled: float = 0.05
    """Share of requests whose client hangs up."""
    sampled: float = 0.5
    """Share at temperature 0.7, top-p 0.9."""
    warm_up: float = 0.2
    """Share of the time after which memory must be flat."""


@dataclass
class SoakLoad:
    """Endless requests until the time is over, with a look at memory now and then."""

    requests: Sequence[LoadRequest]
    """Greedy ones, labelled by their number."""
    sampled: Sequence[LoadRequest]
    setup: SoakSetup
    target: HttpTarget
    seconds: float
    memory: list[tuple[float, int]] = field(default_factory=list)
    """(share of the time, bytes)"""

    def __iter__(self) -> Iterator[LoadRequest]:
        chosen = random.Random(_SEED)  # noqa: S311 - a reproducible choice, no secret
        began = time.monotonic()
        next_look = 0.0
        while (elapsed := time.monotonic() - began) < self.seconds:
            if elapsed >= next_look:
                self.memory.append((elapsed / self.seconds, self.target.server.resident_bytes()))
                next_look = elapsed + min(_SAMPLE_SECONDS, self.seconds / 50)
            source = self.sampled if chosen.random() < self.setup.sampled else self.requests
            request = chosen.choice(source)
            if chosen.random() < self.setup.cancelled:
                events = chosen.randint(1, self.setup.answer[0])
                request = LoadRequest(request.message, cancel_after=events, label="cancelled")
            yield request


def measure_soak(setting: BenchSetting, setup: SoakSetup = SoakSetup()) -> list[BenchFigure]:
    """Figures of ``setting.minutes`` of load.

    Args:
        setting: scratch folder and length.
        setup: shape and load.

    Raises:
        MillError: the server did not start.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    with open_own_server(model, setting.scratch / "home") as target:
        return soak_server(target, model, setting.minutes * 60, setup)


def soak_server(
    target: HttpTarget, model: BenchModel, seconds: float, setup: SoakSetup
) -> list[BenchFigure]:
    """Figures of one server.

    Args:
        target: the server.
        model: makes the prompts.
        seconds: length of the load.
        setup: load.
    """
    generator = LoadGenerator(target.server.port)
    greedy = _kinds(target, model, setup, 0.0)
    alone = {r.label: r.text for r in generator.run_closed(greedy, 1)}
    load = SoakLoad(greedy, _kinds(target, model, setup, 0.7), setup, target, seconds)
    records = generator.run_closed(load, setup.streams)
    figures = soak_figures(records, alone, load.memory, setup.warm_up)
    return [*figures, slots_figure(target, model, setup)]


def _kinds(
    target: HttpTarget, model: BenchModel, setup: SoakSetup, temperature: float
) -> list[LoadRequest]:
    """Requests of random lengths; the greedy ones keep their text."""
    chosen = random.Random(_SEED)  # noqa: S311 - a reproducible choice, no secret
    requests = []
    for index in range(setup.kinds):
        load = RoundLoad((), 1, chosen.randint(*setup.answer), temperature, 0.9)
        prompt = model.make_prompt(chosen.randint(*setup.prompt), index)
        message = target.message(prompt, load, index)
        label = "sampled" if temperature else str(index)
        requests.append(LoadRequest(message, keeps_body=not temperature, label=label))
    return requests


def soak_figures(
    records: Sequence[StreamRecord],
    alone: Mapping[str, str],
    memory: Sequence[tuple[float, int]],
    warm_up: float,
) -> list[BenchFigure]:
    """Figures of all answers and of the memory between them.

    Args:
        records: of all requests.
        alone: text of each greedy request by its label, answered alone.
        memory: (share of the time, bytes) in order.
        warm_up: share of the time after which memory must be flat.
    """
    name = "soak"
    broken = [r for r in records if not r.whole and not r.cancelled]
    compared = [r for r in records if r.whole and r.label in alone]
    different = [r for r in compared if r.text != alone[r.label]]
    cancelled = sum(record.cancelled for record in records)
    count = f"of {len(records)}, {cancelled} of them cancelled"
    later = [(at, size) for at, size in memory if at >= warm_up]
    tenth = max(1, len(later) // 10)
    first = float(np.median([size for _, size in later[:tenth]]))
    last = float(np.median([size for _, size in later[-tenth:]]))
    return [
        BenchFigure.against_target(f"{name}: broken answers", len(broken), "", 0, note=count),
        BenchFigure.against_target(
            f"{name}: greedy answers other than alone",
            len(different),
            "",
            0,
            note=f"of {len(compared)}",
        ),
        BenchFigure.against_target(
            f"{name}: growth of memory after warm-up",
            last / first - 1,
            "",
            MOST_GROWTH,
            note=f"{first / 2**20:.1f} MB to {last / 2**20:.1f} MB",
        ),
    ]


def slots_figure(target: HttpTarget, model: BenchModel, setup: SoakSetup) -> BenchFigure:
    """Slots that answer at the same time: every one begins before any ends.

    Args:
        target: the server, at rest.
        model: makes the prompts.
        setup: number of slots and lengths.
    """
    load = RoundLoad((), 1, model.shape.context // 2)
    requests = [
        LoadRequest(target.message(model.make_prompt(4, index), load, index))
        for index in range(setup.slots)
    ]
    records = LoadGenerator(target.server.port).run_closed(requests, setup.slots)
    first_end = min(record.ended_at for record in records)
    together = sum(bool(r.event_times) and r.event_times[0] < first_end for r in records)
    return BenchFigure.against_target(
        "soak: slots lost", setup.slots - together, "", 0, note=f"of {setup.slots}"
    )
