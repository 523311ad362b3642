"""A spike is undone from a state before it, its batches are left out, and a kill changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from components.core.errors import DataError, MillError
from components.core.store.workdir import Workdir
from components.train.budget.step_plan import StepPlan
from components.train.trainer.loss_spikes import SPARE_BATCHES, Rollbacks, spike_bound
from components.train.trainer.training_job import TrainingJob
from components.train.trainer.training_loop import run_training
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig
from tests.train.trainer.test_training_loop import MicroBatch, fresh, rows, some_model

CAREFUL = TrainingSafetyConfig(
    checkpoint_seconds=1e-6, keep=8, spike=10, spike_window=16, spike_span=3
)
STEPS, SPIKE = 24, 20


class Killed(Exception):
    pass


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    house = logging.getLogger("modelmill")
    before, house.propagate = house.propagate, True
    with caplog.at_level(logging.WARNING, logger="modelmill"):
        yield caplog
    house.propagate = before


def spiking(*at: int) -> Callable[[int], list[MicroBatch]]:
    """Windows of noise that no model learns; those ``at`` are far from all others."""

    def batch(step: int) -> list[MicroBatch]:
        x, y = rows(step, 64)
        return [
            (
                x,
                y
                + torch.randn(y.shape, generator=torch.Generator().manual_seed(step))
                + 30 * (step in at),
            )
        ]

    return batch


def job(
    batch: Callable[[int], list[MicroBatch]], safety: TrainingSafetyConfig = CAREFUL, **over: object
) -> tuple[TrainingJob[MicroBatch], torch.nn.Module]:
    model = some_model()

    def loss(micro: MicroBatch, targets: float) -> Tensor:
        return (model(micro[0]) - micro[1]).square().sum() / targets

    given = {
        "modules": {"model": model},
        "batch": batch,
        "count_targets": lambda micro: len(micro[0]),
        "loss": loss,
        "plan": StepPlan.of_steps(STEPS),
        "optim": OptimConfig(kind="adamw", adam_lr=0.01),
        "schedule": ScheduleConfig(),
        "safety": safety,
        **over,
    }
    return TrainingJob(**given), model  # type: ignore[arg-type]


def test_the_bound_follows_median_and_deviation() -> None:
    config = TrainingSafetyConfig(spike=4, spike_window=16)
    draw = np.random.default_rng(0)
    losses = (3.0 + 0.1 * draw.standard_normal(400)).tolist()
    assert spike_bound(losses[:15], config) == float("inf")
    bounds = [spike_bound(losses[:end], config) for end in range(200, 400)]
    assert np.mean(bounds) == pytest.approx(3.4, abs=0.1)
    # One outlier moves neither, as it would a mean and a standard deviation.
    assert spike_bound([*losses[-16:-1], 50.0], config) < 3.8
    assert spike_bound(losses, TrainingSafetyConfig()) == float("inf")
    assert spike_bound([2.0] * 16, config) == pytest.approx(2.08)


def test_a_spike_is_undone_and_its_batches_are_left_out(
    work: Workdir, told: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def batch(step: int) -> list[MicroBatch]:
        asked.append(step)
        return spiking(SPIKE)(step)

    given, model = job(batch)
    trained = run_training(given, work)
    assert trained.skipped == 3
    said = [record.message for record in told.records]
    assert any(
        "step 20: loss" in m and "rolled back to step 18, batches 18 to 20" in m for m in said
    )
    again = asked[asked.index(SPARE_BATCHES) :]
    assert [one for one in again if one >= SPARE_BATCHES] == [
        SPARE_BATCHES,
        SPARE_BATCHES + 1,
        SPARE_BATCHES + 2,
    ]
    assert again[3:] == list(range(21, STEPS))
    # What comes out is what a training without those windows gives, bit for bit.
    replaced = {18: SPARE_BATCHES, 19: SPARE_BATCHES + 1, 20: SPARE_BATCHES + 2}
    straight, wanted = job(lambda step: spiking()(replaced.get(step, step)))
    run_training(straight, fresh(work))
    for a, b in zip(model.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_being_asked_a_spike_is_borne(work: Workdir) -> None:
    given, _ = job(spiking(SPIKE), TrainingSafetyConfig())
    assert run_training(given, work).skipped == 0


def test_too_many_spikes_end_the_training(work: Workdir) -> None:
    def batch(step: int) -> list[MicroBatch]:
        x, y = rows(step, 64)
        return [(x, y + (1000.0 if step >= SPIKE else 0.0) + torch.randn(y.shape))]

    given, _ = job(batch, CAREFUL.model_copy(update={"spikes": 2}))
    with pytest.raises(
        MillError, match=r"spiked at step 16 .* once more after 2 spikes were undone; .* to null"
    ):
        run_training(given, work)


@pytest.mark.parametrize("when", ["before the journal", "behind the journal"])
def test_a_kill_around_a_setback_changes_nothing(
    work: Workdir, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    given, unbroken = job(spiking(SPIKE))
    run_training(given, work)
    again = fresh(work)
    write = Rollbacks.write

    def killed(self: Rollbacks) -> None:
        if when == "behind the journal":
            write(self)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Rollbacks, "write", killed)
        with pytest.raises(Killed):
            run_training(job(spiking(SPIKE))[0], again)
    given, resumed = job(spiking(SPIKE))
    assert run_training(given, again).skipped == 3
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    curves = [(one.folder / "curve.parquet").read_bytes() for one in (work, again)]
    assert curves[0] == curves[1]


def test_where_only_newer_states_are_left_the_oldest_good_one_is_taken(work: Workdir) -> None:
    given, model = job(spiking(SPIKE), CAREFUL.model_copy(update={"keep": 1}))
    assert run_training(given, work).skipped == 3
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_budget_pays_for_what_is_undone(work: Workdir) -> None:
    spent: list[float] = []

    class Watch:
        probe_seconds = 0.0

        def replan_if_off_pace(self, step: int, seconds: float) -> bool:
            spent.append(seconds)
            return False

    given, _ = job(spiking(SPIKE), budget=Watch())
    run_training(given, work)
    assert spent == sorted(spent)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"windows": 3, "broken": 0, "spikes": 0}'])
def test_a_damaged_journal_of_setbacks_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "setbacks.json").write_text(content)
    with pytest.raises(DataError, match=r"setbacks\.json is damaged"):
        Rollbacks.read(tmp_path)
