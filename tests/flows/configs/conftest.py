"""A workspace for runs that are read and planned alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.settings import Settings
from components.core.store.store import Store
from flows.configs.text_run import TextRun
from flows.pipelines.text import text_pipeline
from flows.runner.plan_runner import PlanRunner
from flows.runner.run_pipeline import make_source_resolver


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", reference_data=tmp_path)


def planned_steps(run: TextRun, settings: Settings) -> list[str]:
    """Names of a run's steps, in their order."""
    runner = PlanRunner(Store(settings.store))
    text_pipeline(run, runner, make_source_resolver())
    return [step.name for step in runner.steps]
