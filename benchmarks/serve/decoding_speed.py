"""Tokens a second of 1, 4 and 16 streams, greedy and sampled, beside llama.cpp and genai.

Two comparisons of like with like: server beside server, over HTTP on loopback, and engine beside
engine in programs of their own, since llama.cpp's native build and onnxruntime-genai have no
server. The rounds of all alternate, each with prompts of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.targets.load_targets import LoadTarget, RoundLoad, RoundResult
from benchmarks.serve.targets.packed_server import OURS
from benchmarks.serve.targets.peer_servers import open_targets
from benchmarks.serve.targets.served_models import BENCH_SHAPES, BenchModel, make_bench_model
from models.shape import DecoderShape

STREAMS = (1, 4, 16)
TARGETS: Mapping[str, Mapping[int, float]] = {
    "3 M": {1: 1.1, 4: 1.5, 16: 2.0},
    "25 M": {1: 0.8, 4: 1.3, 16: 1.4},
}
"""Least speed as a multiple of the better peer's, by size and streams."""
PROMPT_TOKENS, ANSWER_TOKENS = 16, 192
ANSWERS_PER_STREAM = 2
"""Of one round, so that streams also end and begin while others go on."""
SAMPLED = {"temperature": 0.7, "top_p": 0.9}


@dataclass(frozen=True)
class SpeedSetup:
    """Shapes and lengths of a measurement; a test has small ones."""

    shapes: Mapping[str, DecoderShape]
    streams: Sequence[int] = STREAMS
    answer_tokens: int = ANSWER_TOKENS
    answers_per_stream: int = ANSWERS_PER_STREAM
    prompt_tokens: int = PROMPT_TOKENS


def measure_speed(
    setting: BenchSetting, setup: SpeedSetup = SpeedSetup(BENCH_SHAPES)
) -> list[BenchFigure]:
    """Speeds of every size, number of streams and way of sampling.

    Args:
        setting: scratch folder, repeats and peers.
        setup: shapes and lengths.

    Raises:
        MillError: a target failed, or a peer computes something else.
    """
    figures: list[BenchFigure] = []
    for label, shape in setup.shapes.items():
        setting.on_progress(f"speed: {label}")
        model = make_bench_model(setting.scratch / label.replace(" ", "-"), label, shape)
        with open_targets(setting, model, setting.scratch / f"home-{shape.width}") as targets:
            for place, group in (("over HTTP", targets.servers), ("in process", targets.engines)):
                for sampling in ({}, SAMPLED):
                    for streams in setup.streams:
                        results = run_rounds(setting, model, group, streams, sampling, setup)
                        way = ", temperature 0.7, top-p 0.9" if sampling else ""
                        name = f"{label}, {_streams(streams)}{way}, {place}"
                        target = TARGETS.get(label, {}).get(streams)
                        figures += speed_figures(name, results, target, targets.absent[place])
    return figures


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"


def run_rounds(
    setting: BenchSetting,
    model: BenchModel,
    targets: Sequence[LoadTarget],
    streams: int,
    sampling: Mapping[str, float],
    setup: SpeedSetup,
) -> dict[str, list[RoundResult]]:
    """Results of each target, its rounds in turn with the others'.

    Args:
        setting: number of repeats.
        model: makes the prompts.
        targets: ours first.
        streams: answers at a time.
        sampling: temperature and top-p; nothing is greedy.
        setup: lengths.
    """
    results: dict[str, list[RoundResult]] = {target.name: [] for target in targets}
    count = streams * setup.answers_per_stream
    for repeat in range(-1, setting.repeats):  # the first round warms up
        prompts = [
            model.make_prompt(setup.prompt_tokens, (repeat + 1) * count + index)
            for index in range(count)
        ]
        tokens = setup.answer_tokens if repeat >= 0 else max(8, setup.answer_tokens // 4)
        load = RoundLoad(prompts, streams, tokens, **sampling, seed=repeat + 1)
        for target in targets:
            result = target.run_round(load)
            if repeat >= 0:
                results[target.name].append(result)
    return results


def speed_figures(
    name: str,
    results: Mapping[str, Sequence[RoundResult]],
    target: float | None,
    absent: str,
) -> list[BenchFigure]:
    """The speed beside the quickest peer's, and the multiple that the target bounds.

    Args:
        name: row of the report.
        results: rounds of each target, ours among them.
        target: least multiple of the better peer's speed.
        absent: the reason why there is no peer, where there is none.
    """
    speeds = {who: statistics.median(r.speed for r in rounds) for who, rounds in results.items()}
    ours, peers = speeds[OURS], {who: s for who, s in speeds.items() if who != OURS}
    note = "; ".join(_describe_rounds(who, rounds) for who, rounds in results.items())
    multiple = f"{name}: times the better peer"
    if not peers:
        speed = BenchFigure(name, ours, "tokens/s", better="higher", note=f"{note}; {absent}")
        return [speed, BenchFigure.unavailable(multiple, "", absent)]
    best = max(peers, key=lambda who: peers[who])
    speed = BenchFigure.beside_peer(
        name, ours, "tokens/s", best, peers[best], False, better="higher", note=note
    )
    if target is None:
        return [speed]
    # Of rounds side by side, since a machine's speed drifts.
    ratios = [
        own.speed / peer.speed for own, peer in zip(results[OURS], results[best], strict=True)
    ]
    return [
        speed,
        BenchFigure.against_target(
            multiple,
            statistics.median(ratios),
            "",
            target,
            better="higher",
            note=f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds",
        ),
    ]


def _describe_rounds(who: str, rounds: Sequence[RoundResult]) -> str:
    speed = statistics.median(result.speed for result in rounds)
    processor = statistics.median(result.processor_us for result in rounds)
    client = statistics.median(result.client_us for result in rounds)
    load = f", {client:.0f} of the load generator" if client else ""
    return f"{who} {speed:,.0f}/s, {processor:,.0f} µs of processor a token{load}"
