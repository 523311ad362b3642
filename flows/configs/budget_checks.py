"""Minutes that are too few to train by are refused before a page is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Checkpoint
from components.core.store.store import Store
from components.core.training_speed import Speeds, read_speeds, renew_speed, setup_file
from components.text.decoder_files import read_shape
from components.train.budget.minutes_budget import MinutesBudget
from components.train.device import Device
from flows.runner.plan_runner import CACHED, PlanMill, Planned
from flows.runner.stage_time import Expectation, Timed, is_timed, trained_shape

MOST_PARAMETERS = 200_000_000
"""Of a model that is measured before a crawl; a larger one waits for its training's own probe."""
MEASURED = "measured before a run"


def known_speeds(settings: Settings) -> Speeds:
    """What trainings reached in this workspace, then what set-up measured."""
    return read_speeds(settings.speed, setup_file())


def refuse_few_steps(settings: Settings, steps: Iterable[Planned], expected: Expectation) -> None:
    """Refuse a run one of whose budgets in minutes comes to too few steps.

    Raises:
        ConfigError: names the figure to set.
    """
    for step in steps:
        if step.state != CACHED and not step.begun and isinstance(step.config, Timed):
            _refuse(settings, step.name, step.config, expected)


def refuse_stage(
    settings: Settings,
    name: str,
    component: Callable[..., Any],
    config: StageConfig,
    inputs: Mapping[str, Any],
) -> None:
    """The same of one stage on a user's own files.

    Raises:
        ConfigError: names the figure to set.
    """
    if not isinstance(config, Timed) or not is_timed(config):
        return
    mill = PlanMill(Store(settings.store), speeds=known_speeds(settings))
    mill.step(name, component, config, **inputs)
    shapes = {
        role: read_shape(mill.store.root / given.name)
        for role, given in inputs.items()
        if isinstance(given, Checkpoint)
    }
    mill.expectation.amounts = replace(
        mill.expectation.amounts, shape=shapes.get("model"), teacher=shapes.get("teacher")
    )
    refuse_few_steps(settings, mill.steps, mill.expectation)


def _refuse(settings: Settings, stage: str, config: Timed, expected: Expectation) -> None:
    if not is_timed(config):
        return
    budget = expected.minutes_budget(stage, config)
    if budget is None or budget.refusal is not None:
        # A figure of another day or of a busy moment refuses nobody: it is measured anew.
        budget = _measured_now(settings, stage, config, expected)
    if budget is not None and budget.refusal is not None:
        raise ConfigError(budget.refusal)


def _measured_now(
    settings: Settings, stage: str, config: Timed, expected: Expectation
) -> MinutesBudget | None:
    from components.train.budget.speed_probe import measure_speeds

    shape = trained_shape(config, expected.amounts.shape)
    if shape is None or shape.parameters > MOST_PARAMETERS:
        return None
    device: Device = getattr(config, "device", "auto")
    (speed,) = measure_speeds(
        [shape], seconds=1.0, precision=config.precision, device=device, source=MEASURED
    )
    settings.home.mkdir(parents=True, exist_ok=True)
    renew_speed(settings.speed, speed)
    expected.speeds = known_speeds(settings)
    return expected.minutes_budget(stage, config)
