"""Expected times: from past runs by the work that there is, else from the measured speed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core import training_speed as speeds_module
from components.core.config.stage_config import StageConfig, overlay_config
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Checkpoint, Lineage
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from components.core.training_speed import MeasuredSpeeds, TrainingSpeed, read_speeds, record_speed
from components.train.distill import DistillConfig
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from flows.configs import budget_checks
from flows.configs.budget_checks import refuse_few_steps, refuse_stage_budget
from flows.configs.presets import nano_run, tiny_run
from flows.configs.text_run import TextRun
from flows.pipelines.text import text_pipeline
from flows.runner.past_runs import RunHistory
from flows.runner.plan_runner import PlanRunner
from flows.runner.plan_view import RunPlan
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.stage_time import (
    EMBEDDED_EXAMPLES,
    EXAMPLE_TOKENS,
    TimeEstimator,
    WorkAmounts,
    is_representative,
    training_operations,
)
from models.shape_presets import TINY

GIGA = 1e9
STEP = PretrainConfig().step_operations
"""Operations of a step of the default shape and batch."""


def speeds(rate: float, parameters: int = TINY.parameters) -> MeasuredSpeeds:
    return MeasuredSpeeds([TrainingSpeed(parameters=parameters, operations_per_second=rate)])


def planned(settings: Settings, run: TextRun, known: MeasuredSpeeds) -> PlanRunner:
    runner = PlanRunner(Store(settings.store), speeds=known)
    text_pipeline(run, runner, make_source_resolver())
    return runner


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", reference_data=tmp_path)


@pytest.fixture
def setup_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of set-up, empty, and not this environment's own."""
    monkeypatch.setattr(budget_checks, "setup_speed_file", lambda: tmp_path / "setup.json")
    return tmp_path / "setup.json"


def test_a_first_plan_says_what_trains_and_what_asks_the_model(settings: Settings) -> None:
    steps = {step.name: step for step in planned(settings, tiny_run(), speeds(500 * GIGA)).steps}
    assert steps["pretrain"].seconds == pytest.approx(
        (tiny_run().pretrain.steps or 0) * STEP / (500 * GIGA)
    )
    assert steps["pretrain"].expected_from == "speed"
    for name in (
        "loss",
        "sft",
        "choice",
        "preferences",
        "reward",
        "ppo",
        "keep_best",
        "facts",
        "compare",
        "safety",
    ):
        assert 0.5 < (steps[name].seconds or 0) < 600, name
    for name in ("scrape", "extract", "tokens", "bundle"):
        assert (steps[name].seconds, steps[name].expected_from) == (None, None)
    half = {step.name: step for step in planned(settings, tiny_run(), speeds(250 * GIGA)).steps}
    assert half["ppo"].seconds == pytest.approx(2 * (steps["ppo"].seconds or 0))
    told = RunPlan(list(steps.values())).as_json()
    assert told["plan"][0]["expected_from"] is None
    assert told["totals"]["certain"]["seconds"] > 100
    assert "scrape" in told["totals"]["unknown"]


def test_a_first_crawl_takes_its_pauses_at_least(settings: Settings) -> None:
    def crawl(**scrape: Any) -> PlanRunner:
        seeds = ["https://a.example/", "https://b.example/x", "https://b.example/y"]
        return planned(
            settings,
            overlay_config(tiny_run(), {"scrape": {"seeds": seeds, **scrape}}),
            MeasuredSpeeds(),
        )

    def seconds(**scrape: Any) -> float | None:
        return crawl(**scrape).steps[0].seconds

    assert seconds(max_pages=3000) == 1500.0  # two hosts, a second each
    assert seconds(max_pages=3000, hosts=["c.example"], delay_seconds=2) == 2000.0
    assert seconds(max_pages=3000, max_pages_per_host=200) == 200.0
    assert seconds(delay_seconds=0) is None
    runner = crawl(max_pages=3000)
    assert runner.steps[0].as_json()["expected_from"] == "pauses"
    out = io.StringIO()
    RunPlan(runner.steps).show(Console(file=out, width=120))
    told = (
        "scrape: at least 25:00 if there are 3,000 pages, for the pauses between requests to a host"
    )
    assert told in out.getvalue()


def test_more_samples_and_judgements_make_ppo_longer(settings: Settings) -> None:
    def seconds(**ppo: int) -> float:
        run = overlay_config(tiny_run(), {"ppo": ppo})
        steps = {step.name: step for step in planned(settings, run, speeds(GIGA)).steps}
        return steps["ppo"].seconds or 0.0

    base = seconds()
    assert seconds(iterations=24) == pytest.approx(2 * base)
    assert seconds(samples=16) > base
    assert base > seconds(judged_draws=1) > seconds(judged=0) == seconds(judged=0, judged_draws=8)
    assert seconds(epochs=4) > base


def test_without_a_speed_nothing_is_made_up(settings: Settings) -> None:
    assert all(
        step.seconds is None for step in planned(settings, tiny_run(), MeasuredSpeeds()).steps
    )


def test_epochs_of_other_pages_are_not_known_before_they_are_read(settings: Settings) -> None:
    run = overlay_config(tiny_run(), {"scrape": {"seeds": ["https://a.example/"]}})
    steps = {step.name: step for step in planned(settings, run, speeds(GIGA)).steps}
    assert steps["sft"].seconds is None
    assert steps["pretrain"].seconds is not None
    counted = overlay_config(run, {"sft": {"steps": 100}})
    assert {s.name: s for s in planned(settings, counted, speeds(GIGA)).steps}["sft"].seconds


def sealed(
    store: Store, component: str, config: StageConfig, stats: dict[str, float], **parents: str
) -> Checkpoint:
    """A result that a stage left behind, with the seconds that it took."""
    key = f"{component}-{len(store.sealed_manifests())}"
    record = {"component": component, "config": config.model_dump(mode="json"), "code": {}}
    lineage = Lineage(component=component, code="", config="", parents=parents)
    work = Workdir(store.root, key, lineage, record=record)
    (work.folder / "weights").write_text(key)
    return work.seal(Checkpoint, stats=stats)


PRETRAIN, SFT = "components.train.pretrain.pretrain", "components.train.sft.finetune"


def expected(store: Store, run: TextRun, known: MeasuredSpeeds) -> dict[str, float | None]:
    runner = PlanRunner(store, RunHistory(store), speeds=known)
    text_pipeline(run, runner, make_source_resolver())
    return {step.name: step.seconds for step in runner.steps}


def test_history_wins_and_is_scaled_by_the_steps_that_were_taken(settings: Settings) -> None:
    """Of a training by minutes too: it is the steps that are known to have taken so long."""
    store = Store(settings.store)
    base = sealed(store, PRETRAIN, PretrainConfig(minutes=4.0), {"seconds": 200.0, "steps": 100})
    config = FinetuneConfig(minutes=1.0)
    stats = {"seconds": 60.0, "steps": 111, "examples": 22_400}
    sealed(store, SFT, config, stats, model=base.digest)
    seconds = expected(store, tiny_run(), speeds(500 * GIGA))
    assert seconds["pretrain"] == pytest.approx((tiny_run().pretrain.steps or 0) * 2.0)
    epochs = tiny_run().sft.epochs * EMBEDDED_EXAMPLES * EXAMPLE_TOKENS / 0.8  # a fifth is replayed
    assert seconds["sft"] == pytest.approx(60.0 * epochs / (111 * config.batch), rel=0.01)
    assert expected(store, tiny_run(), MeasuredSpeeds())["pretrain"] == pytest.approx(
        (tiny_run().pretrain.steps or 0) * 2.0
    )
    timed = overlay_config(tiny_run(), {"pretrain": {"minutes": 7}})
    assert expected(store, timed, speeds(GIGA))["pretrain"] == pytest.approx(350.0)


def test_a_past_run_of_another_shape_is_scaled_by_its_operations(settings: Settings) -> None:
    store, small = Store(settings.store), nano_run().pretrain
    base = sealed(store, PRETRAIN, small, {"seconds": 6.0, "steps": 60})
    stats = {"seconds": 2.0, "steps": 20, "examples": 500}
    sealed(store, SFT, nano_run().sft, stats, model=base.digest)
    known = MeasuredSpeeds(
        [
            TrainingSpeed(parameters=TINY.parameters, operations_per_second=400 * GIGA),
            TrainingSpeed(parameters=small.shape.parameters, operations_per_second=100 * GIGA),
        ]
    )
    seconds = expected(store, tiny_run(), known)
    times = (tiny_run().pretrain.steps or 0) * STEP / (60 * small.step_operations)
    assert seconds["pretrain"] == pytest.approx(6.0 * times / 4.0)
    assert (seconds["sft"] or 0) > 100.0


def test_a_teacher_that_only_answers_counts_a_third() -> None:
    config = DistillConfig(steps=10)
    alone = training_operations(config, WorkAmounts())
    taught = training_operations(config, WorkAmounts(teacher=TINY))
    assert alone is not None
    assert taught is not None
    per_token = (taught - alone) / (10 * config.batch)
    assert per_token == pytest.approx((6 * TINY.parameters + 12 * 5 * 3 * 64 * 512) / 3, rel=0.01)


def refuse(settings: Settings, run: TextRun) -> None:
    runner = planned(settings, run, budget_checks.read_known_speeds(settings))
    refuse_few_steps(settings, runner.steps, runner.time_estimator)


def measured_as(monkeypatch: pytest.MonkeyPatch, rate: float) -> list[Any]:
    """This machine is measured to be so quick; the calls."""
    from components.train.budget import speed_probe

    calls: list[Any] = []

    def measured(shapes: Any, **over: Any) -> list[TrainingSpeed]:
        calls.append(over)
        return [
            TrainingSpeed(parameters=shape.parameters, operations_per_second=rate)
            for shape in shapes
        ]

    monkeypatch.setattr(speed_probe, "measure_speeds", measured)
    return calls


def test_minutes_too_few_are_refused_before_anything_runs(
    settings: Settings, setup_speeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = measured_as(monkeypatch, STEP)  # a step a second
    record_speed(setup_speeds, speeds(STEP).known[0])
    run = overlay_config(tiny_run(), {"pretrain": {"minutes": 0.5}})
    with pytest.raises(
        ConfigError, match=r"pretrain\.minutes: 0\.5 is 20 steps of 1 s here: set at"
    ):
        refuse(settings, run)
    assert len(calls) == 1  # what was known is measured anew before anybody is refused
    refuse(settings, overlay_config(run, {"pretrain": {"min_steps": 20}}))
    refuse(settings, overlay_config(run, {"pretrain": {"minutes": 2}}))
    refuse(settings, tiny_run())
    assert len(calls) == 1


def test_a_figure_of_a_busy_day_refuses_nobody(
    settings: Settings, setup_speeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_speed(setup_speeds, speeds(STEP / 100).known[0])
    calls = measured_as(monkeypatch, 100 * STEP)
    refuse(settings, overlay_config(tiny_run(), {"pretrain": {"minutes": 0.5}}))
    assert len(calls) == 1
    assert read_speeds(settings.speed_file).interpolate_speed(TINY.parameters) == 100 * STEP


@pytest.mark.usefixtures("setup_speeds")
def test_where_no_speed_is_known_it_is_measured_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = measured_as(monkeypatch, STEP)
    with pytest.raises(ConfigError, match=r"sft\.minutes: 0\.05 is 1 step of"):
        refuse(settings, overlay_config(tiny_run(), {"sft": {"minutes": 0.05}}))
    refuse(settings, nano_run())
    assert len(calls) == 1


def test_the_plan_says_what_minutes_come_to_and_that_a_run_would_be_refused(
    settings: Settings,
) -> None:
    run = overlay_config(tiny_run(), {"pretrain": {"minutes": 0.5}, "sft": {"minutes": 60}})
    plan = RunPlan(planned(settings, run, speeds(STEP)).steps)
    told = plan.as_json()
    by_name = {step["name"]: step for step in told["plan"]}
    budget = by_name["pretrain"]["minutes_budget"]
    assert (budget["minutes"], budget["steps"]) == (0.5, 20)
    assert budget["refusal"] == told["refused"][0]
    assert by_name["sft"]["minutes_budget"]["refusal"] is None
    epochs = run.sft.epochs * EMBEDDED_EXAMPLES * EXAMPLE_TOKENS / run.sft.batch / 0.8
    assert by_name["sft"]["minutes_budget"]["steps"] == round(epochs)  # they bound the minutes
    assert by_name["loss"]["minutes_budget"] is None


@pytest.mark.usefixtures("setup_speeds")
def test_one_stage_on_a_user_s_files_is_refused_alike(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as(monkeypatch, STEP)
    config = PretrainConfig(minutes=0.5)
    with pytest.raises(ConfigError, match=r"pretrain\.minutes: 0\.5 is 20 steps"):
        refuse_stage_budget(settings, "pretrain", pretrain, config, {})
    store = Store(settings.store)
    key = store.make_request(pretrain, config, {}).key
    scratch = store.root / "partial" / key / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "step_plan.json").write_text("{}")  # begun: the machine's speed no longer matters
    refuse_stage_budget(settings, "pretrain", pretrain, config, {})


def test_a_speed_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds_module, "usable_cores", lambda: 3)
    assert TrainingSpeed(parameters=1, operations_per_second=1).machine.endswith(", 3 cores")
    assert (
        TimeEstimator(RunHistory(Store(Path("/nonexistent")))).minutes_budget(
            "pretrain", PretrainConfig(minutes=1)
        )
        is None
    )


@pytest.mark.parametrize(
    ("stats", "tells"),
    [
        ({}, True),
        ({"diverged": 1.0}, False),
        ({"too_few": 1.0}, False),
        ({"examined": 0.0}, False),
        ({"examined": 1.0, "models": 2.0}, True),
        ({"models": 1.0}, False),
    ],
)
def test_a_stage_that_had_nothing_to_do_tells_nothing_of_the_next(
    stats: dict[str, float], tells: bool
) -> None:
    assert is_representative({"artifact": {"stats": stats}}) is tells


def test_answers_that_leave_no_room_for_a_question_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"facts\.max_new \(128\) must be below .*\(128\)"):
        overlay_config(
            tiny_run(),
            {},
            [
                "pretrain.shape.context=128",
                "pretrain.sequence_length=128",
                "pretrain.short_sequence_length=64",
            ],
        )
