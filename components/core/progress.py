"""Progress of a stage, reported to a listener that decides how to show it."""

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
    """Units done of one stage's total; ``note`` is a live figure (``loss 3.21``)."""

    total: float | None = None
    unit: str = "rows"
    done: float = 0.0
    note: str = ""
    resumed: str = ""
    """Point from which an earlier try is resumed, ``at step 400``; empty for a first try."""
    listener: Callable[[Progress], None] | None = None
    open_tracker: Callable[[], Tracker] = NoTracker
    """Factory of the tracker that records a training's figures; by default nowhere."""
    on_training_speed: Callable[[TrainingSpeed], None] | None = None
    """Called with the speed of a training that has ended."""
    _started: float = field(default_factory=time.monotonic)
    _at_start: float = 0.0
    _expected_end: float | None = None
    """Monotonic time at which the stage itself expects to be done."""

    def start_count(self, total: float | None, unit: str, done: float = 0.0) -> None:
        """Start a new count.

        Args:
            total: units in all; None if unknown.
            unit: name of what is counted.
            done: units that an earlier try did.
        """
        self.total, self.unit, self.done, self.note = total, unit, done, ""
        self._started, self._at_start, self._expected_end = time.monotonic(), done, None
        self._notify()

    def expect_total(self, total: float, seconds_left: float | None) -> None:
        """Renew the estimate of a total that is not known beforehand.

        Args:
            total: units in all, as far as is known now.
            seconds_left: time until all are done; None to go by the present rate.
        """
        self.total = total
        self._expected_end = None if seconds_left is None else time.monotonic() + seconds_left

    def note_resumed(self, where: str) -> None:
        """Record that an earlier try is resumed; of several points the first counts."""
        self.resumed = self.resumed or where

    def advance(self, by: float = 1.0, note: str | None = None) -> None:
        """Count ``by`` more units as done."""
        self.done += by
        if note is not None:
            self.note = note
        self._notify()

    @property
    def rate(self) -> float:
        """Units a second since ``start_count``."""
        return (self.done - self._at_start) / max(time.monotonic() - self._started, 1e-6)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left as the stage expects, else at the present rate; None if neither is known."""
        if self._expected_end is not None:
            return max(self._expected_end - time.monotonic(), 0.0)
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0.0) / self.rate

    def _notify(self) -> None:
        if self.listener is not None:
            self.listener(self)
