"""When a loss is a spike, and which windows are left out after a setback.

Large trainings go back to a state from before a spike and leave out the windows around it, since
the same data on other weights do no harm: PaLM (Chowdhery et al. 2022, arXiv:2204.02311, section
5.1; about 100 steps back, 200 to 500 batches left out) and OPT (Zhang et al. 2022,
arXiv:2205.01068, section 2.5). A spike is a loss that lies ``spike`` robust deviations (1.4826
times the median absolute deviation) above the median of the last ``spike_window`` losses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical
from components.train.training_config import SafetyConfig

JOURNAL = "setbacks.json"
SPARE = 1 << 30
"""The first of the windows that stand in for those left out: no training comes so far."""
NORMAL = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""
LEAST = 0.01
"""Of the median: the losses of a model that has learnt everything hardly deviate at all."""


def spike_bound(losses: Sequence[float], config: SafetyConfig) -> float:
    """The loss above which the step after ``losses`` is a spike; infinite before there are enough.

    Pure in the losses, so a resumed training finds the same spikes.
    """
    if config.spike is None or len(losses) < config.spike_window:
        return float("inf")
    last = np.asarray(losses[-config.spike_window :])
    middle = float(np.median(last))
    deviation = NORMAL * float(np.median(np.abs(last - middle)))
    return middle + config.spike * max(deviation, LEAST * middle)


@dataclass
class Setbacks:
    """What was undone so far, journalled before training goes on from an earlier state."""

    path: Path
    windows: dict[int, int] = field(default_factory=dict)
    """step -> how often its window was left out"""
    broken: int = 0
    spikes: int = 0

    @classmethod
    def read(cls, scratch: Path) -> Setbacks:
        """Those of an earlier try.

        Raises:
            DataError: the journal is damaged.
        """
        path = scratch / JOURNAL
        if not path.is_file():
            return cls(path)
        try:
            told = json.loads(path.read_bytes())
            windows = {int(step): int(times) for step, times in told["windows"].items()}
            return cls(path, windows, int(told["broken"]), int(told["spikes"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{JOURNAL} is damaged ({error}); delete it to start anew") from error

    def add(self, steps: Sequence[int], *, spike: bool) -> None:
        """Leave the windows of ``steps`` out from now on."""
        for step in steps:
            self.windows[step] = self.windows.get(step, 0) + 1
        self.spikes += spike
        self.broken += not spike

    def write(self) -> None:
        """Journal all of it."""
        told = {"windows": self.windows, "broken": self.broken, "spikes": self.spikes}
        write_atomically(self.path, canonical(told))

    @property
    def skipped(self) -> int:
        """Windows left out, each as often as it was."""
        return sum(self.windows.values())

    def window(self, step: int) -> int:
        """The batch of a step; one that was left out is replaced by one from far behind the end."""
        times = self.windows.get(step, 0)
        if not times:
            return step
        earlier = sum(count for at, count in self.windows.items() if at < step)
        return SPARE + earlier + times - 1
