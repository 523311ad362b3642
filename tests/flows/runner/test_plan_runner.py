"""The plan's reasons, seconds and costs: the real ones, from the most similar earlier run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from rich.console import Console

from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.action import Workspace
from components.core.config.stage_config import StageConfig
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Report
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.configs.prices import Prices
from flows.runner.past_runs import RunHistory, scale_seconds
from flows.runner.plan_runner import (
    IS_ACTION,
    IS_CACHED,
    RUNS_UNLESS_EQUAL,
    WOULD_RUN,
    PlannedStep,
    PlanRunner,
)
from flows.runner.plan_view import RunPlan
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.runner import Runner, StoreRunner


class Words(StageConfig):
    text: str = Field(default="one", description="what to write")
    copies: int = Field(default=1, description="times")


class Budget(StageConfig):
    minutes: float = Field(default=1.0, description="budget")
    rate: float = Field(default=0.1, description="of learning")


def write(config: Words, work: Workdir) -> Corpus:
    (work.folder / "text").write_text(config.text.strip() * config.copies)
    return work.seal(Corpus)


def train(config: Budget, corpus: Corpus, work: Workdir) -> Report:
    text = (work.artifact_folder(corpus) / "text").read_text()
    (work.folder / "report").write_text(f"{text} {config.rate} {config.minutes}")
    return work.seal(Report, stats={"seconds": 70.0})


def judge(config: StageConfig, scores: Any, work: Workdir) -> Report:
    (work.folder / "verdict").write_text(",".join(sorted(scores)))
    return work.seal(Report)


def chain(runner: Runner, words: Words | None = None, budget: Budget | None = None) -> Report:
    corpus = runner.step("write", write, words or Words())
    trained = runner.step("train", train, budget or Budget(), corpus=corpus)
    return runner.step("judge", judge, StageConfig(), scores={"loss": trained})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


def run(settings: Settings, **given: Any) -> list[str]:
    """Run the chain for real; names of the folders it used."""
    runner = StoreRunner(Store(settings.store), Workspace(settings))
    chain(runner, **given)
    return [result.artifact.name for result in runner.listener.results]  # type: ignore[attr-defined]


def plan(
    settings: Settings, records: Any = (), name: str = "", **given: Any
) -> dict[str, PlannedStep]:
    store = Store(settings.store)
    runner = PlanRunner(store, RunHistory(store, records, name), Prices(machine_hour=36.0))
    chain(runner, **given)
    return {step.name: step for step in runner.steps}


def test_the_most_equal_earlier_config_is_compared(settings: Settings) -> None:
    run(settings, words=Words(text="one", copies=2))
    run(settings, words=Words(text="other", copies=9))  # the newest, and nothing like it
    found = plan(settings, words=Words(text="one", copies=3))["write"]
    assert found.explanations == ["copies: 2 -> 3"]


def test_a_run_of_the_same_name_is_compared_first(settings: Settings) -> None:
    mine = run(settings, words=Words(text="one", copies=2))
    run(settings, words=Words(text="one two", copies=3))
    steps = [{"artifact": name, "stage": "?", "state": "Cached"} for name in mine]
    found = plan(
        settings, [{"name": "mine", "steps": steps}], "mine", words=Words(text="one two", copies=4)
    )
    assert found["write"].explanations == ["copies: 2 -> 4", "text: 'one' -> 'one two'"]


def test_parents_are_named_with_the_step_that_is_why(settings: Settings) -> None:
    run(settings)
    found = plan(settings, words=Words(text="two"))
    assert [found[name].state for name in ("write", "train", "judge")] == [
        WOULD_RUN,
        RUNS_UNLESS_EQUAL,
        RUNS_UNLESS_EQUAL,
    ]
    assert found["train"].explanations == ["input corpus from write"]
    assert found["judge"].explanations == ["input scores.loss from train, since write would run"]
    # The corpus is made already, and another one than the training was ever run on.
    StoreRunner(Store(settings.store), Workspace(settings)).step("write", write, Words(text="two"))
    found = plan(settings, words=Words(text="two"))
    assert found["write"].state == IS_CACHED
    assert (found["train"].state, found["train"].explanations) == (
        WOULD_RUN,
        ["input corpus from write"],
    )
    reason = found["train"].reasons[0].as_json()
    assert reason["kind"] == "parent"
    assert len(reason["old"]) == len(reason["new"]) == 64


def test_vanished_files_are_a_reason(settings: Settings) -> None:
    names = run(settings)
    folder = settings.store / names[0]
    folder.chmod(0o755)
    (folder / "text").unlink()
    found = plan(settings)
    assert found["write"].state == WOULD_RUN
    assert found["train"].state == RUNS_UNLESS_EQUAL


def test_a_budget_in_minutes_is_kept(settings: Settings) -> None:
    run(settings, budget=Budget(minutes=1.0))
    found = plan(settings, budget=Budget(minutes=3.0))["train"]
    assert (found.last_seconds, found.seconds) == (70.0, 190.0)  # ten seconds beyond the budget
    assert found.cost == pytest.approx(1.9)
    assert plan(settings, budget=Budget(rate=0.2))["train"].seconds == 70.0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"steps": 10}, {"steps": 30}, 300.0),
        ({"iterations": 4}, {"iterations": 2}, 50.0),
        ({"minutes": 2.0}, {"minutes": 4.0}, 200.0),
        ({"minutes": 1.0, "steps": None}, {"minutes": 2.0, "steps": None}, 160.0),
        ({"minutes": 1.0, "steps": 5}, {"minutes": 9.0, "steps": 10}, 200.0),
        ({"minutes": 1.0, "steps": 5}, {"minutes": 9.0, "steps": None}, 540.0),
        ({"width": 1}, {"width": 2}, 100.0),
    ],
)
def test_seconds_are_scaled(old: dict[str, Any], new: dict[str, Any], expected: float) -> None:
    assert scale_seconds(100.0, old, new) == pytest.approx(expected)


def test_sums_and_table(settings: Settings) -> None:
    run(settings)
    steps = list(plan(settings, words=Words(text="two")).values())
    told = RunPlan(steps, Prices(machine_hour=36.0)).as_json()
    assert told["totals"]["certain"]["steps"] == 1
    assert told["totals"]["at_most"]["steps"] == 3
    assert told["totals"]["at_most"]["cost"] == pytest.approx(
        told["totals"]["at_most"]["seconds"] / 100
    )
    for width in (60, 80, 120):
        out = io.StringIO()
        RunPlan(steps).show(Console(file=out, width=width))
        assert "input scores.loss (train)" in out.getvalue()
        assert max(map(len, out.getvalue().splitlines())) <= width


def test_an_action_waits_for_what_is_not_known(settings: Settings) -> None:
    from tests.flows.runner.test_runner import announce

    runner = PlanRunner(Store(settings.store))
    report = chain(runner)
    runner.action("announce", announce, StageConfig(), report=report)
    assert (runner.steps[-1].state, runner.steps[-1].unchanged) == (IS_ACTION, None)
    assert runner.steps[-1].explanations == ["input report from judge"]


def test_changed_files_are_one_line_for_a_person_and_all_for_a_program(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.md").write_text(f"# Page {number}")
    config = ScrapeConfig(files=[f"{folder}/*.md"])
    store = Store(settings.store)
    StoreRunner(store, Workspace(settings)).source("scrape", scrape, config, make_source_resolver())

    def planned() -> RunPlan:
        runner = PlanRunner(store, RunHistory(store))
        runner.source("scrape", scrape, config, make_source_resolver())
        return RunPlan(runner.steps)

    for number in (3, 4, 5):
        (folder / f"{number:02}.md").write_text("# Another page")
    (folder / "60.md").write_text("# One more page")
    (folder / "01.md").unlink()
    plan = planned()
    out = io.StringIO()
    plan.show(Console(file=out, width=200))
    assert "3 of 60 files changed, 1 new, 1 gone: 01.md, 03.md, 04.md and 2 more" in out.getvalue()
    assert "digests" not in out.getvalue()
    whole = plan.as_json()["plan"][0]["reasons"]
    assert [reason["what"] for reason in whole] == [
        f"digests.notes/{name}.md" for name in ("01", "03", "04", "05", "60")
    ]
