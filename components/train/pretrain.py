"""Pretraining: a decoder from packed tokens, for a budget of minutes or steps.

    modelmill stage pretrain --input tokens=PATH --output DIR --set minutes=4

Muon on matrices, AdamW on the rest, warm-up-stable-decay, and short blocks first: the same tokens
cut finer, since early on a model learns nothing from far away.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.core.artifact import Checkpoint, Tokens
from components.core.config import StageConfig
from components.core.errors import ConfigError
from components.core.precision import Precision, computing
from components.core.weights import save_model
from components.core.workdir import Workdir
from components.text.tokens import TokenSplit, open_split
from components.train.autopilot_settle import settle
from components.train.recipe import OptimConfig, SafetyConfig, ScheduleConfig
from models.shape import DecoderShape

if TYPE_CHECKING:
    from torch import Tensor

    from components.train.budget import Budget
    from components.train.course import Course
    from components.train.loop import Job, Trained
    from components.train.order import Order
    from models.decoder import Decoder

    Micro = tuple[Tensor, Tensor, Tensor | None]


class PretrainConfig(StageConfig):
    """What to train, on how many tokens a step, for how long."""

    shape: DecoderShape = Field(default=DecoderShape(), description="the decoder's shape")
    minutes: float = Field(
        default=4.0, gt=0, le=100_000, description="budget; a probe makes steps of it"
    )
    steps: int | None = Field(
        default=None, ge=1, description="number of steps, in place of minutes"
    )
    autopilot: (
        bool | tuple[Literal["shape", "batch", "muon_lr", "adam_lr", "embedding_lr"], ...]
    ) = Field(
        default=False,
        description="let what stands at its default be chosen, or what is named here",
    )
    positions: int = Field(default=512, ge=8, le=1 << 16, description="tokens a block")
    short_positions: int = Field(default=256, ge=8, description="tokens a block in the first phase")
    short: float = Field(
        default=0.5, ge=0, le=1, description="fraction of the steps in the first phase"
    )
    batch: int = Field(default=2048, ge=8, description="tokens a step")
    micro_batch: int = Field(
        default=4096, ge=8, description="tokens at once; more than a step is a step"
    )
    optim: OptimConfig = Field(default=OptimConfig(), description="optimisers and their rates")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="course of the rates")
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(
        default="auto", description="dtype of activations; weights stay float32"
    )
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="of the first weights and the data order"
    )

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        if self.positions % self.short_positions:
            raise ValueError(
                f"short_positions ({self.short_positions}) must divide positions ({self.positions})"
            )
        if self.batch % self.positions:
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of positions ({self.positions})"
            )
        if self.positions > self.shape.context:
            raise ValueError(
                f"positions ({self.positions}) must be within shape.context ({self.shape.context})"
            )
        return self


def pretrain(config: PretrainConfig, tokens: Tokens, work: Workdir) -> Checkpoint:
    """Train a decoder from random weights.

    Raises:
        ConfigError: the shape's vocabulary is not that of the tokens, or the autopilot cannot plan.
        DataError: the tokens cannot be read, or there are none.
        MillError: the loss was not finite too often.
    """
    import torch

    from components.train.course import Course
    from components.train.loop import train
    from components.train.order import Order
    from models.decoder import Decoder

    split = open_split(work.path(tokens), "train")
    config = settle(config, len(split.tokens), split.vocabulary, work)
    if split.vocabulary != config.shape.vocabulary:
        raise ConfigError(_other_vocabulary(config.shape.vocabulary, split.vocabulary))
    torch.manual_seed(config.seed)
    model = Decoder(config.shape)
    rows = config.batch // config.positions
    order = Order(
        split, rows=rows, positions=config.positions, seed=config.seed, digest=tokens.digest
    )
    with computing(model, config.precision):
        job = _job(config, model, order, split, Course.of(config.steps or 1))
        if config.steps is None:
            budget = _budget(config, model, order, split, work)
            job = _job(config, model, order, split, budget.course, budget)
        trained = train(job, work)
    save_model(work.folder, model)
    return work.seal(Checkpoint, stats=_stats(trained, model, job.bits_per_loss or 0.0))


def _other_vocabulary(shape: int, tokenizer: int) -> str:
    found = f"pretrain.shape.vocabulary is {shape}, but the tokenizer has {tokenizer} pieces"
    if tokenizer > shape:
        return f"{found}: set both, tokenizer.vocabulary and it, to the same number"
    # A round number below what there is outlives the next edit of a page.
    most = max(tokenizer // 64 * 64, min(tokenizer, 320))
    return (
        f"{found}, since so small a corpus gives no more: set tokenizer.vocabulary and "
        f"pretrain.shape.vocabulary both to {most}, or give more pages under scrape"
    )


def _stats(trained: Trained, model: Decoder, bits_per_loss: float) -> dict[str, float]:
    return {
        "parameters": model.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "loss": round(trained.loss, 4),
        "train_bits_per_byte": round(trained.loss * bits_per_loss, 4),
        "skipped": trained.skipped,
    }


def _job(
    config: PretrainConfig,
    model: Decoder,
    order: Order,
    split: TokenSplit,
    course: Course,
    budget: Budget | None = None,
) -> Job[Micro]:
    from components.train.loop import Job

    def batch(step: int) -> list[Micro]:
        short = course.place(step).progress < config.short
        return micro_batches(order, step, config, split.eos, short=short)

    return Job(
        modules={"decoder": model},
        batch=batch,
        weight=lambda micro: micro[1].numel(),
        loss=lambda micro, targets: _loss(model, micro, targets),
        course=course,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        bits_per_loss=len(split.tokens) / max(1, split.text_bytes) / math.log(2),
        budget=budget,
    )


def _loss(model: Decoder, micro: Micro, targets: float) -> Tensor:
    import torch

    inputs, wanted, mask = micro
    share = torch.full(wanted.shape, 1.0 / targets)
    return model.loss(model.hidden(inputs, mask=mask), wanted, share)


def micro_batches(
    order: Order, step: int, config: PretrainConfig, eos: int, *, short: bool
) -> list[Micro]:
    """(inputs [b, t], targets [b, t], document mask or None) of one step."""
    import torch

    from components.train.order import document_numbers
    from models.decoder import document_mask

    blocks = order.batch(step)
    if short and order.positions % config.short_positions == 0:
        blocks = blocks.split(config.short_positions)
    rows = max(1, config.micro_batch // blocks.inputs.shape[1])
    made: list[Micro] = []
    for start in range(0, len(blocks.inputs), rows):
        inputs = blocks.inputs[start : start + rows]
        numbers = document_numbers(inputs[:, 1:], eos)
        mask = None
        if numbers.any():  # some row holds more than one document
            mask = document_mask(torch.from_numpy(document_numbers(inputs, eos)))
        targets = blocks.targets[start : start + rows]
        made.append((torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy()), mask))
    return made


def _budget(
    config: PretrainConfig, model: Decoder, order: Order, split: TokenSplit, work: Workdir
) -> Budget:
    from components.train.budget import time_budget, trial_step
    from components.train.course import Course

    def phases() -> list[tuple[float, Callable[[], None]]]:
        """One step of either phase, on a copy, so that the model stays as it is."""
        trial = copy.deepcopy(model)
        first = _job(config, trial, order, split, Course.of(1))
        long = functools.partial(micro_batches, order, config=config, eos=split.eos, short=False)
        then = dataclasses.replace(first, batch=lambda step: long(step))
        return [(config.short, trial_step(first)), (1.0 - config.short, trial_step(then))]

    return time_budget(config.minutes, work.scratch, phases)
