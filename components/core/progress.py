"""Progress of a stage; whoever listens decides how to show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.core.tracking import NoTracker, Tracker

if TYPE_CHECKING:
    from components.core.training_speed import TrainingSpeed


@dataclass
class Progress:
    """Done and total of one stage, in ``unit``s; ``note`` is a live figure (``loss 3.21``)."""

    total: float | None = None
    unit: str = "rows"
    done: float = 0.0
    note: str = ""
    resumed: str = ""
    """From where an earlier try is gone on with, ``at step 400``; empty for a first try."""
    listener: Callable[[Progress], None] | None = None
    tracker: Callable[[], Tracker] = NoTracker
    """Opens where a training's figures are recorded; by default nowhere."""
    achieved: Callable[[TrainingSpeed], None] | None = None
    """Told how quick a training was that has ended; by default nobody."""
    _started: float = field(default_factory=time.monotonic)
    _at_start: float = 0.0

    def start(self, total: float | None, unit: str, done: float = 0.0) -> None:
        """Begin (or begin again) a count; ``done`` is what an earlier try already did."""
        self.total, self.unit, self.done, self.note = total, unit, done, ""
        self._started, self._at_start = time.monotonic(), done
        self._tell()

    def resume(self, where: str) -> None:
        """Say that an earlier try is gone on with; of several places the first is kept."""
        self.resumed = self.resumed or where

    def advance(self, by: float = 1.0, note: str | None = None) -> None:
        """Count ``by`` more units as done."""
        self.done += by
        if note is not None:
            self.note = note
        self._tell()

    @property
    def rate(self) -> float:
        """Units a second since ``start``."""
        return (self.done - self._at_start) / max(time.monotonic() - self._started, 1e-6)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the present rate; None where no total or no rate is known."""
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0.0) / self.rate

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener(self)
