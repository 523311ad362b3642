"""Throughput probe: ten seconds that measure how fast models of several sizes train here.

Steps of the real model and optimiser at rate 0; sizes take turns, so that a busy moment hits all.
"""

from __future__ import annotations

import statistics
import time

from components.train.autopilot.compute_optimal import CorpusSize, MeasuredMachine, candidate_shapes
from components.train.budget.speed_probe import STEP_TOKENS, make_training_step
from models.precision import Precision

PROBE_SECONDS = 10.0
PROBED_SHAPES = (0, 1, 3, 5)
"""Indices of the candidate shapes that are measured."""
LEAST_ROUNDS = 3


def probe_machine(
    corpus: CorpusSize, precision: Precision, seconds: float = PROBE_SECONDS
) -> MeasuredMachine:
    """Measure the throughput of a few sizes, and the free memory.

    Args:
        corpus: vocabulary and context of the shapes.
        precision: dtype of activations.
        seconds: seconds of all steps, about; a slow machine gets at least ``LEAST_ROUNDS`` rounds.
    """
    import psutil

    shapes = [candidate_shapes(corpus)[at] for at in PROBED_SHAPES]
    steps = [
        make_training_step(shape, corpus.context, precision, tokens=STEP_TOKENS) for shape in shapes
    ]
    durations: list[list[float]] = [[] for _ in shapes]
    began = time.perf_counter()
    while len(durations[-1]) < LEAST_ROUNDS or time.perf_counter() - began < seconds:
        for step, times in zip(steps, durations, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    rates = [STEP_TOKENS / statistics.median(times[1:]) for times in durations]
    pairs = tuple((shape.parameters, rate) for shape, rate in zip(shapes, rates, strict=True))
    return MeasuredMachine(pairs, float(psutil.virtual_memory().available))
