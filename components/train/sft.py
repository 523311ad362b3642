"""Supervised fine-tuning: a pretrained decoder learns to answer in the chat template.

    modelmill stage sft --input model=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

Only the answer's tokens (and the token that ends it) are targets. Examples of about equal length
share a batch, so little is padding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from components.core.artifact import Checkpoint, Instructions, Tokenizer
from components.core.config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.precision import Precision, computing
from components.core.shards import read_shard
from components.core.weights import load_model
from components.core.workdir import Workdir
from components.text.chat import answer_ids, open_tokenizer, prompt_ids
from components.train.adapters import (
    LoraConfig,
    after_step,
    learning,
    put_on,
    save_trained,
)
from components.train.minutes import min_steps_field
from components.train.recipe import (
    ONE_BUDGET,
    OptimConfig,
    SafetyConfig,
    ScheduleConfig,
)
from models.shape import DecoderShape

if TYPE_CHECKING:
    from torch import Tensor

    from components.train.course import Course
    from components.train.loop import Job
    from models.decoder import Decoder

    Micro = tuple[Tensor, Tensor, Tensor]

POOL = 32
"""Batches' worth of examples that are sorted by length together: order stays mostly random."""


class FinetuneConfig(StageConfig):
    """How long and how fast to learn from instructions."""

    lora: LoraConfig | None = Field(
        default=None, description="adapters to learn; null trains every weight"
    )
    epochs: float = Field(
        default=3.0, gt=0, le=100, description="times to go over the data; minutes never do oftener"
    )
    minutes: float | None = Field(
        default=None, gt=0, le=100_000, description="budget in place of epochs; becomes steps"
    )
    steps: int | None = Field(default=None, ge=1, description="number of steps, in place of both")
    min_steps: int = min_steps_field()
    batch: int = Field(default=4096, ge=16, description="tokens a step, padding included")
    micro_batch: int = Field(default=4096, ge=16, description="tokens at once")
    longest: int = Field(default=256, ge=8, description="longer examples are left out")
    kinds: tuple[str, ...] = Field(default=(), description="kinds to learn from; empty is all")
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.004, adam_lr=0.001, embedding_lr=0.001),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.05, decay=0.95), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the order of the examples")

    aside: ClassVar[frozenset[str]] = frozenset({"min_steps"})
    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = ONE_BUDGET


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` with the answer's first token at ``start``."""

    ids: list[int]
    start: int

    @property
    def targets(self) -> int:
        return len(self.ids) - self.start


def finetune(
    config: FinetuneConfig,
    model: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Train ``model`` on the training instructions.

    Raises:
        ConfigError: the model's vocabulary is not the tokenizer's, its weights are of another
            shape, or the adapters do not fit it.
        DataError: no instruction is left to learn from.
    """
    from components.train.budget import Wish, for_minutes
    from components.train.course import Course
    from components.train.loop import train

    decoder = load_model(work.path(model)).train()
    examples = read_examples(
        config, work.path(instructions) / "train.parquet", work.path(tokenizer), decoder.shape
    )
    batches = Batches(examples, config.batch, config.seed, instructions.digest)
    if config.lora is not None:
        put_on(decoder, config.lora, config.seed, "sft.lora")
    with computing(decoder, config.precision):
        most = max(1, round(config.epochs * batches.per_epoch))
        job = _job(config, decoder, batches, Course.of(config.steps or most))
        if config.steps is None and config.minutes is not None:

            def trial() -> Job[Micro]:
                return _job(config, copy.deepcopy(decoder), batches, Course.of(1))

            # The model below it is paid for: too few steps are told of, and taken.
            wish = Wish("sft", config.minutes, config.min_steps, refuse=False)
            job = for_minutes(job, wish, work.scratch, trial, most)
        trained = train(job, work)
    save_trained(work.folder, decoder, config.lora, model.digest)
    stats = {
        "examples": len(examples),
        "steps": trained.steps,
        "epochs": round(trained.steps / batches.per_epoch, 3),
        "answer_tokens": trained.targets,
        "loss": round(trained.loss, 4),
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats=stats)


def read_examples(
    config: FinetuneConfig, path: Path, tokenizer_folder: Path, shape: DecoderShape
) -> list[Example]:
    """The conversations of a Parquet file of instructions, those too long left out.

    Raises:
        ConfigError: the tokenizer has another vocabulary than the model.
        DataError: none is left.
    """
    tokenizer = open_tokenizer(tokenizer_folder)
    check_vocabulary(shape, tokenizer.get_vocab_size())
    table = read_shard(path, ["kind", "question", "answer"])
    longest = min(config.longest, shape.context)
    examples: list[Example] = []
    for row in table.to_pylist():
        if config.kinds and row["kind"] not in config.kinds:
            continue
        prompt = prompt_ids(tokenizer, [("user", row["question"])])
        ids = [*prompt, *answer_ids(tokenizer, row["answer"])]
        if len(ids) <= longest:
            examples.append(Example(ids, len(prompt)))
    if not examples:
        raise DataError(
            f"sft: {path.name} holds no instruction of at most {longest} tokens"
            + (f" of the kinds {', '.join(config.kinds)} (sft.kinds)" if config.kinds else "")
            + ": give more pages with headings under scrape, or raise sft.longest"
        )
    return examples


def check_vocabulary(shape: DecoderShape, vocabulary: int) -> None:
    """Refuse a tokenizer that the model was not made for.

    Raises:
        ConfigError: the sizes differ.
    """
    if shape.vocabulary != vocabulary:
        raise ConfigError(
            f"the model has a vocabulary of {shape.vocabulary}, the tokenizer one of "
            f"{vocabulary}: give the tokenizer that the model was trained with"
        )


class Batches:
    """Batches of examples of like length: a pure function of (seed, digest, step)."""

    def __init__(self, examples: Sequence[Example], tokens: int, seed: int, digest: str) -> None:
        self._examples, self._tokens, self._seed = examples, tokens, seed
        self._digest = int(digest[:16] or "0", 16)
        self._epoch: tuple[int, list[list[int]]] | None = None
        self.per_epoch = min(len(self._open(epoch)) for epoch in range(2))

    def batch(self, step: int) -> list[Example]:
        """The examples of one step."""
        epoch, index = divmod(step, self.per_epoch)
        return [self._examples[number] for number in self._open(epoch)[index]]

    def _open(self, epoch: int) -> list[list[int]]:
        if self._epoch is None or self._epoch[0] != epoch:
            draw = np.random.default_rng([self._seed, self._digest, epoch])
            order = draw.permutation(len(self._examples)).tolist()
            batches: list[list[int]] = []
            for pool in self._pools(order):
                pool.sort(key=lambda number: len(self._examples[number].ids))
                batches.extend(self._cut(pool))
            shuffled = [batches[index] for index in draw.permutation(len(batches))]
            self._epoch = (epoch, shuffled)
        return self._epoch[1]

    def _pools(self, order: list[int]) -> list[list[int]]:
        pools: list[list[int]] = [[]]
        held = 0
        for number in order:
            if held >= POOL * self._tokens:
                pools.append([])
                held = 0
            pools[-1].append(number)
            held += len(self._examples[number].ids)
        return pools

    def _cut(self, by_length: list[int]) -> list[list[int]]:
        """Runs of examples whose padded size stays within the tokens of a batch."""
        batches: list[list[int]] = [[]]
        for number in by_length:
            longest = len(self._examples[number].ids)
            if batches[-1] and (len(batches[-1]) + 1) * longest > self._tokens:
                batches.append([])
            batches[-1].append(number)
        return batches


def micro_batches(examples: Sequence[Example], tokens: int) -> list[Micro]:
    """(inputs, targets, answer mask as 0 and 1), each [b, t], padded on the right with 0."""
    import torch

    longest = max(len(example.ids) for example in examples) - 1
    rows = max(1, tokens // longest)
    made: list[Micro] = []
    for start in range(0, len(examples), rows):
        some = examples[start : start + rows]
        ids = np.zeros((len(some), longest + 1), dtype=np.int64)
        answer = np.zeros((len(some), longest), dtype=np.float32)
        for row, example in enumerate(some):
            ids[row, : len(example.ids)] = example.ids
            answer[row, example.start - 1 : len(example.ids) - 1] = 1.0
        inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
        made.append((torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(answer)))
    return made


def _job(
    config: FinetuneConfig,
    model: Decoder,
    batches: Batches,
    course: Course,
) -> Job[Micro]:
    from components.train.loop import Job

    def loss(micro: Micro, targets: float) -> Tensor:
        inputs, wanted, answer = micro
        return model.loss(model.hidden(inputs), wanted, answer / targets)

    return Job(
        modules=learning(model),
        batch=lambda step: micro_batches(batches.batch(step), config.micro_batch),
        weight=lambda micro: float(micro[2].sum()),
        loss=loss,
        course=course,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        after=after_step(model),
    )
