"""Ten seconds that tell how many tokens a second models of several sizes train on here.

Steps of the real model and optimiser at rate 0, sizes in turn, so that a busy moment hits all.
"""

from __future__ import annotations

import statistics
import time

from components.train.autopilot.compute_optimal import Corpus, Probe, ladder
from components.train.budget.speed_probe import TOKENS, training_step
from models.precision import Precision

SECONDS = 10.0
SIZES = (0, 1, 3, 5)
"""Rungs of the ladder that are measured."""
LEAST_ROUNDS = 3


def probe_machine(corpus: Corpus, precision: Precision, seconds: float = SECONDS) -> Probe:
    """Measure for about ``seconds``; at least a few rounds, however slow the machine."""
    import psutil

    shapes = [ladder(corpus)[at] for at in SIZES]
    steps = [training_step(shape, corpus.context, precision, tokens=TOKENS) for shape in shapes]
    took: list[list[float]] = [[] for _ in shapes]
    began = time.perf_counter()
    while len(took[-1]) < LEAST_ROUNDS or time.perf_counter() - began < seconds:
        for step, times in zip(steps, took, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    rates = [TOKENS / statistics.median(times[1:]) for times in took]
    pairs = tuple((shape.parameters, rate) for shape, rate in zip(shapes, rates, strict=True))
    return Probe(pairs, float(psutil.virtual_memory().available))
