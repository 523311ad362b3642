"""The time that is left of a run, from its plan and from how far the stage at work is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from components.core.progress import Progress

if TYPE_CHECKING:
    from components.core.training_speed import Speeds
    from flows.runner.plan_runner import Planned
    from flows.runner.runner import StepResult


class Forecast:
    """Expected seconds of every step that has not ended yet."""

    def __init__(self, steps: Iterable[Planned] = ()) -> None:
        self._left: dict[str, float | None] = {}
        self.expect(steps)

    def expect(self, steps: Iterable[Planned]) -> None:
        """Count on ``steps``, in place of those before."""
        self._left = {step.name: step.seconds for step in steps}

    def renew(self, steps: Iterable[Planned]) -> None:
        """Take the expected seconds of ``steps`` for those that have not ended yet."""
        self._left.update({step.name: step.seconds for step in steps if step.name in self._left})

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


class ForecastRenewal:
    """Listener that expects what is left anew, once a training has shown the machine's speed.

    Args:
        forecast: is renewed.
        speeds: what is known now.
        plan: the steps as they would go now.
    """

    def __init__(
        self,
        forecast: Forecast,
        speeds: Callable[[], Speeds],
        plan: Callable[[], Iterable[Planned]],
    ) -> None:
        self._forecast, self._speeds, self._plan = forecast, speeds, plan
        self._known = speeds().known

    def started(self, name: str) -> None:
        """Nothing is known yet."""

    def progressed(self, name: str, progress: Progress) -> None:
        """A speed is told at the end."""

    def finished(self, result: StepResult) -> None:
        known = self._speeds().known
        if known != self._known:
            self._known = known
            self._forecast.renew(self._plan())

    def failed(self, name: str, error: BaseException) -> None:
        """Nothing is left to expect."""
