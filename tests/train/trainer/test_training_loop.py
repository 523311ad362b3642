"""Accumulation is exact, a broken step is undone, a rollback leaves the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from components.core.errors import MillError
from components.core.store.workdir import Workdir
from components.train.budget.memory_reuse import keep_freed_memory, return_freed_memory
from components.train.budget.step_plan import StepPlan
from components.train.trainer.loss_spikes import SPARE_BATCHES
from components.train.trainer.training_job import TrainingJob
from components.train.trainer.training_loop import run_training
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig

MicroBatch = tuple[Tensor, Tensor]


def rows(step: int, count: int = 12) -> MicroBatch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(count, 4, generator=generator)
    return x, x.sum(1, keepdim=True)


def job(
    model: nn.Module, batch: Callable[[int], list[MicroBatch]], **over: object
) -> TrainingJob[MicroBatch]:
    def loss(micro: MicroBatch, targets: float) -> Tensor:
        return (model(micro[0]) - micro[1]).square().sum() / targets

    given = {
        "modules": {"model": model},
        "batch": batch,
        "count_targets": lambda micro: len(micro[0]),
        "loss": loss,
        "plan": StepPlan.of_steps(8),
        "optim": OptimConfig(kind="adamw", adam_lr=0.05),
        "schedule": ScheduleConfig(),
        "safety": TrainingSafetyConfig(checkpoint_seconds=1e-6),
        **over,
    }
    return TrainingJob(**given)  # type: ignore[arg-type]


def some_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def fresh(work: Workdir) -> Workdir:
    return Workdir.temporary(work.root)


def test_uneven_micro_batches_give_the_whole_batch(work: Workdir) -> None:
    whole, parts = some_model(), some_model()

    def split(step: int) -> list[MicroBatch]:
        x, y = rows(step)
        return [(x[:1], y[:1]), (x[1:8], y[1:8]), (x[8:], y[8:])]

    one = run_training(job(whole, lambda step: [rows(step)]), work)
    two = run_training(job(parts, split), fresh(work))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert one.loss == pytest.approx(two.loss, rel=1e-5)
    assert one.targets == two.targets == 8 * 12


def test_it_learns_and_says_so(work: Workdir) -> None:
    trained = run_training(
        job(some_model(), lambda step: [rows(step)], plan=StepPlan.of_steps(60)), work
    )
    curve = pq.read_table(work.folder / "curve.parquet").to_pydict()
    assert curve["step"] == list(range(60))
    assert trained.loss < curve["loss"][0] / 20
    assert curve["targets"] == [12] * 60
    assert max(curve["rate"]) == 1.0
    assert "tokens/s" in work.progress.note


def test_a_window_without_a_finite_loss_is_left_out(work: Workdir) -> None:
    seen: list[int] = []

    def batch(step: int) -> list[MicroBatch]:
        seen.append(step)
        x, y = rows(step)
        return [(x * (math.nan if step == 3 else 1.0), y)]

    model = some_model()
    trained = run_training(job(model, batch), work)
    assert trained.skipped == 1
    assert seen[:4] == [0, 1, 2, 3]
    assert seen[-5:] == [
        SPARE_BATCHES,
        4,
        5,
        6,
        7,
    ]  # one from far behind the end in place of the broken one
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_rollback_over_several_steps_changes_nothing(work: Workdir) -> None:
    def batch(step: int) -> list[MicroBatch]:
        x, y = rows(step)
        return [(x * (math.nan if step == 5 else 1.0), y)]

    often, never = some_model(), some_model()
    run_training(job(often, batch), work)
    run_training(
        job(never, batch, safety=TrainingSafetyConfig(checkpoint_seconds=1e6)), fresh(work)
    )
    for a, b in zip(often.parameters(), never.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_gives_up_when_nothing_helps(work: Workdir) -> None:
    def batch(step: int) -> list[MicroBatch]:
        x, y = rows(step)
        return [(x * math.nan, y)]

    with pytest.raises(MillError, match=r"step 0 .* 4th time; lower the learning rates"):
        run_training(job(some_model(), batch), work)


def test_an_interrupted_run_ends_with_the_bytes_of_an_unbroken_one(work: Workdir) -> None:
    class Interrupted(Exception):
        pass

    def broken(step: int) -> list[MicroBatch]:
        if step == 5:
            raise Interrupted
        return [rows(step)]

    unbroken, resumed = some_model(), some_model()
    run_training(job(unbroken, lambda step: [rows(step)]), work)
    again = fresh(work)
    with pytest.raises(Interrupted):
        run_training(job(some_model(), broken), again)
    assert not again.progress.resumed
    run_training(job(resumed, lambda step: [rows(step)]), again)
    assert again.progress.resumed == "at step 5"
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    curves = [(one.folder / "curve.parquet").read_bytes() for one in (work, again)]
    assert curves[0] == curves[1]


def test_freed_memory_goes_back_to_the_system() -> None:
    keep_freed_memory()
    process = psutil.Process()
    blocks = [bytearray(1 << 20) for _ in range(200)]
    held = process.memory_info().rss
    blocks.clear()
    if not return_freed_memory():
        pytest.skip("this C library hands nothing back")
    assert process.memory_info().rss < held - (150 << 20)
