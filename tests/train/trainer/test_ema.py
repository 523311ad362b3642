"""The average of the weights follows its formula, survives a kill, and becomes the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from components.core.errors import DataError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.train.pretrain import pretrain
from components.train.trainer.ema import WeightEma
from components.train.trainer.training_loop import run_training
from components.train.training_config import TrainingSafetyConfig
from tests.train.test_pretrain import losses, nano
from tests.train.trainer.test_training_loop import fresh, job, rows, some_model


def test_it_is_the_published_formula() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = WeightEma(model, 0.5)
    expected = model.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            model.weight += step + 1.0
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    average.apply()
    torch.testing.assert_close(model.weight.detach(), expected)


def test_another_model_s_state_is_refused() -> None:
    average = WeightEma(nn.Linear(2, 1), 0.9)
    with pytest.raises(DataError, match="no average of this model's weight"):
        average.load({"ema/weight": torch.zeros(3, 3)})


def test_training_is_the_same_and_the_model_is_the_average(tokens: Tokens, store: Path) -> None:
    plain = pretrain(nano(steps=8), tokens, Workdir.temporary(store))
    averaged = pretrain(nano(steps=8, ema=0.9), tokens, Workdir.temporary(store))
    assert losses(store / plain.name) == losses(store / averaged.name)
    weights = [load_model(store / one.name).embed_tokens.weight for one in (plain, averaged)]
    assert not torch.equal(*weights)
    assert (weights[0] - weights[1]).abs().max() < 0.5


def test_a_resumed_average_is_that_of_an_unbroken_run(work: Workdir) -> None:
    class Interrupted(Exception):
        pass

    def broken(step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if step == 5:
            raise Interrupted
        return [rows(step)]

    often = TrainingSafetyConfig(checkpoint_seconds=1e-6)
    unbroken, resumed = some_model(), some_model()
    run_training(job(unbroken, lambda step: [rows(step)], ema_decay=0.8, safety=often), work)
    again = fresh(work)
    with pytest.raises(Interrupted):
        run_training(job(some_model(), broken, ema_decay=0.8, safety=often), again)
    run_training(job(resumed, lambda step: [rows(step)], ema_decay=0.8, safety=often), again)
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
