"""Invariance of losses to the micro-batch and to the number of ranks.

Whole trainings of a small model in float32, with the batch as one micro-batch and as several, and
in one process and in several (gloo). The optimiser is an AdamW whose epsilon is far above the
gradients, which makes its steps plain momentum steps: a difference of gradients then enters the
weights as it is, and is not amplified as by a sign.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer as Words
from tokenizers import decoders, models, pre_tokenizers

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.train.step_time import random_tokens
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.house_template import HOUSE_TOKENS
from components.train.distill import DistillConfig, distill
from components.train.distributed.parallel_config import ParallelConfig
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig, finetune
from components.train.training_config import OptimConfig
from models.shape import DecoderShape

TARGET = 1e-6
STEPS = 6
_BATCH = 512
_MICRO_BATCHES = (_BATCH, _BATCH // 2, _BATCH // 4, 64)
_PLAIN_MOMENTUM = OptimConfig(kind="adamw", adam_lr=1.0, embedding_lr=1.0, adam_eps=1.0)
_VOCABULARY = 256 + len(HOUSE_TOKENS)
_SHAPE = DecoderShape(
    vocabulary=_VOCABULARY,
    width=32,
    layers=2,
    heads=2,
    kv_heads=2,
    head_width=16,
    hidden=64,
    context=64,
)
_STUDENT = dataclasses.replace(_SHAPE, layers=1)
_PARALLEL_CONFIGS = (
    ParallelConfig(),
    ParallelConfig(data=2),
    ParallelConfig(data=4),
    ParallelConfig(data=2, tensor=2),
    ParallelConfig(data=2, context=2),
)


def measure_splits(setting: BenchSetting) -> list[BenchFigure]:
    """Largest relative difference of a step's loss from that of one micro-batch on one rank."""
    root = setting.scratch
    tokens = random_tokens(root, _VOCABULARY)
    base = pretrain(_pretrain_config(_BATCH), tokens, Workdir.temporary(root))
    taught = byte_tokenizer(root), random_instructions(root)

    def tuned(cut: int) -> Checkpoint:
        tokenizer, instructions = taught
        return finetune(
            _finetune_config(cut), base, instructions, tokenizer, Workdir.temporary(root)
        )

    def grown(cut: int) -> Checkpoint:
        return pretrain(_pretrain_config(cut), tokens, Workdir.temporary(root))

    def distilled(cut: int) -> Checkpoint:
        return distill(_distill_config(cut), base, tokens, Workdir.temporary(root))

    def shared_out(ranks: ParallelConfig) -> Checkpoint:
        setting.on_progress(f"{ranks.ranks} ranks")
        config = _pretrain_config(_BATCH).model_copy(update={"parallel": ranks})
        return pretrain(config, tokens, Workdir.temporary(root))

    return [
        _difference_figure("pretraining", "micro-batches", root, map(grown, _MICRO_BATCHES)),
        _difference_figure("fine-tuning", "micro-batches", root, map(tuned, _MICRO_BATCHES)),
        _difference_figure("distillation", "micro-batches", root, map(distilled, _MICRO_BATCHES)),
        _difference_figure(
            "pretraining", "1, 2 and 4 ranks", root, map(shared_out, _PARALLEL_CONFIGS)
        ),
    ]


def _difference_figure(
    training: str, cut: str, root: Path, checkpoints: Iterable[Checkpoint]
) -> BenchFigure:
    difference = largest_difference(
        [read_losses(root / checkpoint.name) for checkpoint in checkpoints]
    )
    name = f"{training}: loss over {cut}, relative difference"
    return BenchFigure.against_target(name, difference, "", TARGET)


def read_losses(folder: Path) -> list[float]:
    """Loss of every step of a sealed training."""
    curve: list[float] = pq.read_table(folder / "curve.parquet")["loss"].to_pylist()
    return curve


def largest_difference(curves: Sequence[Sequence[float]]) -> float:
    """Largest relative difference of any step of any curve from the first curve."""
    return max(
        abs(value / reference - 1.0)
        for curve in curves[1:]
        for value, reference in zip(curve, curves[0], strict=True)
    )


def _pretrain_config(micro_batch: int) -> PretrainConfig:
    return PretrainConfig(
        shape=_SHAPE,
        steps=STEPS,
        sequence_length=64,
        short_sequence_length=32,
        batch=_BATCH,
        micro_batch=micro_batch,
        precision="float32",
        optim=_PLAIN_MOMENTUM,
    )


def _finetune_config(micro_batch: int) -> FinetuneConfig:
    return FinetuneConfig(
        steps=STEPS,
        batch=_BATCH,
        micro_batch=micro_batch,
        precision="float32",
        optim=_PLAIN_MOMENTUM,
        longest=64,
    )


def _distill_config(micro_batch: int) -> DistillConfig:
    return DistillConfig(
        shape=_STUDENT,
        hidden_layers=(0,),
        steps=STEPS,
        sequence_length=64,
        batch=_BATCH,
        micro_batch=micro_batch,
        precision="float32",
        optim=_PLAIN_MOMENTUM,
    )


def byte_tokenizer(root: Path) -> Tokenizer:
    """Tokenizer with one token a byte and no merges."""
    work = Workdir.temporary(root, component="bench.splits")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {token: index for index, token in enumerate([*HOUSE_TOKENS, *letters])}
    words = Words(models.BPE(pieces, []))
    words.add_special_tokens(list(HOUSE_TOKENS))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.save(str(work.folder / "tokenizer.json"))
    return work.seal(Tokenizer)


def random_instructions(root: Path) -> Instructions:
    """Questions with answers of many lengths: micro-batches differ in their number of targets."""
    work = Workdir.temporary(root, component="bench.splits")
    rows = [
        {
            "id": f"{index:032x}",
            "url": f"https://docs.example/{index}",
            "kind": "describe",
            "subject": f"f{index}",
            "question": f"What is f{index}?",
            "answer": "It is f" + str(index) * (1 + index % 7),
        }
        for index in range(80)
    ]
    write_shard(work.folder / "train.parquet", pa.Table.from_pylist(rows))
    write_shard(work.folder / "heldout.parquet", pa.Table.from_pylist(rows[:8]))
    return work.seal(Instructions)
