"""The time that is left of a run, from its plan and from how far the stage at work is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.plan import Planned


class Forecast:
    """Expected seconds of every step that has not ended yet."""

    def __init__(self, steps: Iterable[Planned] = ()) -> None:
        self._left: dict[str, float | None] = {}
        self.expect(steps)

    def expect(self, steps: Iterable[Planned]) -> None:
        """Count on ``steps``, in place of those before."""
        self._left = {step.name: step.seconds for step in steps}

    def of(self, name: str) -> float | None:
        """Seconds that a step is expected to take; None where nothing tells."""
        return self._left.get(name)

    def end(self, name: str) -> None:
        """Count a step no longer."""
        self._left.pop(name, None)

    def stage_left(self, name: str, elapsed: float) -> float | None:
        """Seconds left of the step at work, before its own rate tells."""
        expected = self.of(name)
        return None if expected is None else max(expected - elapsed, 0.0)

    def run_left(self, name: str, stage_left: float | None) -> tuple[float, bool] | None:
        """(seconds left of the run, whether every step is counted); None where none is known.

        Args:
            name: the step at work.
            stage_left: seconds left of it; None where nothing tells.
        """
        others = [seconds for step, seconds in self._left.items() if step != name]
        known = [seconds for seconds in [stage_left, *others] if seconds is not None]
        if not known:
            return None
        return sum(known), len(known) == len(others) + 1
