"""Supervised fine-tuning: a pretrained decoder learns to answer in the chat template.

    modelmill stage sft --input model=PATH --input instructions=PATH --input tokenizer=PATH \\
        --input tokens=PATH --output DIR

Only the answer's tokens (and the token that ends it) are targets. With the packed ``tokens`` a
share of the steps goes over page text in between, so that answering does not drive out what
pretraining taught (experience replay; for language models: Scialom et al. 2022, arXiv:2205.12393).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split
from components.train.budget.minutes_budget import min_steps_field
from components.train.data.conversations import Batches, Conversations, Example, ReplayPlan
from components.train.trainer.adapter_training import (
    LoraConfig,
    after_step,
    learning,
    put_on,
    save_trained,
)
from components.train.training_config import ONE_BUDGET, OptimConfig, SafetyConfig, ScheduleConfig
from models.precision import Precision, computing

if TYPE_CHECKING:
    from torch import Tensor

    from components.train.budget.step_plan import Course
    from components.train.data.data_order import Order
    from components.train.data.micro_batch import Micro
    from components.train.trainer.training_loop import Job, Trained
    from models.decoder import Decoder


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
    replay: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="share of the steps that go over page text, where the tokens are given; "
        "without them answers drive out what pretraining taught",
    )
    batch: int = Field(default=2048, ge=16, description="tokens a step, padding included")
    micro_batch: int = Field(default=4096, ge=16, description="tokens at once")
    longest: int = Field(default=256, ge=8, description="longer examples are left out")
    kinds: tuple[str, ...] = Field(default=(), description="kinds to learn from; empty is all")
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.006, adam_lr=0.002, embedding_lr=0.004),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.03, decay=0.9), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the order of the examples")

    aside: ClassVar[frozenset[str]] = frozenset({"min_steps"})
    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = ONE_BUDGET


@dataclass(frozen=True)
class AnswerMicro:
    """Conversations at once, padded on the right with token 0."""

    inputs: Tensor
    """[b, t]"""
    targets: Tensor
    """[b, t] the next token of each."""
    answer: Tensor
    """[b, t] 1.0 where the next token is one of the answer, else 0.0."""

    @property
    def count(self) -> int:
        """Targets to learn from."""
        return int(self.answer.sum())


def finetune(
    config: FinetuneConfig,
    model: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
    tokens: Tokens | None = None,
) -> Checkpoint:
    """Train ``model`` on the training instructions.

    Args:
        config: how long and how fast.
        model: a pretrained decoder.
        instructions: ``train.parquet`` is learnt from.
        tokenizer: that of the model.
        work: where the model goes.
        tokens: the text the model was pretrained on, for ``config.replay``; without them every
            step is over answers.

    Raises:
        ConfigError: the inputs are of different tokenizers, the model's weights are of another
            shape, or the adapters do not fit it.
        DataError: no instruction is left to learn from, or the tokens cannot be read.
    """
    from components.train.budget.step_plan import Course
    from components.train.budget.time_budget import Wish, for_minutes
    from components.train.trainer.training_loop import train

    records = [record_of_model(work.path(model)), record_of_tokenizer(work.path(tokenizer))]
    if tokens is not None:
        records.append(record_of_tokens(work.path(tokens)))
    digest = check_one_tokenizer("sft", *records)
    decoder = load_model(work.path(model)).train()
    decoder.tokenizer = digest
    conversations = Conversations(
        work.path(instructions) / "train.parquet",
        work.path(tokenizer),
        longest=min(config.longest, decoder.shape.context),
        kinds=config.kinds,
    )
    batches = Batches(conversations.of_epoch, config.batch, config.seed, instructions.digest)
    steps = Steps(config, batches, _replayed(config, tokens, decoder, work))
    if config.lora is not None:
        put_on(decoder, config.lora, config.seed, "sft.lora")
    with computing(decoder, config.precision):
        most = steps.plan.total(max(1, round(config.epochs * batches.per_epoch)))
        job = _job(config, decoder, steps, Course.of(config.steps or most))
        if config.steps is None and config.minutes is not None:

            def trial() -> Job[AnswerMicro | Micro]:
                return _job(config, copy.deepcopy(decoder), steps, Course.of(1))

            # The model below it is paid for: too few steps are told of, and taken.
            wish = Wish("sft", config.minutes, config.min_steps, refuse=False)
            job = for_minutes(job, wish, work, trial, most)
        trained = train(job, work)
    save_trained(work.folder, decoder, config.lora, model.digest)
    stats = _stats(trained, steps.plan.replays_before(trained.steps), batches.per_epoch)
    return work.seal(Checkpoint, stats={"examples": conversations.count, **stats})


def _stats(trained: Trained, replayed: int, steps_an_epoch: int) -> dict[str, float]:
    return {
        "steps": trained.steps,
        "epochs": round((trained.steps - replayed) / steps_an_epoch, 3),
        "replayed_steps": replayed,
        "targets": trained.targets,
        "loss": round(trained.loss, 4),
        "skipped": trained.skipped,
    }


class Steps:
    """The micro-batches of every step, answers or replayed text: a pure function of its number.

    Args:
        config: how much is replayed, and how many tokens are computed at once.
        batches: of answers.
        text: batches of page text; None replays nothing.
    """

    def __init__(self, config: FinetuneConfig, batches: Batches, text: Order | None) -> None:
        self._batches, self._text, self._micro_batch = batches, text, config.micro_batch
        self.plan = ReplayPlan(0.0 if text is None else config.replay)

    def batch(self, step: int) -> Sequence[AnswerMicro | Micro]:
        """At most ``micro_batch`` positions each, and a row at least."""
        replayed = self.plan.replays_before(step)
        if self._text is not None and self.plan.is_replay(step):
            from components.train.data import micro_batch as micro

            return micro.micro_batches(self._text.batch(replayed), self._micro_batch)
        return micro_batches(self._batches.batch(step - replayed), self._micro_batch)


def _replayed(
    config: FinetuneConfig, tokens: Tokens | None, decoder: Decoder, work: Workdir
) -> Order | None:
    """Batches of page text, in blocks as long as the model's context and a batch allow."""
    if tokens is None or not config.replay:
        return None
    from components.train.data.data_order import Order, Stream

    split = open_split(work.path(tokens), "train")
    positions = min(decoder.shape.context, config.batch)
    stream = Stream(split, positions=positions, seed=config.seed, digest=tokens.digest)
    return Order(stream, max(1, config.batch // stream.positions))


def micro_batches(examples: Sequence[Example], tokens: int) -> list[AnswerMicro]:
    """Conversations as micro-batches of at most ``tokens`` positions, and of one at least."""
    import torch

    longest = max(len(example.ids) for example in examples) - 1
    rows = max(1, tokens // longest)
    made: list[AnswerMicro] = []
    for start in range(0, len(examples), rows):
        some = examples[start : start + rows]
        ids = np.zeros((len(some), longest + 1), dtype=np.int64)
        answer = np.zeros((len(some), longest), dtype=np.float32)
        for row, example in enumerate(some):
            ids[row, : len(example.ids)] = example.ids
            answer[row, example.start - 1 : len(example.ids) - 1] = 1.0
        inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
        parts = (torch.from_numpy(part) for part in (inputs, targets, answer))
        made.append(AnswerMicro(*parts))
    return made


def _job(
    config: FinetuneConfig,
    model: Decoder,
    steps: Steps,
    course: Course,
) -> Job[AnswerMicro | Micro]:
    from components.train.data.packed_texts import text_loss
    from components.train.trainer.training_loop import Job

    def loss(micro: AnswerMicro | Micro, targets: float) -> Tensor:
        if not isinstance(micro, AnswerMicro):
            return text_loss(model, micro, targets)
        hidden = model.hidden(micro.inputs)
        return model.loss(hidden, micro.targets, micro.answer / targets, sparse=True)

    return Job(
        modules=learning(model),
        batch=steps.batch,
        weight=lambda micro: float(micro.count),
        loss=loss,
        course=course,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        after=after_step(model),
    )
