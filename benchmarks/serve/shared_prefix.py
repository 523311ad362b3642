"""Speed of 16 streams whose prompts begin with the same 300 tokens, beside llama.cpp's server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.decoding_speed import speed_figures
from benchmarks.serve.targets.load_targets import LoadTarget, RoundLoad, RoundResult
from benchmarks.serve.targets.peer_servers import open_targets
from benchmarks.serve.targets.served_models import BenchModel, make_bench_model
from models.shape import DecoderShape
from models.shape_presets import TINY

LEAST_MULTIPLE = 2.0


@dataclass(frozen=True)
class PrefixSetup:
    """Shape and lengths; a test has small ones."""

    shape: DecoderShape = TINY
    streams: int = 16
    shared: int = 300
    own: int = 16
    answer: int = 64
    answers_per_stream: int = 4


def measure_shared_prefix(
    setting: BenchSetting, setup: PrefixSetup = PrefixSetup()
) -> list[BenchFigure]:
    """Tokens a second of answers to questions behind one system prompt.

    Args:
        setting: scratch folder, repeats and peers.
        setup: shape and lengths.

    Raises:
        MillError: a target failed, or a peer computes something else.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    with open_targets(setting, model, setting.scratch / "home") as targets:
        absent = targets.absent["over HTTP"]
        return prefix_figures(targets.servers, model, setup, setting.repeats, absent)


def prefix_figures(
    targets: Sequence[LoadTarget], model: BenchModel, setup: PrefixSetup, repeats: int, absent: str
) -> list[BenchFigure]:
    """Figures of each server's rounds, in turn.

    Args:
        targets: servers, ours first.
        model: makes the prompts.
        setup: lengths.
        repeats: measurements of which the median is reported.
        absent: the reason why there is no peer, where there is none.
    """
    results: dict[str, list[RoundResult]] = {target.name: [] for target in targets}
    for repeat in range(-1, repeats):  # the first round warms up
        load = _shared_load(model, setup, repeat + 1)
        for target in targets:
            result = target.run_round(load)
            if repeat >= 0:
                results[target.name].append(result)
    name = f"{setup.streams} streams sharing a system prompt of {setup.shared} tokens"
    return speed_figures(name, results, LEAST_MULTIPLE, absent)


def _shared_load(model: BenchModel, setup: PrefixSetup, repeat: int) -> RoundLoad:
    """Prompts of one round: the same beginning in all rounds, each its own end."""
    shared, count = (
        model.make_prompt(setup.shared, seed=0),
        setup.streams * setup.answers_per_stream,
    )
    ends = (model.make_prompt(setup.own, 1 + repeat * count + index) for index in range(count))
    return RoundLoad([f"{shared} {end}" for end in ends], setup.streams, setup.answer)
