"""An attempt at alignment: what cannot end well returns its start, and the run goes on.

A policy that was trained for minutes must not be lost to a stage that only tries to better it. So a
stage of alignment seals the model it was given where it cannot go on, with the cause among its
stats (``diverged``, ``too_few``, ``judge_failed``: 1) and in the log.
"""

from __future__ import annotations

from typing import Literal

Cause = Literal["diverged", "too_few", "judge_failed"]


class AttemptFailed(Exception):
    """An attempt cannot go on; ``cause`` names the stat, the message says what was seen."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause: Cause = cause

    @property
    def stats(self) -> dict[str, float]:
        """The cause as a stat."""
        return {self.cause: 1.0}
