"""Ten seconds that tell how many tokens a second models of several sizes train on here.

Steps of the real model and optimiser at rate 0, sizes in turn, so that a busy moment hits all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.core.precision import Precision
from components.train.autopilot import Corpus, Probe, ladder

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 10.0
SIZES = (0, 1, 3, 5)
"""Rungs of the ladder that are measured."""
TOKENS = 2048
LEAST_ROUNDS = 3


def probe_machine(corpus: Corpus, precision: Precision, seconds: float = SECONDS) -> Probe:
    """Measure for about ``seconds``; at least a few rounds, however slow the machine."""
    import psutil

    shapes = [ladder(corpus)[at] for at in SIZES]
    steps = [_step(corpus, at, precision) for at in SIZES]
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


def _step(corpus: Corpus, at: int, precision: Precision) -> Callable[[], None]:
    """A whole step of a rung of the ladder, ready to be called again and again."""
    import torch

    from components.core.allocator import keep_freed_memory
    from components.core.precision import dtype_of
    from components.train.optim import Optimiser
    from components.train.recipe import OptimConfig
    from models.decoder import Decoder

    keep_freed_memory()
    before = torch.get_rng_state()
    model = Decoder(ladder(corpus)[at])
    model.compute = dtype_of(precision)
    optimiser = Optimiser(model, OptimConfig())
    length = min(corpus.context, TOKENS)
    ids = torch.randint(corpus.vocabulary, (TOKENS // length, length + 1))
    torch.set_rng_state(before)
    share = torch.full(ids[:, 1:].shape, 1.0 / TOKENS)

    def step() -> None:
        loss: Tensor = model.loss(model.hidden(ids[:, :-1]), ids[:, 1:], share)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.clip()
        optimiser.step(0.0)
        optimiser.zero_grad()

    return step
