"""Loss spikes: their detection, and the batches that are skipped after a rollback.

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
from components.core.store.artifact import canonical_json
from components.train.training_config import TrainingSafetyConfig

SETBACKS_FILE = "setbacks.json"
SPARE_BATCHES = 1 << 30
"""Number of the first batch that stands in for a skipped one: no training gets that far."""
MAD_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations, 1 / Phi^-1(3/4)."""
LEAST_DEVIATION = 0.01
"""Least deviation as a fraction of the median: losses of a converged model hardly deviate."""


def spike_bound(losses: Sequence[float], config: TrainingSafetyConfig) -> float:
    """Loss above which the step after ``losses`` is a spike; infinite before there are enough.

    A pure function of the losses, so a resumed training finds the same spikes.
    """
    if config.spike is None or len(losses) < config.spike_window:
        return float("inf")
    last = np.asarray(losses[-config.spike_window :])
    middle = float(np.median(last))
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(last - middle)))
    return middle + config.spike * max(deviation, LEAST_DEVIATION * middle)


@dataclass
class Rollbacks:
    """Rollbacks so far, journalled before training continues from an earlier state."""

    path: Path
    skips: dict[int, int] = field(default_factory=dict)
    """step -> number of times its batch was skipped"""
    broken: int = 0
    spikes: int = 0

    @classmethod
    def read(cls, scratch: Path) -> Rollbacks:
        """Read the journal of an earlier try; empty where there is none.

        Raises:
            DataError: the journal is damaged.
        """
        path = scratch / SETBACKS_FILE
        if not path.is_file():
            return cls(path)
        try:
            journal = json.loads(path.read_bytes())
            windows = {int(step): int(times) for step, times in journal["windows"].items()}
            return cls(path, windows, int(journal["broken"]), int(journal["spikes"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{SETBACKS_FILE} is damaged ({error}); delete it to start anew"
            ) from error

    def skip_batches(self, steps: Sequence[int], *, spike: bool) -> None:
        """Skip the batches of ``steps`` from now on."""
        for step in steps:
            self.skips[step] = self.skips.get(step, 0) + 1
        self.spikes += spike
        self.broken += not spike

    def write(self) -> None:
        """Write the journal."""
        journal = {"windows": self.skips, "broken": self.broken, "spikes": self.spikes}
        write_atomically(self.path, canonical_json(journal))

    @property
    def skipped(self) -> int:
        """Number of skipped batches, each counted as often as it was."""
        return sum(self.skips.values())

    def batch_number(self, step: int) -> int:
        """Number of the batch of a step; a skipped one is replaced by one beyond the end."""
        times = self.skips.get(step, 0)
        if not times:
            return step
        earlier = sum(count for at, count in self.skips.items() if at < step)
        return SPARE_BATCHES + earlier + times - 1
