"""Training on: full and with adapters, resume, budget, and what is refused before the first step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.train.adapt import AdaptConfig, adapt
from components.train.data.packed_texts import PackedTexts
from components.train.sft import FinetuneConfig, finetune
from components.train.trainer.adapter_training import LoraConfig, load_adapter
from components.train.training_config import OptimConfig, TrainingSafetyConfig
from models.lora import merge_adapters
from models.quantized_linear import quantize_linears
from models.shape import DecoderShape, ExpertsShape
from tests.train.conftest import NANO, VOCABULARY, sealed_model, sealed_tokens

RATES = OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01)
IDS = torch.randint(0, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))


def nano(**over: Any) -> AdaptConfig:
    given = {
        "steps": 20,
        "sequence_length": 32,
        "batch": 256,
        "precision": "float32",
        "optim": RATES,
        **over,
    }
    return AdaptConfig(**given)


@pytest.fixture
def model(store: Path) -> Checkpoint:
    return sealed_model(store)


def losses(store: Path, made: Checkpoint) -> list[float]:
    found: list[float] = pq.read_table(store / made.name / "curve.parquet")["loss"].to_pylist()
    return found


@pytest.mark.parametrize(
    ("lora", "ends_below"),
    [(None, 3.5), (LoraConfig(rank=8), 5.3), (LoraConfig(rank=8, quantize=True), 5.3)],
)
def test_it_learns_from_the_text(
    lora: LoraConfig | None, ends_below: float, store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    """Adapters on random weights learn little: the head's rows are random and frozen."""
    made = adapt(nano(lora=lora), model, tokens, Workdir.temporary(store))
    found = losses(store, made)
    assert found[0] == pytest.approx(5.56, abs=0.03)
    assert found[-1] < ends_below
    whole = load_model(store / made.name).shape.parameters
    assert (made.stats["trained_parameters"] == whole) is (lora is None)


def test_adapters_leave_everything_else_as_it_was(
    store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    lora = LoraConfig(rank=4, targets=("q_proj",))
    made = adapt(nano(lora=lora), model, tokens, Workdir.temporary(store))
    before, after = (dict(load_model(store / one.name).named_parameters()) for one in (model, made))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"layers.{i}.self_attn.q_proj.weight" for i in range(NANO.layers)}


@pytest.mark.parametrize("quantize", [False, True])
def test_the_adapter_beside_gives_the_merged_model_again(
    quantize: bool, store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    lora = LoraConfig(rank=4, quantize=quantize)
    made = adapt(nano(lora=lora), model, tokens, Workdir.temporary(store))
    again = load_model(store / model.name)
    if quantize:
        quantize_linears(again)
    load_adapter(store / made.name / "adapter", again, model.digest)
    unmerged = again(IDS)
    merge_adapters(again)
    whole = load_model(store / made.name)
    assert torch.equal(again(IDS), whole(IDS))
    torch.testing.assert_close(unmerged, whole(IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
def test_routers_are_balanced_unless_they_are_frozen(
    lora: LoraConfig | None, store: Path, tokens: Tokens
) -> None:
    experts = ExpertsShape(count=4, hidden=16, balance="bias", speed=0.1)
    mixed = sealed_model(store, replace(NANO, experts=experts, mode="research"))
    made = adapt(nano(steps=3, lora=lora), mixed, tokens, Workdir.temporary(store))
    state = dict(load_model(store / made.name).named_parameters())
    biases = [tensor for name, tensor in state.items() if name.endswith("choice_bias")]
    assert len(biases) == NANO.layers
    assert all(bool(bias.any()) is (lora is None) for bias in biases)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, dropout=0.3, quantize=True)])
def test_an_interrupted_run_ends_with_the_bytes_of_an_unbroken_one(
    lora: LoraConfig | None,
    store: Path,
    tokens: Tokens,
    model: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Exception):
        pass

    config = nano(steps=8, lora=lora, safety=TrainingSafetyConfig(checkpoint_seconds=1e-6))
    unbroken = adapt(config, model, tokens, Workdir.temporary(store))
    whole_batch, work = PackedTexts.batch, Workdir.temporary(store)

    def broken(self: PackedTexts, step: int) -> Any:
        if step == 5:
            raise Interrupted
        return whole_batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(PackedTexts, "batch", broken)
        with pytest.raises(Interrupted):
            adapt(config, model, tokens, work)
    resumed = adapt(config, model, tokens, work)
    assert work.progress.resumed == "at step 5"
    assert resumed.digest == unbroken.digest


def test_saved_states_hold_no_frozen_weights(
    store: Path, tokens: Tokens, model: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.train.trainer.training_state import StateFiles

    names: set[str] = set()
    whole = StateFiles.save

    def noting(self: StateFiles, step: int, tensors: Any, meta: Any) -> None:
        names.update(tensors)
        whole(self, step, tensors, meta)

    monkeypatch.setattr(StateFiles, "save", noting)
    adapt(nano(steps=2, lora=LoraConfig(rank=4)), model, tokens, Workdir.temporary(store))
    weights = {name for name in names if name.startswith("model/")}
    assert weights
    assert all(".lora_" in name for name in weights)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, dropout=0.3)])
def test_minutes_become_steps_without_touching_the_run(
    lora: LoraConfig | None, store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    timed = adapt(
        nano(steps=None, minutes=5, epochs=0.5, lora=lora), model, tokens, Workdir.temporary(store)
    )
    assert timed.stats["epochs"] == pytest.approx(0.5, abs=0.05)
    steps = int(timed.stats["steps"])
    counted = adapt(nano(steps=steps, lora=lora), model, tokens, Workdir.temporary(store))
    assert timed.digest == counted.digest


def test_fine_tuning_takes_adapters_too(
    store: Path, model: Checkpoint, instructions: Instructions, tokenizer: Tokenizer
) -> None:
    config = FinetuneConfig(
        steps=4, batch=512, longest=64, precision="float32", lora=LoraConfig(rank=4), optim=RATES
    )
    made = finetune(config, model, instructions, tokenizer, Workdir.temporary(store))
    before, after = (dict(load_model(store / one.name).named_parameters()) for one in (model, made))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    assert (store / made.name / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        (
            LoraConfig(targets=("qkv",)),
            r"adapt.lora: 'qkv' names no linear layer; there are q_proj, .*lm_head",
        ),
        (LoraConfig(rank=17), "adapt.lora: rank 17 is larger than layers.0.self_attn.k_proj"),
        (LoraConfig(targets=("lm_head",)), "lm_head shares its weight with embed_tokens"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_before_the_first_step(
    lora: LoraConfig, words: str, store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    work = Workdir.temporary(store)
    with pytest.raises(ConfigError, match=words) as refused:
        adapt(nano(lora=lora), model, tokens, work)
    assert "\n" not in str(refused.value)
    assert not (work.scratch / "states").exists()


def test_tokens_of_another_vocabulary_and_long_blocks_are_refused(
    store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    with pytest.raises(ConfigError, match=r"of 261, .*of 300, .* different tokenizers"):
        adapt(nano(), model, sealed_tokens(store, 5, 300), Workdir.temporary(store))
    config = nano(sequence_length=128, batch=256)
    with pytest.raises(
        ConfigError, match=r"adapt.sequence_length \(128\) must be within the context"
    ):
        adapt(config, model, tokens, Workdir.temporary(store))
    with pytest.raises(ValidationError, match="multiple of sequence_length"):
        nano(batch=100)


def test_tokens_out_of_range_are_refused(store: Path, tokens: Tokens) -> None:
    model = sealed_model(store, DecoderShape(**{**NANO.__dict__, "vocabulary": 30}))
    work = Workdir.temporary(store)
    for path in (store / tokens.name).iterdir():
        if path.name != "artifact.json":
            (work.folder / path.name).write_bytes(path.read_bytes())
    meta = json.loads((work.folder / "meta.json").read_text())
    (work.folder / "meta.json").write_text(json.dumps({**meta, "vocabulary": 30}))
    with pytest.raises(DataError, match=r"token \d+ is outside the vocabulary of 30"):
        adapt(nano(), model, work.seal(Tokens), Workdir.temporary(store))


def test_a_corpus_shorter_than_one_batch_still_trains(store: Path, model: Checkpoint) -> None:
    made = adapt(nano(steps=2), model, sealed_tokens(store, 1), Workdir.temporary(store))
    assert made.stats["steps"] == 2


CHILD = """
import sys
from pathlib import Path
from components.core.store.artifact import Checkpoint, Lineage, Tokens
from components.core.store.workdir import Workdir
from components.train.adapt import AdaptConfig, adapt
from components.train.distill import DistillConfig, distill
root, key, stage, config, model, tokens = sys.argv[1:]
work = Workdir(Path(root), key, Lineage(component="t", code="", config=""))
call, kind = {"adapt": (adapt, AdaptConfig), "distill": (distill, DistillConfig)}[stage]
given = Checkpoint.model_validate_json(model), Tokens.model_validate_json(tokens)
print(call(kind.model_validate_json(config), *given, work).digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["adapt", "distill"])
def test_kill_9_then_the_same_call_gives_the_same_bytes(
    stage: str, store: Path, tokens: Tokens, model: Checkpoint
) -> None:
    from components.train.distill import DistillConfig, distill

    common = {"steps": 150, "safety": TrainingSafetyConfig(checkpoint_seconds=0.1)}
    if stage == "adapt":
        config: Any = nano(lora=LoraConfig(rank=4, dropout=0.2), **common)
        unbroken = adapt(config, model, tokens, Workdir.temporary(store))
    else:
        student = DecoderShape(**{**NANO.__dict__, "width": 16})
        settings = {
            "sequence_length": 32,
            "batch": 256,
            "precision": "float32",
            "hidden_layers": (1,),
        }
        config = DistillConfig(shape=student, **settings, **common)
        unbroken = distill(config, model, tokens, Workdir.temporary(store))
    given = [one.model_dump_json() for one in (config, model, tokens)]
    arguments = [sys.executable, "-c", CHILD, str(store), "killed", stage, *given]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(arguments, env=environment)
    states = store / "partial" / "killed" / "scratch" / "states"
    deadline = time.monotonic() + 60
    while last_state(states) == 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < last_state(states) < 150
    resumed = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert resumed.stdout.strip() == unbroken.digest


def last_state(folder: Path) -> int:
    """The step of the newest state, 0 where there is none behind the first."""
    return max((int(path.stem[6:]) for path in folder.glob("state-*.json")), default=0)
