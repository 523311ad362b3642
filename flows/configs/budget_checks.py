"""Check of time budgets: minutes that come to too few steps are refused before the first page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Checkpoint
from components.core.store.store import Store
from components.core.training_speed import (
    MeasuredSpeeds,
    read_speeds,
    record_speed,
    setup_speed_file,
)
from components.text.decoder_files import read_shape
from components.train.budget.minutes_budget import MinutesBudget
from components.train.device import DeviceChoice
from flows.runner.plan_runner import IS_CACHED, PlannedStep, PlanRunner
from flows.runner.stage_time import BudgetedConfig, TimeEstimator, has_minutes_budget, trained_shape

MOST_MEASURED_PARAMETERS = 200_000_000
"""Largest model whose speed is measured before a run. A larger one is left to the probe of its own
training: an early refusal is traded for the memory and time of the measurement.
"""
MEASURED_SOURCE = "measured before a run"


def read_known_speeds(settings: Settings) -> MeasuredSpeeds:
    """Speeds that trainings reached in this workspace, then those that set-up measured."""
    return read_speeds(settings.speed_file, setup_speed_file())


def refuse_few_steps(
    settings: Settings, steps: Iterable[PlannedStep], expected: TimeEstimator
) -> None:
    """Refuse a run one of whose budgets in minutes comes to too few steps.

    Args:
        settings: workspace, whose measured training speeds count.
        steps: steps of the plan.
        expected: the plan's time estimator.

    Raises:
        ConfigError: names the field to set.
    """
    for step in steps:
        if step.state != IS_CACHED and not step.resumes and isinstance(step.config, BudgetedConfig):
            _refuse_step_budget(settings, step.name, step.config, expected)


def refuse_stage_budget(
    settings: Settings,
    name: str,
    component: Callable[..., Any],
    config: StageConfig,
    inputs: Mapping[str, Any],
) -> None:
    """Refuse a stage on a user's own files whose minutes come to too few steps.

    Args:
        settings: workspace, whose store and measured training speeds count.
        name: name of the stage.
        component: its function.
        config: its config.
        inputs: adopted artifacts by role.

    Raises:
        ConfigError: names the field to set.
    """
    if not isinstance(config, BudgetedConfig) or not has_minutes_budget(config):
        return
    runner = PlanRunner(Store(settings.store), speeds=read_known_speeds(settings))
    runner.step(name, component, config, **inputs)
    shapes = {
        role: read_shape(runner.store.root / artifact.name)
        for role, artifact in inputs.items()
        if isinstance(artifact, Checkpoint)
    }
    runner.time_estimator.amounts = replace(
        runner.time_estimator.amounts, shape=shapes.get("model"), teacher=shapes.get("teacher")
    )
    refuse_few_steps(settings, runner.steps, runner.time_estimator)


def _refuse_step_budget(
    settings: Settings, stage: str, config: BudgetedConfig, expected: TimeEstimator
) -> None:
    if not has_minutes_budget(config):
        return
    budget = expected.minutes_budget(stage, config)
    if budget is None or budget.refusal is not None:
        # A speed from another day or a busy moment must not refuse a run: measure it anew.
        budget = _measure_now(settings, stage, config, expected)
    if budget is not None and budget.refusal is not None:
        raise ConfigError(budget.refusal)


def _measure_now(
    settings: Settings, stage: str, config: BudgetedConfig, expected: TimeEstimator
) -> MinutesBudget | None:
    from components.train.budget.speed_probe import measure_speeds

    shape = trained_shape(config, expected.amounts.shape)
    if shape is None or shape.parameters > MOST_MEASURED_PARAMETERS:
        return None
    device: DeviceChoice = getattr(config, "device", "auto")
    (speed,) = measure_speeds(
        [shape], seconds=1.0, precision=config.precision, device=device, source=MEASURED_SOURCE
    )
    settings.home.mkdir(parents=True, exist_ok=True)
    record_speed(settings.speed_file, speed)
    expected.speeds = read_known_speeds(settings)
    return expected.minutes_budget(stage, config)
