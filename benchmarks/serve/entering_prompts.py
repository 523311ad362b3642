"""Time a token of running streams while long prompts enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.load_generator import LoadGenerator, LoadRequest, StreamRecord
from benchmarks.serve.targets.load_targets import HttpTarget, LoadTarget, RoundLoad
from benchmarks.serve.targets.peer_servers import open_targets
from benchmarks.serve.targets.served_models import BenchModel, make_bench_model
from models.shape import DecoderShape
from models.shape_presets import TINY

MOST_TIMES_MEDIAN = 2.0


@dataclass(frozen=True)
class PromptsSetup:
    """Shape, lengths and times; a test has small ones."""

    shape: DecoderShape = TINY
    running: int = 8
    answer: int = 480
    """Tokens of each running stream."""
    prompt: int = 400
    prompts: int = 12
    """Entering one after another, ``gap`` seconds apart."""
    gap: float = 0.1


def measure_entering_prompts(
    setting: BenchSetting, setup: PromptsSetup = PromptsSetup()
) -> list[BenchFigure]:
    """99th percentile of the time between two tokens, as a multiple of its median.

    Args:
        setting: scratch folder, repeats and peers.
        setup: shape, lengths and times.

    Raises:
        MillError: a target failed to start.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    with open_targets(setting, model, setting.scratch / "home") as targets:
        return entering_figures(targets.servers, model, setup, setting.repeats)


def entering_figures(
    targets: Sequence[LoadTarget], model: BenchModel, setup: PromptsSetup, repeats: int
) -> list[BenchFigure]:
    """Figures of the running streams of each server, in turn.

    Args:
        targets: servers, ours first.
        model: makes the prompts.
        setup: lengths and times.
        repeats: measurements of which the median is reported.
    """
    multiples: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for repeat in range(repeats):
        for target in targets:
            assert isinstance(target, HttpTarget)
            gaps = token_gaps(_run_streams(target, model, setup, repeat))
            median, late = np.median(gaps), np.quantile(gaps, 0.99)
            multiples.setdefault(target.name, []).append(float(late / median))
            notes[target.name] = (
                f"{target.name} median {median * 1e3:.2f} ms, 99th {late * 1e3:.2f} ms, "
                f"largest {max(gaps) * 1e3:.0f} ms"
            )
    values = [float(np.median(found)) for found in multiples.values()]
    name = f"prompts of {setup.prompt} tokens entering: time a token of running streams"
    figure = f"{name}, 99th percentile over median"
    ours = BenchFigure.against_target(
        figure, values[0], "", MOST_TIMES_MEDIAN, note="; ".join(notes.values())
    )
    if len(values) == 1:
        return [ours]
    peer = targets[1].name
    return [ours, BenchFigure.beside_peer(figure, values[0], "", peer, values[1], False)]


def _run_streams(
    target: HttpTarget, model: BenchModel, setup: PromptsSetup, repeat: int
) -> list[StreamRecord]:
    """Records of the running streams, while the prompts enter."""
    requests, offsets = [], []
    for index in range(setup.running):
        load = RoundLoad((), 1, setup.answer)
        text = model.make_prompt(8, 1000 + repeat * setup.running + index)
        requests.append(LoadRequest(target.message(text, load, index), label="running"))
        offsets.append(0.0)
    for index in range(setup.prompts):
        text = model.make_prompt(setup.prompt, 2000 + repeat * setup.prompts + index)
        requests.append(LoadRequest(target.message(text, RoundLoad((), 1, 4), index), label="long"))
        offsets.append((index + 1) * setup.gap)
    records = LoadGenerator(target.server.port).run_open(requests, offsets)
    return [record for record in records if record.label == "running"]


def token_gaps(records: list[StreamRecord]) -> list[float]:
    """Seconds between two tokens of a stream, from its second token on.

    Tokens that came together share their time: each of n has a part of 1/n in it.
    """
    gaps: list[float] = []
    for record in records:
        times, counts = np.unique(record.event_times, return_counts=True)
        for seconds, count in zip(np.diff(times), counts[1:], strict=True):
            gaps += [float(seconds) / int(count)] * int(count)
    return gaps
