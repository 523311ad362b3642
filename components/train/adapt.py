"""Pretraining goes on, on the text of a domain: all weights, or adapters alone (LoRA, QLoRA).

    modelmill stage adapt --input model=PATH --input tokens=PATH --output DIR --set lora.rank=16

The tokens must be packed with the model's tokenizer. With adapters the result is the merged model,
and they lie beside it in ``adapter/``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split
from components.train.budget.minutes_budget import min_steps_field
from components.train.trainer.adapter_training import (
    LoraConfig,
    after_step,
    learning,
    put_on,
    save_trained,
)
from components.train.training_config import (
    MINUTES_OR_STEPS,
    OptimConfig,
    SafetyConfig,
    ScheduleConfig,
)
from models.precision import Precision, computing

if TYPE_CHECKING:
    from components.train.budget.step_plan import Course
    from components.train.data.micro_batch import Micro
    from components.train.data.packed_texts import Texts
    from components.train.trainer.training_loop import Job
    from models.decoder import Decoder


class AdaptConfig(StageConfig):
    """What learns from the domain's text, how long and how fast."""

    lora: LoraConfig | None = Field(
        default=None, description="adapters to learn; null trains every weight"
    )
    minutes: float = Field(default=2.0, gt=0, le=100_000, description="budget; becomes steps")
    steps: int | None = Field(default=None, ge=1, description="number of steps, not minutes")
    min_steps: int = min_steps_field()
    epochs: float = Field(
        default=4.0, gt=0, le=1000, description="minutes never go over the text oftener"
    )
    positions: int = Field(default=512, ge=8, le=1 << 16, description="tokens a block")
    batch: int = Field(default=2048, ge=8, description="tokens a step")
    micro_batch: int = Field(default=4096, ge=8, description="tokens at once")
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.002, adam_lr=0.002, embedding_lr=0.002),
        description="optimisers and their rates; adapters take adam_lr",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.05, decay=0.95), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="of the data order and the first adapters"
    )

    aside: ClassVar[frozenset[str]] = frozenset({"min_steps"})
    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = MINUTES_OR_STEPS

    @model_validator(mode="after")
    def _fits(self) -> AdaptConfig:
        if self.batch % self.positions:
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of positions ({self.positions})"
            )
        return self


def adapt(config: AdaptConfig, model: Checkpoint, tokens: Tokens, work: Workdir) -> Checkpoint:
    """Train ``model`` on.

    Raises:
        ConfigError: the tokens are of another tokenizer, the blocks longer than the model's
            context, the adapters do not fit the model, or the minutes come to too few steps.
        DataError: the tokens cannot be read, or there are none.
        MillError: the loss was not finite too often.
    """
    from components.train.budget.step_plan import Course
    from components.train.budget.time_budget import Wish, for_minutes
    from components.train.data.packed_texts import Texts, check_context
    from components.train.trainer.training_loop import train

    digest = check_one_tokenizer(
        "adapt", record_of_model(work.path(model)), record_of_tokens(work.path(tokens))
    )
    split = open_split(work.path(tokens), "train")
    decoder = load_model(work.path(model)).train()
    decoder.tokenizer = digest
    check_context(decoder.shape, config.positions, "adapt.positions", "the model")
    texts = Texts(split, tokens.digest, config)
    if config.lora is not None:
        put_on(decoder, config.lora, config.seed, "adapt.lora")
    trained_parameters = sum(p.numel() for p in decoder.parameters() if p.requires_grad)
    with computing(decoder, config.precision):
        job = _job(config, decoder, texts, Course.of(config.steps or 1))
        if config.steps is None:

            def trial() -> Job[Micro]:
                return _job(config, copy.deepcopy(decoder), texts, Course.of(1))

            most = max(1, round(config.epochs * texts.per_epoch))
            wish = Wish("adapt", config.minutes, config.min_steps)
            job = for_minutes(job, wish, work, trial, most)
        trained = train(job, work)
    save_trained(work.folder, decoder, config.lora, model.digest)
    stats = {
        "train_bits_per_byte": round(trained.loss * texts.bits_per_loss, 4),
        "loss": round(trained.loss, 4),
        "steps": trained.steps,
        "tokens": trained.targets,
        "epochs": round(trained.steps / texts.per_epoch, 3),
        "trained_parameters": trained_parameters,
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats=stats)


def _job(
    config: AdaptConfig,
    model: Decoder,
    texts: Texts,
    course: Course,
) -> Job[Micro]:
    from components.train.data.packed_texts import text_loss
    from components.train.trainer.training_loop import Job

    return Job(
        modules=learning(model),
        batch=texts.batch,
        weight=lambda micro: micro.count,
        loss=lambda micro, targets: text_loss(model, micro, targets),
        course=course,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        bits_per_loss=texts.bits_per_loss,
        after=after_step(model),
    )
