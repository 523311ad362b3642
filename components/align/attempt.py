"""Failed attempts at alignment: the stage seals the model it started from, and the run goes on.

A policy that was trained for minutes must not be lost to a stage that only tries to better it. So a
stage of alignment seals the model it was given where it cannot go on, with the cause among its
stats (``diverged``, ``too_few``, ``judge_failed``,
``untrusted``: 1) and in the log.
"""

from __future__ import annotations

from typing import Literal

FailureCause = Literal["diverged", "too_few", "judge_failed", "untrusted"]


class AttemptFailed(Exception):
    """Alignment cannot go on; ``cause`` names the stat, the message says what was seen."""

    def __init__(self, cause: FailureCause, message: str) -> None:
        super().__init__(message)
        self.cause: FailureCause = cause

    @property
    def stats(self) -> dict[str, float]:
        """The cause as a stat."""
        return {self.cause: 1.0}
