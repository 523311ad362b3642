"""A budget in minutes, as the steps it comes to here, and the line on one that is too short.

Free of torch: a plan and the check before a crawl say the same as the training itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import Field

MIN_STEPS = 50
"""Fewer steps of training teach nothing: the rates have hardly come up when they go down again."""
WARM_UPS, PROBES = 2, 3
"""Steps of a probe: the first ones, which allocate, are left out of its mean."""
SPARE = 1.1
"""The minutes that are advised give so many times the least steps: no two probes are equal."""


def min_steps_field() -> int:
    """The field of a config that bounds its budget in minutes; no part of a stage's key."""
    steps: int = Field(
        default=MIN_STEPS,
        ge=1,
        description="fewest steps that minutes may come to; fewer are refused before they begin",
    )
    return steps


@dataclass(frozen=True)
class MinutesBudget:
    """Minutes of one stage at a measured speed."""

    stage: str
    minutes: float
    seconds_a_step: float
    min_steps: int = MIN_STEPS
    probe_seconds: float = 0.0
    """Of the minutes, what measuring takes."""
    most: int | None = None
    """Never more steps than these, as many as the epochs that are allowed have."""

    @property
    def steps(self) -> int:
        """Steps that fit, never less than one."""
        steps = max(1, int((60.0 * self.minutes - self.probe_seconds) / self.seconds_a_step))
        return steps if self.most is None else min(steps, self.most)

    def __str__(self) -> str:
        """``1 minute is 45 steps of 1.3 s here``."""
        named = "1 minute is" if self.minutes == 1 else f"{self.minutes:g} minutes are"
        return f"{named} {_counted(self.steps)} of {self.seconds_a_step:.2g} s here"

    @property
    def refusal(self) -> str | None:
        """Why it is too short to train by, with the figure to set; None where it is not."""
        least = self.min_steps if self.most is None else min(self.min_steps, self.most)
        if self.steps >= least:
            return None
        enough = (SPARE * least * self.seconds_a_step + self.probe_seconds) / 60.0
        return (
            f"{self.stage}.minutes: {self.minutes:g} is {_counted(self.steps)} of "
            f"{self.seconds_a_step:.2g} s here: set at least {_rounded_up(enough):g}, which is "
            f"{least}, or allow it with {self.stage}.min_steps: {self.steps}"
        )


def _counted(steps: int) -> str:
    return f"{steps:,} step{'' if steps == 1 else 's'}"


def _rounded_up(value: float) -> float:
    """Two significant digits, never below ``value``."""
    unit: float = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.2g}")
