"""Minutes become steps, and what is left of them follows the machine."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.core.config.stage_config import StageConfig, overlay_config
from components.core.errors import ConfigError, DataError
from components.train.adapt import AdaptConfig
from components.train.budget.flop_count import flops_per_token
from components.train.budget.minutes_budget import MinutesBudget
from components.train.budget.step_plan import Segment, StepPlan, read_step_plan
from components.train.budget.time_budget import MinutesRequest, TimeBudget, open_time_budget
from components.train.distill import DistillConfig
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from flows.configs.presets import nano_run, tiny_run
from models.shape import DecoderShape, ExpertsShape

PHASES = [(0.5, 0.1), (0.5, 0.3)]
"""Half of the progress at 0.1 s a step, half at 0.3 s."""
SECONDS = 200.0


def budget(scratch: Path, **over: int) -> TimeBudget:
    return TimeBudget(StepPlan.of_steps(1000), SECONDS, PHASES, scratch=scratch, **over)


def wish(minutes: float, min_steps: int = 1, *, refuse: bool = True) -> MinutesRequest:
    return MinutesRequest("pretrain", minutes, min_steps, refuse)


def walk(
    kept: TimeBudget, slower: Callable[[float], float], *, begin: int = 0, spent: float = 0.0
) -> tuple[float, list[float]]:
    """Train on a clock of our own: (seconds spent, progress of each step)."""
    seen: list[float] = []
    step = begin
    while step < kept.plan.end:
        kept.replan_if_off_pace(step, spent)
        place = kept.plan.progress_at(step)
        seen.append(place.progress)
        spent += (0.1 if place.progress < 0.5 else 0.3) * slower(spent)
        step += 1
    return spent, seen


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3, 2.0, 5.0])
def test_a_machine_of_another_speed_costs_steps_not_minutes(tmp_path: Path, factor: float) -> None:
    kept = budget(tmp_path)
    spent, progress = walk(kept, lambda spent: factor)
    assert spent == pytest.approx(SECONDS, rel=0.05)
    assert kept.plan.end == pytest.approx(1000 / factor, rel=0.1)
    assert progress == sorted(progress)
    strides = [after - before for before, after in itertools.pairwise(progress)]
    assert max(strides) < 12 * min(strides)


def test_a_machine_that_slows_down_on_the_way_is_followed(tmp_path: Path) -> None:
    spent, _ = walk(budget(tmp_path), lambda spent: 1.0 if spent < 90 else 3.0)
    assert spent == pytest.approx(SECONDS, rel=0.05)


def test_at_the_probe_s_speed_nothing_is_replanned(tmp_path: Path) -> None:
    kept = budget(tmp_path)
    assert walk(kept, lambda spent: 1.0)[0] == pytest.approx(SECONDS, rel=0.01)
    assert kept.plan.segments == [Segment(0, 0.0, 1000)]


def test_a_later_try_repeats_the_segments_of_the_earlier_one(tmp_path: Path) -> None:
    kept = budget(tmp_path)
    _, first = walk(kept, lambda spent: 2.0)
    segments = list(kept.plan.segments)
    assert len(segments) > 1
    journalled = read_step_plan(tmp_path)
    assert journalled is not None
    assert journalled[0].segments == segments
    # Killed, and taken up at a state from before the last replan, on a machine that is quicker now.
    begin = segments[-1].start - 5
    again = open_time_budget(wish(SECONDS / 60), tmp_path, list)
    again.replan_if_off_pace(begin, 0.0)
    places = [again.plan.progress_at(step).progress for step in range(begin, begin + 5)]
    assert places == first[begin : begin + 5]
    assert again.plan.segments == segments


def test_never_more_steps_than_are_allowed(tmp_path: Path) -> None:
    kept = budget(tmp_path, most_steps=1100)
    spent, _ = walk(kept, lambda spent: 0.25)
    assert kept.plan.end == 1100
    assert spent < SECONDS / 2


def test_a_spent_budget_still_brings_the_rates_down(tmp_path: Path) -> None:
    kept = budget(tmp_path)
    kept.replan_if_off_pace(0, 0.0)
    assert kept.replan_if_off_pace(500, 10 * SECONDS)
    assert kept.plan.end == 510


def test_measured_journalled_and_kept(tmp_path: Path) -> None:
    calls: list[str] = []

    def step(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    def phases() -> list[tuple[float, Callable[[], None]]]:
        return [(0.5, lambda: step("a", 0.01)), (0.5, lambda: step("b", 0.03))]

    made = open_time_budget(wish(0.02), tmp_path, phases)
    assert made.plan.end >= 1
    assert made.probe_seconds >= 5 * (0.01 + 0.03)
    assert calls == ["a"] * 5 + ["b"] * 5
    again = open_time_budget(wish(0.02), tmp_path, phases)
    assert len(calls) == 10
    assert again.plan.segments == made.plan.segments
    assert (again.phases, again.probe_seconds) == (made.phases, made.probe_seconds)


def test_there_is_always_a_step(tmp_path: Path) -> None:
    made = open_time_budget(wish(1e-9), tmp_path, lambda: [(1.0, lambda: time.sleep(0.001))])
    assert made.plan.end == 1


@pytest.mark.parametrize(
    "journal",
    ["{}", '{"segments": []}', '{"segments": [[0, 0.0, 0]]}', '{"segments": [[0, 0.0, 5]]}', "["],
)
def test_a_damaged_journal_is_one_line(tmp_path: Path, journal: str) -> None:
    (tmp_path / "step_plan.json").write_text(journal)
    with pytest.raises(DataError, match=r"step_plan\.json is damaged"):
        open_time_budget(wish(1.0), tmp_path, list)


def pretraining(**over: object) -> PretrainConfig:
    return PretrainConfig.model_validate({"batch": 1024, "sequence_length": 512, **over})


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"minutes": 1, "tokens": 1e6}, "minutes and tokens are given: set all but one"),
        ({"minutes": 1, "flops": 1e15}, "minutes and flops are given"),
        ({"tokens": 1e6, "flops": 1e15}, "tokens and flops are given"),
        ({"tokens": 1e6, "steps": 5}, "tokens and steps are given"),
        ({"minutes": None}, "no budget is given: set one of"),
        ({"tokens": 1000}, r"tokens \(1000\) is less than a batch \(1024\)"),
    ],
)
def test_exactly_one_budget(over: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        pretraining(**over)


def test_a_budget_that_is_written_displaces_the_preset_s() -> None:
    preset = PretrainConfig(minutes=4.0)
    assert overlay_config(preset, {}, ["tokens=1e6"]).counted_steps == 488
    assert overlay_config(preset, {}, ["steps=7"]).counted_steps == 7
    stepped = PretrainConfig(steps=60)
    assert overlay_config(stepped, {}, ["minutes=0.1"]).counted_steps is None
    assert overlay_config(stepped, {"tokens": 1e6}).steps is None
    assert overlay_config(stepped, {"tokens": 1e6, "steps": None}).counted_steps == 488
    with pytest.raises(ConfigError, match=r"^--set steps=7: steps: given beside tokens: one of"):
        overlay_config(preset, {"tokens": 1e6}, ["steps=7"])
    assert pretraining(tokens=1e6).minutes is None


PAIRS = [
    *((PretrainConfig, pair) for pair in combinations(("minutes", "tokens", "flops", "steps"), 2)),
    *((FinetuneConfig, pair) for pair in (("minutes", "steps"), ("epochs", "steps"))),
    *((AdaptConfig, pair) for pair in (("minutes", "steps"), ("epochs", "steps"))),
    (DistillConfig, ("minutes", "steps")),
]


@pytest.mark.parametrize(("config", "pair"), PAIRS)
def test_two_budgets_of_which_one_would_be_ignored_are_one_line(
    config: type[StageConfig], pair: tuple[str, str]
) -> None:
    given = {kind: 5000 if kind in ("tokens", "flops") else 50 for kind in pair}
    first, second = pair
    with pytest.raises(ConfigError) as caught:
        overlay_config(config(), given, within="train")
    told = f"given beside {first}: one of them counts; leave out the other"
    assert str(caught.value) == f"train.{second}: {told}"


def test_the_place_of_the_second_budget_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--set pretrain.minutes=3: pretrain.minutes: given be"):
        overlay_config(tiny_run(), {"pretrain": {"steps": 50}}, ["pretrain.minutes=3"])
    timed = overlay_config(
        tiny_run(), {"pretrain": {"steps": 50}}, ["pretrain.minutes=3", "pretrain.steps="]
    )
    assert (timed.pretrain.minutes, timed.pretrain.steps) == (3, None)


def test_epochs_bound_minutes() -> None:
    both = overlay_config(
        tiny_run(), {"sft": {"minutes": 2, "epochs": 1}, "adapt": {"minutes": 2, "epochs": 1}}
    )
    assert (both.sft.minutes, both.sft.epochs, both.adapt.epochs) == (2, 1, 1)


def step() -> None:
    time.sleep(0.001)


def test_minutes_that_come_to_few_steps_are_refused_with_the_figure_to_set(tmp_path: Path) -> None:
    few = wish(1e-6, 50)
    with pytest.raises(
        ConfigError, match=r"^pretrain\.minutes: 1e-06 is 1 step of 0\.\d+ s here: "
    ) as told:
        open_time_budget(few, tmp_path, lambda: [(1.0, step)])
    advised = re.search(
        r"set at least ([\d.e-]+), which is 50, or .*min_steps: 1$", str(told.value)
    )
    assert advised is not None, told.value
    assert read_step_plan(tmp_path) is None  # the next try measures anew
    enough = dataclasses.replace(few, minutes=5 * float(advised[1]))  # the machine may be busier
    assert open_time_budget(enough, tmp_path, lambda: [(1.0, step)]).plan.end >= 50
    again = open_time_budget(few, tmp_path, list)  # begun: it goes on whatever the machine does now
    assert again.plan.end >= 50


def test_where_the_base_is_paid_for_few_steps_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = wish(1e-6, 50, refuse=False)
    assert open_time_budget(few, tmp_path, lambda: [(1.0, step)]).plan.end == 1
    open_time_budget(few, tmp_path, list)  # from the journal
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage()[:39] for record in warnings] == [
        "pretrain.minutes: 1e-06 is 1 step of 0."
    ]


def test_epochs_that_have_fewer_steps_are_no_fault_of_the_minutes(tmp_path: Path) -> None:
    made = open_time_budget(wish(0.01, 50), tmp_path, lambda: [(1.0, step)], most_steps=7)
    assert made.plan.end == 7


def test_minutes_say_what_they_come_to() -> None:
    assert str(MinutesBudget("pretrain", 1, 1.3)) == "1 minute is 46 steps of 1.3 s here"
    assert str(MinutesBudget("sft", 0.05, 3.0)) == "0.05 minutes are 1 step of 3 s here"
    told = MinutesBudget("pretrain", 0.05, 1.0).refusal
    assert told == (
        "pretrain.minutes: 0.05 is 3 steps of 1 s here: set at least 0.92, which is 50, or allow "
        "it with pretrain.min_steps: 3"
    )
    assert MinutesBudget("pretrain", 0.92, 1.0).refusal is None
    assert MinutesBudget("pretrain", 0.05, 1.0, min_steps=3).refusal is None
    probed = MinutesBudget("pretrain", 0.92, 1.0, probe_seconds=10.0)
    assert probed.steps == 45
    assert probed.refusal is not None


@pytest.mark.parametrize("config", [PretrainConfig, FinetuneConfig, AdaptConfig, DistillConfig])
def test_the_least_steps_are_no_part_of_the_key(config: type[StageConfig]) -> None:
    loose = config.model_validate({"min_steps": 1})
    assert loose.key_fields() == config().key_fields()
    with pytest.raises(ValidationError, match="min_steps"):
        config.model_validate({"min_steps": 0})


def test_tiny_counts_steps_and_epochs_and_minutes_over_it_work() -> None:
    run = tiny_run()
    assert (run.pretrain.minutes, run.pretrain.counted_steps) == (None, 2400)
    assert (run.sft.minutes, run.sft.steps, run.sft.epochs) == (None, None, 3.0)
    timed = overlay_config(run, {"pretrain": {"minutes": 30}, "sft": {"minutes": 2}})
    assert (timed.pretrain.minutes, timed.pretrain.counted_steps) == (30, None)
    assert (timed.sft.minutes, timed.sft.steps) == (2, None)
    counted = overlay_config(timed, {"pretrain": {"steps": 7}, "sft": {"steps": 5}})
    assert (counted.pretrain.counted_steps, counted.pretrain.minutes) == (7, None)
    assert (counted.sft.steps, counted.sft.minutes) == (5, None)
    assert overlay_config(counted, {}, ["sft.epochs=2"]).sft.steps is None


def test_the_autopilot_is_refused_a_number_of_steps_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="autopilot plans for minutes or flops, not for steps"):
        overlay_config(tiny_run(), {}, ["pretrain.autopilot=true"])
    with pytest.raises(ConfigError, match="autopilot plans for minutes or flops"):
        overlay_config(tiny_run(), {}, ["pretrain.autopilot=true", "pretrain.tokens=1e6"])
    assert overlay_config(
        tiny_run(), {}, ["pretrain.autopilot=true", "pretrain.minutes=4"]
    ).pretrain.autopilot


@pytest.mark.parametrize("kind", ["minutes", "tokens", "flops", "steps"])
def test_a_run_s_budget_is_displaced_in_its_stage(kind: str) -> None:
    run = overlay_config(nano_run(), {"pretrain": {kind: 5000}})
    kinds = ("minutes", "tokens", "flops", "steps")
    given = {one: getattr(run.pretrain, one) for one in kinds}
    assert given == {one: 5000 if one == kind else None for one in kinds}
    assert run.sft.steps == 20


@pytest.mark.parametrize("config", [FinetuneConfig, AdaptConfig, DistillConfig])
def test_minutes_displace_a_preset_s_steps(config: type[StageConfig]) -> None:
    laid = overlay_config(config.model_validate({"steps": 20}), {}, ["minutes=0.1"])
    assert (laid.model_dump()["minutes"], laid.model_dump()["steps"]) == (0.1, None)


def test_tokens_become_whole_batches_and_are_never_exceeded() -> None:
    assert pretraining().counted_steps is None
    assert pretraining(tokens=1024).counted_steps == 1
    assert pretraining(tokens=10 * 1024 + 1023).counted_steps == 10


def test_operations_are_those_of_the_published_formula() -> None:
    """6 N + 12 L H Q T, at the shape of PaLM 540B (arXiv:2204.02311, table 1)."""
    shape = DecoderShape(
        vocabulary=256_000, width=18_432, layers=118, heads=48, kv_heads=1, head_width=256,
        hidden=73_728, context=2048,
    )  # fmt: skip
    attention = 12 * 118 * 48 * 256 * 2048
    assert flops_per_token(shape, 2048) == 6 * shape.parameters + attention
    mixed = dataclasses.replace(shape, experts=ExpertsShape(count=8, active=2, hidden=256))
    assert flops_per_token(mixed, 2048) == 6 * mixed.active_parameters + attention
    untied = dataclasses.replace(shape, tied=False)
    assert flops_per_token(untied, 2048) == flops_per_token(
        shape, 2048
    )  # looked up, not multiplied
    assert attention / (6 * 540e9) == pytest.approx(0.011, abs=0.001)


@pytest.mark.parametrize("short", [0.0, 0.3, 0.5, 1.0])
def test_a_budget_of_operations_is_kept(short: float) -> None:
    config = pretraining(flops=3e14, short=short)
    steps = config.counted_steps
    assert steps is not None

    def cost(steps: int) -> float:
        plan = StepPlan.of_steps(steps)
        return sum(
            1024
            * flops_per_token(config.shape, 256 if plan.progress_at(n).progress < short else 512)
            for n in range(steps)
        )

    assert 0.99 * 3e14 < cost(steps) <= 3e14 < cost(steps + 1)
