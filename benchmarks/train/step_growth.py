"""Scaling of a step's time and memory with the model's width and with the sequence length.

Exponents are slopes of the logarithms by least squares. Models grow in width at a fixed number of
layers and tokens; each step trains on one block, so its tokens grow with the sequence length.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.peer_programs import bench_environment, run_program
from components.train.pretrain_config import PretrainConfig
from flows.configs.presets import tiny_run
from models.shape import DecoderShape

WIDTHS = (128, 256, 384, 512)
LENGTHS = (256, 512, 1024, 2048)
BLOCK, TOKENS = 256, 1024
STEPS, WARM_UPS = 8, 3


@dataclass(frozen=True)
class StepPoint:
    """Step time and peak memory of one training."""

    size: int
    seconds: float
    megabytes: float


def measure_growth(setting: BenchSetting) -> list[BenchFigure]:
    """Step time and peak memory of every size, then the exponents."""
    models = [
        _measure_point(setting, shape, shape.parameters, BLOCK, TOKENS)
        for shape in map(_shape_of_width, WIDTHS)
    ]
    blocks = [
        _measure_point(setting, _shape_of_context(length), length, length, length)
        for length in LENGTHS
    ]
    figures: list[BenchFigure] = []
    for point in models:
        figures += _point_figures(f"{point.size / 1e6:.1f} M parameters", point)
    for point in blocks:
        figures += _point_figures(f"block of {point.size}", point)
    return figures + _exponent_figures("parameters", models) + _exponent_figures("block", blocks)


def _exponent_figures(dimension: str, points: Sequence[StepPoint]) -> list[BenchFigure]:
    sizes = [point.size for point in points]
    return [
        BenchFigure(
            f"growth of time with {dimension}: exponent",
            fit_exponent(sizes, [p.seconds for p in points]),
            "",
        ),
        BenchFigure(
            f"growth of memory with {dimension}: exponent",
            fit_exponent(sizes, [p.megabytes for p in points]),
            "",
        ),
    ]


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of ``values`` as a power of ``sizes``."""
    logs = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return float(np.polyfit(*logs, 1)[0])


def _point_figures(name: str, point: StepPoint) -> list[BenchFigure]:
    return [
        BenchFigure(f"step: {name}", point.seconds * 1000, "ms"),
        BenchFigure(f"peak memory: {name}", point.megabytes, "MB"),
    ]


def _shape_of_width(width: int) -> DecoderShape:
    heads = width // 64
    return dataclasses.replace(
        tiny_run().pretrain.shape, width=width, heads=heads, kv_heads=heads // 2, hidden=3 * width
    )


def _shape_of_context(length: int) -> DecoderShape:
    return dataclasses.replace(tiny_run().pretrain.shape, context=length)


def _measure_point(
    setting: BenchSetting, shape: DecoderShape, size: int, sequence_length: int, tokens: int
) -> StepPoint:
    """Step time and peak memory of a training in a process of its own."""
    config = PretrainConfig(
        shape=shape,
        steps=STEPS,
        sequence_length=sequence_length,
        short_sequence_length=sequence_length,
        batch=tokens,
        micro_batch=tokens,
    )
    setting.on_progress(f"{shape.parameters / 1e6:.1f} M parameters, blocks of {sequence_length}")
    path = setting.scratch / "config.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "benchmarks.train.step_time", str(path), str(WARM_UPS)]
    _, output = run_program(command, bench_environment())
    seconds, megabytes = json.loads(output.strip().splitlines()[-1])
    return StepPoint(size, seconds, megabytes)
