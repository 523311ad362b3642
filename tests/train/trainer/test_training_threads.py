"""Threads of a training: measuring leaves no trace, a resume ends with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from components.core.process.thread_tuning import TRAINING_JOURNAL
from components.core.process.usable_cores import usable_cores
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.train.budget.step_plan import STEP_PLAN_FILE, StepPlan
from components.train.budget.time_budget import MinutesRequest, open_time_budget
from components.train.pretrain import pretrain
from components.train.trainer.training_loop import LEAST_STEPS_TO_TUNE, run_training
from components.train.training_config import TrainingSafetyConfig
from tests.train.test_pretrain import nano
from tests.train.trainer.test_killed_training import stop_before
from tests.train.trainer.test_training_loop import MicroBatch, job, rows, some_model

pytestmark = pytest.mark.skipif(usable_cores() < 2, reason="one core leaves nothing to choose")


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MODELMILL_THREADS", "measure")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def journalled(store: Path, turns: list[list[int]]) -> Workdir:
    work = Workdir.temporary(store)
    (work.scratch / TRAINING_JOURNAL).write_text(json.dumps({"turns": turns}))
    return work


def test_measuring_leaves_no_trace(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nano(steps=LEAST_STEPS_TO_TUNE + 2, ema=0.9)
    work = Workdir.temporary(store)
    tried = list[int]()
    monkeypatch.setattr(
        "components.core.process.thread_tuning.time_thread_counts",
        lambda trial, counts, use, clock: (
            ([trial() for _ in counts] and tried.extend(counts)) or {1: 1.0, 2: 2.0}
        ),
    )
    made = pretrain(config, tokens, work)
    assert tried[-1] == 1
    assert made.stats["threads"] == 1
    monkeypatch.setenv("MODELMILL_THREADS", "1")
    pinned = pretrain(config, tokens, Workdir.temporary(store))
    assert made.digest == pinned.digest


def test_a_resume_over_a_change_ends_with_the_bytes_of_an_unbroken_run(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nano(steps=10, safety=TrainingSafetyConfig(checkpoint_seconds=1e-6))
    turns = [[0, 2], [6, 1]]
    unbroken = pretrain(config, tokens, journalled(store, turns))
    work = journalled(store, turns)
    for stop in (4, 4):  # before the change, and behind it
        stop_before(monkeypatch, stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, tokens, work)
        monkeypatch.undo()
        monkeypatch.setenv("MODELMILL_THREADS", "measure")
    assert (work.scratch / "states" / "state-00000008.json").is_file()
    resumed = pretrain(config, tokens, work)
    assert resumed.digest == unbroken.digest
    assert resumed.stats["threads"] == unbroken.stats["threads"] == 1


def test_each_step_is_taken_on_the_threads_of_the_journal(work: Workdir) -> None:
    seen: list[int] = []

    class Watched(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().forward(x)

    def batch(step: int) -> list[MicroBatch]:
        return [rows(step)]

    torch.set_num_threads(2)
    (work.scratch / TRAINING_JOURNAL).write_text(json.dumps({"turns": [[0, 2], [3, 1], [6, 2]]}))
    run_training(job(Watched(4, 1), batch), work)
    assert seen == [2, 2, 2, 1, 1, 1, 2, 2]
    assert torch.get_num_threads() == 2


def test_the_first_choice_is_journalled_before_a_budget_is_made(work: Workdir) -> None:
    from components.core.process.thread_tuning import ThreadTuner

    order: list[list[str]] = []

    def step() -> None:
        order.append(sorted(p.name for p in work.scratch.glob("*.json")))

    wish = MinutesRequest("pretrain", 0.001, 1)
    open_time_budget(wish, work.scratch, lambda: [(1.0, step)], threads=ThreadTuner(work))
    assert order[0] == []
    assert order[-1] == [TRAINING_JOURNAL]
    assert (work.scratch / STEP_PLAN_FILE).is_file()


def test_a_loss_that_is_no_number_is_the_real_step_s_to_find(work: Workdir) -> None:
    def batch(step: int) -> list[MicroBatch]:
        x, y = rows(step)
        return [(x * (float("nan") if step == 0 else 1.0), y)]

    model = some_model()
    trained = run_training(job(model, batch, plan=StepPlan.of_steps(LEAST_STEPS_TO_TUNE)), work)
    assert trained.skipped == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())
