"""Pretraining as a stage: golden losses, resume after kill -9, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from torch.utils.checkpoint import checkpoint

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.train.budget.step_plan import StepPlan, write_step_plan
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig
from models.shape import DecoderShape, ExpertsShape
from tests.train.conftest import NANO, VOCABULARY, sealed_tokens

GOLDEN = [5.5581, 4.2111, 3.2594, 2.7564, 2.5612]
"""Losses of steps 0, 5, 10, 15 and 19, in float32."""


def nano(**over: object) -> PretrainConfig:
    given: dict[str, object] = {
        "shape": NANO,
        "steps": 20,
        "sequence_length": 32,
        "short_sequence_length": 16,
        "batch": 256,
        "micro_batch": 128,
        "precision": "float32",
        "optim": OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01),
        "schedule": ScheduleConfig(warmup=0.02, decay=0.5),
        **over,
    }
    return PretrainConfig(**given)  # type: ignore[arg-type]


def losses(folder: Path) -> list[float]:
    found: list[float] = pq.read_table(folder / "curve.parquet")["loss"].to_pylist()
    return found


def test_twenty_steps_reproduce_the_golden_losses(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    made = pretrain(nano(), tokens, work)
    found = losses(store / made.name)
    assert [found[i] for i in (0, 5, 10, 15, 19)] == pytest.approx(GOLDEN, abs=0.02)
    assert made.stats["parameters"] == NANO.parameters
    assert made.stats["tokens"] == 20 * 256
    assert load_model(store / made.name).shape == NANO


def test_bfloat16_follows_the_golden_losses(tokens: Tokens, store: Path) -> None:
    made = pretrain(nano(precision="bfloat16"), tokens, Workdir.temporary(store))
    found = losses(store / made.name)
    assert [found[i] for i in (0, 5, 10, 15, 19)] == pytest.approx(GOLDEN, abs=0.1)


def test_layers_computed_again_change_nothing(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pretrain(nano(steps=4), tokens, Workdir.temporary(store))
    passes: list[int] = []
    monkeypatch.setattr(
        "models.decoder.checkpoint",
        lambda *given, **how: passes.append(1) or checkpoint(*given, **how),  # type: ignore[func-returns-value]
    )
    again = pretrain(nano(steps=4, activation_checkpointing=True), tokens, Workdir.temporary(store))
    assert len(passes) >= 4 * NANO.layers
    assert again.digest == plain.digest


def test_equal_calls_give_equal_bytes_and_seeds_differ(tokens: Tokens, store: Path) -> None:
    configs = (nano(steps=4), nano(steps=4), nano(steps=4, seed=1))
    made = [pretrain(one, tokens, Workdir.temporary(store)).digest for one in configs]
    assert made[0] == made[1] != made[2]


def test_minutes_become_steps_without_touching_the_run(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    timed = pretrain(nano(steps=None, minutes=0.005, min_steps=1), tokens, work)
    counted = pretrain(nano(steps=int(timed.stats["steps"])), tokens, Workdir.temporary(store))
    assert timed.digest == counted.digest


def test_a_resume_keeps_the_journalled_budget(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    write_step_plan(work.scratch, StepPlan.of_steps(3), phases=[[1.0, 60.0]], probe_seconds=0.0)
    assert pretrain(nano(steps=None), tokens, work).stats["steps"] == 3


CHILD = """
import sys
from pathlib import Path
from components.core.store.artifact import Lineage, Tokens
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain, PretrainConfig
root, key, tokens, config = sys.argv[1:]
work = Workdir(Path(root), key, Lineage(component="t", code="", config=""))
made = pretrain(
    PretrainConfig.model_validate_json(config), Tokens.model_validate_json(tokens), work
)
print(made.digest)
"""


def run_child(
    store: Path, key: str, tokens: Tokens, config: PretrainConfig
) -> subprocess.Popen[str]:
    arguments = [str(store), key, tokens.model_dump_json(), config.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_kill_9_then_the_same_call_gives_the_same_bytes(tokens: Tokens, store: Path) -> None:
    config = nano(steps=150, safety=TrainingSafetyConfig(checkpoint_seconds=0.1))
    child = run_child(store, "killed", tokens, config)
    folder = store / "partial" / "killed" / "scratch" / "states"
    deadline = time.monotonic() + 60
    while last_state(folder) == 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (store / "sealed" / "killed").exists()
    assert 0 < last_state(folder) < 150
    resumed, _ = run_child(store, "killed", tokens, config).communicate(timeout=120)
    unbroken = pretrain(config, tokens, Workdir.temporary(store))
    assert resumed.strip() == unbroken.digest


def last_state(folder: Path) -> int:
    """The step of the newest state, 0 where there is none behind the first."""
    return max((int(path.stem[6:]) for path in folder.glob("state-*.json")), default=0)


def test_a_corpus_shorter_than_one_batch_is_refused(store: Path) -> None:
    with pytest.raises(DataError, match=r"holds 107 tokens, less than one batch of 256: give"):
        pretrain(nano(steps=2), sealed_tokens(store, 1), Workdir.temporary(store))


def test_another_vocabulary_is_refused_in_one_line(tokens: Tokens, store: Path) -> None:
    shape = DecoderShape(**{**NANO.__dict__, "vocabulary": 4096})
    with pytest.raises(ConfigError, match=f"4096, .* both to {VOCABULARY}, or give") as refused:
        pretrain(nano(shape=shape), tokens, Workdir.temporary(store))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"short_sequence_length": 24}, "must divide sequence_length"),
        ({"batch": 100}, "multiple of sequence_length"),
        (
            {"sequence_length": 128, "batch": 1024, "short_sequence_length": 64},
            "within shape.context",
        ),
        ({"shape": {**NANO.__dict__, "heads": 3, "kv_heads": 2}}, "multiple of kv_heads"),
        ({"minutes": 0}, "greater than 0"),
    ],
)
def test_configs_that_cannot_be_are_refused(over: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        nano(**over)


def test_the_config_survives_json() -> None:
    config = nano()
    assert PretrainConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_routers_without_a_balance_loss_are_balanced_by_their_biases(
    store: Path, tokens: Tokens
) -> None:
    experts = ExpertsShape(count=4, active=1, hidden=16, balance="bias", speed=0.25)
    shape = dataclasses.replace(NANO, experts=experts, mode="research")
    made = pretrain(nano(shape=shape, steps=3), tokens, Workdir.temporary(store))
    biases = [
        parameter
        for name, parameter in load_model(store / made.name).named_parameters()
        if name.endswith("choice_bias")
    ]
    assert biases
    for bias in biases:
        # Each of three steps moves every expert of an uneven load by the same amount.
        assert bias.abs().max() > 0
        assert torch.equal(bias / 0.25, (bias / 0.25).round())
