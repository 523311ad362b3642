"""Warm-up, stable, decay (WSD; Hu et al. 2024, arXiv:2404.06395): a factor on every peak rate."""

from __future__ import annotations

import math

from components.train.recipe import ScheduleConfig


def rate_factor(step: int, steps: int, config: ScheduleConfig) -> float:
    """Factor in (0, 1] for ``step`` of ``steps`` (counted from 0): up, flat, linearly down.

    The first step already moves and the last still does, however short the run.
    """
    warmup = math.ceil(config.warmup * steps)
    decay = max(1, math.ceil(config.decay * steps)) if config.decay > 0 else 0
    factor = min(1.0, (step + 1) / (warmup + 1))
    left = steps - step
    if decay and left < decay:
        factor = min(factor, config.floor + (1.0 - config.floor) * left / decay)
    return factor
