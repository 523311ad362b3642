"""Forecast of a run's remaining time, from its plan and the progress of the running step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from components.core.progress import Progress

if TYPE_CHECKING:
    from components.core.training_speed import MeasuredSpeeds
    from flows.runner.plan_runner import PlannedStep
    from flows.runner.runner import StepResult


class Forecast:
    """Expected seconds of every step that has not ended yet."""

    def __init__(self, steps: Iterable[PlannedStep] = ()) -> None:
        self._expected: dict[str, float | None] = {}
        self.replace_steps(steps)

    def replace_steps(self, steps: Iterable[PlannedStep]) -> None:
        """Expect ``steps`` in place of those before."""
        self._expected = {step.name: step.seconds for step in steps}

    def update_steps(self, steps: Iterable[PlannedStep]) -> None:
        """Take new estimates from ``steps`` for those that have not ended yet."""
        self._expected.update(
            {step.name: step.seconds for step in steps if step.name in self._expected}
        )

    def expected_seconds(self, name: str) -> float | None:
        """Expected seconds of a step; None where there is no estimate."""
        return self._expected.get(name)

    def drop_step(self, name: str) -> None:
        """Stop counting a step, which has ended."""
        self._expected.pop(name, None)

    def stage_seconds_left(self, name: str, elapsed: float) -> float | None:
        """Seconds left of the running step by its estimate, until its own rate is known."""
        expected = self.expected_seconds(name)
        return None if expected is None else max(expected - elapsed, 0.0)

    def run_seconds_left(self, name: str, stage_left: float | None) -> tuple[float, bool] | None:
        """Seconds left of the run, and True if every step is counted; None where none is known.

        Args:
            name: the running step.
            stage_left: seconds left of it; None where there is no estimate.
        """
        others = [seconds for step, seconds in self._expected.items() if step != name]
        known = [seconds for seconds in [stage_left, *others] if seconds is not None]
        if not known:
            return None
        return sum(known), len(known) == len(others) + 1


class ForecastUpdater:
    """Listener that updates the forecast once a training has measured the machine's speed.

    Args:
        forecast: is updated.
        speeds: reads the speeds known now.
        plan: plans the run anew with them.
    """

    def __init__(
        self,
        forecast: Forecast,
        speeds: Callable[[], MeasuredSpeeds],
        plan: Callable[[], Iterable[PlannedStep]],
    ) -> None:
        self._forecast, self._speeds, self._plan = forecast, speeds, plan
        self._known = speeds().known

    def started(self, name: str) -> None:
        """No speed is known yet."""

    def progressed(self, name: str, progress: Progress) -> None:
        """A speed is recorded when the step ends."""

    def finished(self, result: StepResult) -> None:
        known = self._speeds().known
        if known != self._known:
            self._known = known
            self._forecast.update_steps(self._plan())

    def failed(self, name: str, error: BaseException) -> None:
        """The run has ended."""
