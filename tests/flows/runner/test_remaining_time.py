"""What the live line says of the time that is left, of the stage and of the whole run."""

from __future__ import annotations

import io
import re

from rich.console import Console

from components.core.config.stage_config import StageConfig
from components.core.progress import Progress
from components.core.store.artifact import Artifact, Lineage
from components.core.training_speed import MeasuredSpeeds, TrainingSpeed
from flows.runner.plan_runner import WOULD_RUN, PlannedStep
from flows.runner.progress_display import ProgressDisplay
from flows.runner.remaining_time import Forecast, ForecastUpdater
from flows.runner.runner import COMPLETED, StepResult


def planned(name: str, seconds: float | None) -> PlannedStep:
    return PlannedStep(name, WOULD_RUN, [], seconds, None, lambda: None, StageConfig(), {})


STEPS = [planned("pretrain", 240.0), planned("sft", 120.0), planned("ppo", 90.0)]


def line(display: ProgressDisplay) -> str:
    """What the live line shows."""
    assert display._live is not None
    return re.sub(r" +", " ", str(display._live.get_renderable()))


def on_terminal(forecast: Forecast) -> ProgressDisplay:
    return ProgressDisplay(Console(file=io.StringIO(), force_terminal=True, width=200), forecast)


def result(name: str) -> StepResult:
    artifact = Artifact(name="", digest="", lineage=Lineage(component="", code="", config=""))
    return StepResult(name, COMPLETED, 1.0, artifact)


def test_before_a_rate_is_known_the_expectation_tells() -> None:
    display = on_terminal(Forecast(STEPS))
    display.started("pretrain")
    assert line(display) == "… pretrain ETA 4:00 run: about 8 min left"
    progress = Progress(total=100, unit="steps")
    display.progressed("pretrain", progress)
    assert "0/100 steps 0/s ETA 3:59 run: about 7 min left" in line(display) or (
        "ETA 4:00 run: about 8 min left" in line(display)
    )
    display.stop()


def test_then_its_own_rate_and_the_rest_of_the_run() -> None:
    display = on_terminal(Forecast(STEPS))
    display.started("pretrain")
    progress = Progress(total=100, unit="steps")
    progress._started -= 50.0  # ten steps in fifty seconds
    progress.advance(10)
    display.progressed("pretrain", progress)
    assert re.search(r"0\.2/s ETA 7:3\d run: about 11 min left", line(display)), line(display)
    display.finished(result("pretrain"))
    display.started("sft")
    assert line(display) == "… sft ETA 2:00 run: about 4 min left"
    display.finished(result("sft"))
    display.started("ppo")
    assert line(display) == "… ppo ETA 90.0 s run: about 2 min left"
    display.stop()


def test_what_nothing_tells_stays_open() -> None:
    display = on_terminal(Forecast([planned("scrape", None), *STEPS]))
    display.started("scrape")
    assert line(display) == "… scrape ETA ? run: more than 8 min left"
    display.stop()
    display = on_terminal(Forecast([planned("scrape", None)]))
    display.started("scrape")
    assert line(display) == "… scrape ETA ?"
    display.stop()
    unknown = ProgressDisplay(Console(file=io.StringIO(), force_terminal=True, width=200))
    unknown.started("adapt")
    assert line(unknown) == "… adapt ETA ?"
    unknown.stop()


def test_a_measured_speed_renews_what_is_left_and_nothing_that_ended() -> None:
    forecast, known = Forecast(STEPS), [MeasuredSpeeds()]
    slower = [planned("pretrain", 0.0), planned("sft", 240.0), planned("ppo", 180.0)]
    renewal = ForecastUpdater(forecast, lambda: known[0], lambda: slower)
    renewal.finished(result("scrape"))
    assert forecast.expected_seconds("sft") == 120.0
    forecast.drop_step("pretrain")
    known[0] = MeasuredSpeeds([TrainingSpeed(parameters=3, operations_per_second=1.0)])
    renewal.finished(result("pretrain"))
    assert (
        forecast.expected_seconds("pretrain"),
        forecast.expected_seconds("sft"),
        forecast.expected_seconds("ppo"),
    ) == (None, 240.0, 180.0)
