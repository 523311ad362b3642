"""A step's loss and gradient are those of its batch, however it is cut into micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.core.store.artifact import Checkpoint, Instructions, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.token_arrays import open_split
from components.train.adapt import AdaptConfig, adapt
from components.train.data.conversations import ConversationBatches, Conversations
from components.train.data.packed_texts import PackedTexts
from components.train.distill import DistillConfig, distill
from components.train.sft import FinetuneConfig, conversation_micro_batches, finetune
from components.train.trainer.adapter_training import LoraConfig
from components.train.training_config import OptimConfig
from models.shape import DecoderShape
from tests.train.conftest import NANO, sealed_model

OPTIM = OptimConfig(kind="adamw", adam_lr=0.002, embedding_lr=0.002, adam_eps=1e-6)
SPLITS = (1 << 20, 150, 16)
"""Everything at once; some rows and a rest; row by row."""
Run = Callable[[int], dict[str, list[float]]]


def curve(store: Path, made: Checkpoint) -> dict[str, list[float]]:
    found: dict[str, list[float]] = pq.read_table(store / made.name / "curve.parquet").to_pydict()
    return found


def text_config(kind: type, micro_batch: int, **over: Any) -> Any:
    given = {
        "steps": 6,
        "sequence_length": 32,
        "batch": 160,
        "micro_batch": micro_batch,
        "precision": "float32",
        "optim": OPTIM,
        **over,
    }
    return kind(**given)


@pytest.fixture(params=["sft", "sft, lora", "adapt", "adapt, lora", "adapt, qlora", "distill"])
def run(
    request: pytest.FixtureRequest,
    store: Path,
    tokens: Tokens,
    tokenizer: Tokenizer,
    instructions: Instructions,
) -> Run:
    """One kind of training, for a number of tokens at once."""
    stage, _, method = request.param.partition(", ")
    model = sealed_model(store)
    lora = LoraConfig(rank=4, quantize=method == "qlora") if method else None

    def trained(micro_batch: int) -> dict[str, list[float]]:
        work = Workdir.temporary(store)
        if stage == "sft":
            config = FinetuneConfig(
                steps=6,
                batch=400,
                micro_batch=micro_batch,
                longest=64,
                precision="float32",
                optim=OPTIM,
                lora=lora,
            )
            made = finetune(config, model, instructions, tokenizer, work, tokens)
            return curve(store, made)
        if stage == "adapt":
            config = text_config(AdaptConfig, micro_batch, lora=lora)
            return curve(store, adapt(config, model, tokens, work))
        student = DecoderShape(**{**NANO.__dict__, "width": 24, "layers": 1})
        config = text_config(
            DistillConfig, micro_batch, shape=student, hidden_layers=(0,), weight=0.7
        )
        return curve(store, distill(config, model, tokens, work))

    return trained


def test_losses_are_equal_over_splits(run: Run) -> None:
    whole, *cut = (run(micro_batch) for micro_batch in SPLITS)
    for other in cut:
        assert other["targets"] == whole["targets"]
        assert other["loss"] == pytest.approx(whole["loss"], rel=1e-6)
        assert other["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)


def test_the_micro_batches_hold_unequal_numbers_of_targets(
    store: Path, tokens: Tokens, tokenizer: Tokenizer, instructions: Instructions
) -> None:
    """Else a mean of the micro-batches' means would pass the test above."""
    config = FinetuneConfig(batch=400, longest=64)
    folder = store / instructions.name
    conversations = Conversations(folder, store / tokenizer.name, longest=config.longest)
    batches = ConversationBatches(
        conversations.epoch_conversations, config.batch, config.seed, instructions.digest
    )
    counts = [micro.count for micro in conversation_micro_batches(batches.batch(0), SPLITS[1])]
    assert max(counts) > 1.2 * min(counts)
    split = open_split(store / tokens.name, "train")
    parts = AdaptConfig(batch=160, sequence_length=32, micro_batch=SPLITS[1])
    cut = PackedTexts(split, tokens.digest, parts).batch(0)
    assert [micro.count for micro in cut] == [128, 32]
    assert math.fsum(float(micro.target_weights(160).sum()) for micro in cut) == pytest.approx(
        1, rel=1e-6
    )
