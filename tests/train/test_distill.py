"""Distillation as a stage: a student learns its teacher, resumes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split
from components.train.data.packed_texts import PackedTexts
from components.train.distill import DistillConfig, distill
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.trainer.training_state import StateFiles
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig
from models.shape import Balance, DecoderShape, ExpertsShape, Mode
from tests.train.conftest import NANO, VOCABULARY, sealed_model, sealed_tokens

STUDENT = DecoderShape(**{**NANO.__dict__, "width": 16, "layers": 1})
RATES = OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01)


def nano(**over: Any) -> DistillConfig:
    given = {
        "shape": STUDENT,
        "steps": 8,
        "sequence_length": 32,
        "batch": 256,
        "precision": "float32",
        "optim": RATES,
        "schedule": ScheduleConfig(warmup=0.02, decay=0.5),
        **over,
    }
    return DistillConfig(**given)


def divergence(teacher: Checkpoint, student: Checkpoint, tokens: Tokens, store: Path) -> float:
    """Mean KL of the student from the teacher on held-out documents of the language."""
    split = open_split(store / tokens.name, "heldout")
    ids = torch.tensor([[0, *split.document(index)[:19].tolist()] for index in range(5)])
    with torch.no_grad():
        p, q = (load_model(store / one.name)(ids).log_softmax(-1) for one in (teacher, student))
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_a_vocabulary_that_was_not_given_is_the_teacher_s(store: Path, tokens: Tokens) -> None:
    shape = DecoderShape(width=16, layers=1, heads=2, kv_heads=1, head_width=16, context=64)
    taught = distill(
        nano(shape=shape, steps=2), sealed_model(store), tokens, Workdir.temporary(store)
    )
    made = load_model(store / taught.name).shape
    assert (made.vocabulary, made.width) == (VOCABULARY, 16)
    assert taught.stats["parameters"] == made.parameters


def test_a_student_comes_near_its_teacher(store: Path, tokens: Tokens) -> None:
    learnt = PretrainConfig(
        shape=NANO,
        steps=40,
        sequence_length=32,
        short_sequence_length=16,
        batch=256,
        precision="float32",
        optim=RATES,
    )
    teacher = pretrain(learnt, tokens, Workdir.temporary(store))
    alone, told = (
        distill(
            nano(steps=40, weight=weight, temperature=1.0),
            teacher,
            tokens,
            Workdir.temporary(store),
        )
        for weight in (0.0, 1.0)
    )
    assert load_model(store / told.name).shape == STUDENT
    assert divergence(teacher, told, tokens, store) < 0.8 * divergence(
        teacher, alone, tokens, store
    )


def test_without_the_teacher_s_weight_it_is_pretraining(store: Path, tokens: Tokens) -> None:
    common: dict[str, Any] = nano(weight=0.0).model_dump(
        include={"steps", "sequence_length", "batch", "precision"}
    )
    kept = nano()
    config = PretrainConfig(
        shape=STUDENT,
        short=0.0,
        short_sequence_length=32,
        optim=RATES,
        schedule=kept.schedule,
        **common,
    )
    plain = pretrain(config, tokens, Workdir.temporary(store))
    made = distill(nano(weight=0.0), sealed_model(store), tokens, Workdir.temporary(store))
    curves = [
        pq.read_table(store / one.name / "curve.parquet")["loss"].to_pylist()
        for one in (plain, made)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_hidden_states_are_learnt_and_thrown_away(
    store: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    projections: list[torch.Tensor] = []
    whole = StateFiles.save

    def noting(self: StateFiles, step: int, tensors: Any, meta: Any) -> None:
        projections.extend(t.clone() for n, t in tensors.items() if n.startswith("model/proj"))
        whole(self, step, tensors, meta)

    monkeypatch.setattr(StateFiles, "save", noting)
    teacher = sealed_model(store)
    safety = TrainingSafetyConfig(checkpoint_seconds=1e-6)
    config = nano(steps=30, weight=1.0, hidden_layers=(0,), safety=safety)
    made = distill(config, teacher, tokens, Workdir.temporary(store))
    losses = pq.read_table(store / made.name / "curve.parquet")["loss"].to_pylist()
    assert not torch.equal(projections[0], projections[-1])
    assert losses[-1] < losses[0] - 0.2  # a state's mean square is 1 to begin with
    assert load_model(store / made.name).shape == STUDENT
    bare = distill(nano(steps=30, weight=1.0), teacher, tokens, Workdir.temporary(store))
    assert bare.digest != made.digest


@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_a_student_of_experts_balances_them(balance: Balance, store: Path, tokens: Tokens) -> None:
    teacher = sealed_model(store)
    made = []
    for strength in (0.0, 0.1):
        experts = ExpertsShape(
            count=4, hidden=16, balance=balance, coefficient=strength, speed=strength
        )
        mode: Mode = "research" if balance == "bias" else "exportable"
        shape = replace(STUDENT, experts=experts, mode=mode)
        made.append(distill(nano(shape=shape), teacher, tokens, Workdir.temporary(store)))
    weights = [dict(load_model(store / one.name).named_parameters()) for one in made]
    routers = [name for name in weights[0] if name.endswith(("gate.weight", "choice_bias"))]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in routers)


def test_an_interrupted_run_ends_with_the_bytes_of_an_unbroken_one(
    store: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    teacher = sealed_model(store)
    config = nano(hidden_layers=(0,), safety=TrainingSafetyConfig(checkpoint_seconds=1e-6))
    unbroken = distill(config, teacher, tokens, Workdir.temporary(store))
    whole_batch, work = PackedTexts.batch, Workdir.temporary(store)

    def broken(self: PackedTexts, step: int) -> Any:
        if step == 5:
            raise Interrupted
        return whole_batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(PackedTexts, "batch", broken)
        with pytest.raises(Interrupted):
            distill(config, teacher, tokens, work)
    assert distill(config, teacher, tokens, work).digest == unbroken.digest
    assert work.progress.resumed == "at step 5"


def test_minutes_become_steps_without_touching_the_run(store: Path, tokens: Tokens) -> None:
    teacher = sealed_model(store)
    config = nano(steps=None, minutes=0.004, min_steps=1, hidden_layers=(0,))
    timed = distill(config, teacher, tokens, Workdir.temporary(store))
    counted = nano(steps=int(timed.stats["steps"]), hidden_layers=(0,))
    assert distill(counted, teacher, tokens, Workdir.temporary(store)).digest == timed.digest


def test_vocabularies_and_contexts_that_differ_are_refused(store: Path, tokens: Tokens) -> None:
    other = sealed_model(store, DecoderShape(**{**NANO.__dict__, "vocabulary": 300}))
    short = sealed_model(store, DecoderShape(**{**NANO.__dict__, "context": 16}))
    strange = nano(shape=DecoderShape(**{**STUDENT.__dict__, "vocabulary": 300}))
    for config, teacher, given, words in (
        (nano(), other, tokens, f"teacher .*of 300, .*of {VOCABULARY}, .* different"),
        (
            nano(),
            sealed_model(store),
            sealed_tokens(store, 5, 300),
            "the tokens .*of 300, .* different tokenizers",
        ),
        (strange, sealed_model(store), tokens, f"vocabulary is 300, .* set it to {VOCABULARY}"),
        (nano(), short, tokens, r"distill.sequence_length \(32\) must be within .* teacher \(16\)"),
    ):
        work = Workdir.temporary(store)
        with pytest.raises(ConfigError, match=words) as refused:
            distill(config, teacher, given, work)
        assert "\n" not in str(refused.value)
        assert not (work.scratch / "states").exists()


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"hidden_layers": (1,)}, "hidden_layers: 1 is no layer, shape.layers is 1"),
        ({"sequence_length": 128, "batch": 128}, "within shape.context"),
        ({"batch": 100}, "multiple of sequence_length"),
        ({"temperature": 0}, "greater than 0"),
        ({"weight": 1.1}, "less than or equal to 1"),
    ],
)
def test_configs_that_cannot_be_are_refused(over: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        nano(**over)
