"""Learning-rate schedules: a factor on every peak rate.

Warm-up, stable, decay (WSD; Hu et al. 2024, arXiv:2404.06395), or a cosine (Loshchilov & Hutter,
arXiv:1608.03983).
"""

from __future__ import annotations

import math

from components.train.budget.step_plan import StepProgress
from components.train.training_config import ScheduleConfig


def rate_factor(step: int, steps: int, config: ScheduleConfig) -> float:
    """Factor in (0, 1] for a step of a training whose number of steps is fixed.

    Args:
        step: counted from 0.
        steps: steps of the whole training.
        config: the schedule.
    """
    return rate_factor_at(StepProgress(step / steps, 1.0 / steps), config)


def rate_factor_at(point: StepProgress, config: ScheduleConfig) -> float:
    """Factor in (0, 1] for the step at a point of the plan.

    Warm-up and decay take whole steps. The first and the last step still move the weights, however
    short the training.
    """
    steps = 1.0 / point.stride
    steps_done = point.progress * steps
    warmup = _whole_steps(config.warmup * steps)
    factor = min(1.0, (steps_done + 1.0) / (warmup + 1))
    steps_left, decay = steps - steps_done, _whole_steps(config.decay * steps)
    if config.kind == "cosine":
        along = max(0.0, steps_done - warmup) / max(1.0, steps - warmup)
        return factor * (
            config.floor + (1.0 - config.floor) * 0.5 * (1.0 + math.cos(math.pi * along))
        )
    if steps_left < decay:
        factor = min(factor, config.floor + (1.0 - config.floor) * steps_left / decay)
    return factor


def _whole_steps(steps: float) -> int:
    """Round up, but ignore an excess of 1e-6, which is rounding error."""
    return math.ceil(steps - 1e-6)
