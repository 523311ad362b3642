"""Time budget of a stage in steps at a measured speed, and the refusal of one that is too short.

Free of torch: a plan and the check before a crawl say the same as the training itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_STEPS = 50
"""Default of ``min_steps``: in fewer steps the rates have hardly come up when they go down."""
WARM_UP_STEPS, PROBE_STEPS = 2, 3
"""Steps of a probe: the first two, which allocate, are left out of the mean over the other three.

More would measure better and cost the budget: these are steps that teach nothing.
"""
ADVISED_MARGIN = 1.1
"""Margin on the minutes that a refusal advises: no two probes are equal."""


@dataclass(frozen=True)
class MinutesBudget:
    """Time budget of one stage, with the seconds that a step of it takes here."""

    stage: str
    minutes: float
    seconds_a_step: float
    min_steps: int = MIN_STEPS
    probe_seconds: float = 0.0
    """Share of the minutes that the probe takes."""
    most_steps: int | None = None
    """Upper bound: the steps of the epochs that are allowed."""

    @property
    def steps(self) -> int:
        """Steps that fit into the minutes; at least one."""
        steps = max(1, int((60.0 * self.minutes - self.probe_seconds) / self.seconds_a_step))
        return steps if self.most_steps is None else min(steps, self.most_steps)

    def __str__(self) -> str:
        """``1 minute is 45 steps of 1.3 s here``."""
        named = "1 minute is" if self.minutes == 1 else f"{self.minutes:g} minutes are"
        return f"{named} {_format_steps(self.steps)} of {self.seconds_a_step:.2g} s here"

    @property
    def refusal(self) -> str | None:
        """Error message for too few steps, with the minutes to set; None where there are enough."""
        least = self.min_steps if self.most_steps is None else min(self.min_steps, self.most_steps)
        if self.steps >= least:
            return None
        enough = (ADVISED_MARGIN * least * self.seconds_a_step + self.probe_seconds) / 60.0
        return (
            f"{self.stage}.minutes: {self.minutes:g} is {_format_steps(self.steps)} of "
            f"{self.seconds_a_step:.2g} s here: set at least {_round_up_two_digits(enough):g}, "
            f"which is {least}, or allow it with {self.stage}.min_steps: {self.steps}"
        )


def _format_steps(steps: int) -> str:
    return f"{steps:,} step{'' if steps == 1 else 's'}"


def _round_up_two_digits(value: float) -> float:
    """Two significant digits, never below ``value``."""
    unit: float = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.2g}")
