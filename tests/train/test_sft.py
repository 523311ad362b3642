"""Fine-tuning: answers alone are learned, batches hold like lengths, mismatches are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from components.core.artifact import Checkpoint, Instructions, Tokenizer
from components.core.errors import ConfigError, DataError
from components.core.weights import load_model, save_model
from components.core.workdir import Workdir
from components.text.chat import ASSISTANT, END_ID, SPECIALS, open_tokenizer, prompt_ids
from components.train.recipe import OptimConfig
from components.train.sft import (
    Batches,
    Example,
    FinetuneConfig,
    finetune,
    micro_batches,
    read_examples,
)
from models.decoder import Decoder
from models.generate import generate
from models.shape import DecoderShape
from tests.train.conftest import NANO, sealed_model


def nano(**over: object) -> FinetuneConfig:
    given = {"steps": 4, "batch": 512, "longest": 64, "precision": "float32", **over}
    return FinetuneConfig(**given)  # type: ignore[arg-type]


def test_only_the_answer_and_its_end_are_targets() -> None:
    prompt, answer = [1, 20, 21, 2], [30, 31, END_ID]
    other = Example([1, 22, 2, 33, END_ID], 3)
    [(inputs, targets, share)] = micro_batches([Example([*prompt, *answer], 4), other], 100)
    assert inputs.shape == targets.shape == share.shape == (2, 6)
    assert targets[0][share[0] > 0].tolist() == answer
    assert targets[1][share[1] > 0].tolist() == [33, END_ID]


def test_examples_end_their_prompt_with_the_assistants_turn(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    path = store / instructions.name / "train.parquet"
    examples = read_examples(nano(), path, store / tokenizer.name, NANO)
    assert len(examples) == 60
    assert all(one.ids[one.start - 1] == SPECIALS.index(ASSISTANT) for one in examples)
    assert all(one.ids[-1] == END_ID for one in examples)
    described = read_examples(nano(kinds=("describe",)), path, store / tokenizer.name, NANO)
    assert len(described) == 30


def test_batches_hold_everything_once_an_epoch_with_little_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 60, (500,), generator=draw).tolist()
    examples = [Example([index, *[7] * length], 1) for index, length in enumerate(lengths)]
    batches = Batches(examples, 600, seed=0, digest="ab" * 32)
    epoch = [batches.batch(step) for step in range(batches.per_epoch)]
    seen = [one.ids[0] for batch in epoch for one in batch]
    assert len(seen) == len(set(seen)) > 450  # epochs may differ by a batch
    padded = sum(max(len(one.ids) for one in batch) * len(batch) for batch in epoch)
    assert sum(len(one.ids) for batch in epoch for one in batch) > 0.9 * padded
    assert all(max(len(o.ids) for o in batch) * len(batch) <= 600 for batch in epoch)
    again = Batches(examples, 600, seed=0, digest="ab" * 32)
    assert again.batch(3) == batches.batch(3)


def test_an_answer_is_learned_by_heart(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    config = nano(
        steps=150,
        epochs=100,
        kinds=("module",),
        optim=OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01),
    )
    work = Workdir.temporary(store)
    made = finetune(config, sealed_model(store), instructions, tokenizer, work)
    curve = pq.read_table(store / made.name / "curve.parquet")["loss"].to_pylist()
    assert curve[0] > 4
    assert made.stats["loss"] < 1.0
    words = open_tokenizer(store / tokenizer.name)
    model = load_model(store / made.name)
    prompt = prompt_ids(words, [("user", "What is f0?")])
    [answer] = generate(model, [prompt], max_new=30, stop=END_ID, temperature=0)
    assert answer.stopped
    assert words.decode(answer.tokens).startswith("It is f")


def test_equal_calls_give_equal_bytes(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    model = sealed_model(store)
    digests = {
        finetune(nano(), model, instructions, tokenizer, Workdir.temporary(store)).digest
        for _ in range(2)
    }
    assert len(digests) == 1


def test_epochs_bound_the_budget(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    config = nano(steps=None, minutes=10, epochs=1)
    made = finetune(config, sealed_model(store), instructions, tokenizer, Workdir.temporary(store))
    assert made.stats["epochs"] == pytest.approx(1, abs=0.01)
    assert math.isfinite(made.stats["loss"])


def test_without_another_budget_epochs_are_one(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    """No clock has a say: the same steps on every machine."""
    model, whole = sealed_model(store), nano(steps=None, epochs=2)
    made = finetune(whole, model, instructions, tokenizer, Workdir.temporary(store))
    assert made.stats["epochs"] == pytest.approx(2, abs=0.01)
    counted = nano(steps=int(made.stats["steps"]))
    again = finetune(counted, model, instructions, tokenizer, Workdir.temporary(store))
    assert again.digest == made.digest


def test_another_vocabulary_is_refused(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    shape = DecoderShape(**{**NANO.__dict__, "vocabulary": 300})
    with pytest.raises(ConfigError, match="vocabulary of 300, the tokenizer one of 261"):
        finetune(
            nano(),
            sealed_model(store, shape),
            instructions,
            tokenizer,
            Workdir.temporary(store),
        )


def test_a_checkpoint_of_another_shape_is_refused(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    wide = DecoderShape(**{**NANO.__dict__, "width": 64})
    torch.manual_seed(0)
    work = Workdir.temporary(store)
    save_model(work.folder, Decoder(NANO))
    weights = (work.folder / "model.safetensors").read_bytes()
    save_model(work.folder, Decoder(wide))
    (work.folder / "model.safetensors").write_bytes(weights)
    broken = work.seal(Checkpoint)
    with pytest.raises(ConfigError, match="of another shape"):
        finetune(nano(), broken, instructions, tokenizer, Workdir.temporary(store))


def test_no_instruction_left_is_an_error(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    path = store / instructions.name / "train.parquet"
    with pytest.raises(DataError, match="of the kinds poem"):
        read_examples(nano(kinds=("poem",)), path, store / tokenizer.name, NANO)
