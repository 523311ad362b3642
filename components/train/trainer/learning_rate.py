"""Warm-up, stable, decay (WSD; Hu et al. 2024, arXiv:2404.06395): a factor on every peak rate.

A cosine (Loshchilov & Hutter, arXiv:1608.03983) is the other choice.
"""

from __future__ import annotations

import math

from components.train.budget.step_plan import Place
from components.train.training_config import ScheduleConfig


def rate_factor(step: int, steps: int, config: ScheduleConfig) -> float:
    """Factor in (0, 1] for ``step`` of ``steps`` (counted from 0): up, flat, linearly down."""
    return rate_at(Place(step / steps, 1.0 / steps), config)


def rate_at(place: Place, config: ScheduleConfig) -> float:
    """Factor in (0, 1] for the step at ``place``.

    Warm-up and decay take whole steps. The first step already moves and the last still does,
    however short the run.
    """
    steps = 1.0 / place.stride
    done = place.progress * steps
    warmup = _whole(config.warmup * steps)
    factor = min(1.0, (done + 1.0) / (warmup + 1))
    left, decay = steps - done, _whole(config.decay * steps)
    if config.kind == "cosine":
        along = max(0.0, done - warmup) / max(1.0, steps - warmup)
        return factor * (
            config.floor + (1.0 - config.floor) * 0.5 * (1.0 + math.cos(math.pi * along))
        )
    if left < decay:
        factor = min(factor, config.floor + (1.0 - config.floor) * left / decay)
    return factor


def _whole(steps: float) -> int:
    """Rounded up, but for what floating point added."""
    return math.ceil(steps - 1e-6)
