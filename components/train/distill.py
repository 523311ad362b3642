"""Distillation: a smaller decoder learns from the logits of a trained one.

    modelmill stage distill --input teacher=PATH --input tokens=PATH --output DIR --set minutes=4

The teacher runs beside the student on the same text, so the budget of minutes pays for both. The
student begins with random weights.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokens,
)
from components.text.decoder_files import load_model, read_shape, save_model
from components.text.token_arrays import open_split
from components.train.budget.minutes_budget import min_steps_field
from components.train.training_config import (
    MINUTES_OR_STEPS,
    OptimConfig,
    SafetyConfig,
    ScheduleConfig,
)
from models.precision import Precision, computing
from models.shape import DecoderShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.train.budget.step_plan import Course
    from components.train.data.micro_batch import Micro
    from components.train.data.packed_texts import Texts
    from components.train.trainer.training_loop import Job
    from models.decoder import Decoder
    from models.distillation_loss import Projections


class DistillConfig(StageConfig):
    """The student, what it is taught by, how long and how fast."""

    shape: DecoderShape = Field(
        default=DecoderShape(width=128, layers=4, heads=4, kv_heads=2, head_width=32, hidden=384),
        description="the student's shape; a vocabulary left at its default is the teacher's",
    )
    temperature: float = Field(
        default=1.0, gt=0, le=100, description="both models' logits are divided by it"
    )
    weight: float = Field(
        default=0.5, ge=0, le=1, description="of the teacher's logits; the rest is the text's own"
    )
    hidden_layers: tuple[int, ...] = Field(
        default=(),
        description="the student's layers, from 0, that learn the states of teacher layers as deep",
    )
    hidden_weight: float = Field(
        default=1.0, ge=0, le=1000, description="of the hidden states' mean square error"
    )
    minutes: float = Field(default=4.0, gt=0, le=100_000, description="budget; becomes steps")
    steps: int | None = Field(default=None, ge=1, description="number of steps, not minutes")
    min_steps: int = min_steps_field()
    positions: int = Field(default=512, ge=8, le=1 << 16, description="tokens a block")
    batch: int = Field(default=2048, ge=8, description="tokens a step")
    micro_batch: int = Field(default=4096, ge=8, description="tokens at once")
    optim: OptimConfig = Field(default=OptimConfig(), description="optimisers and their rates")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="course of the rates")
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="of the first weights and the data order"
    )

    aside: ClassVar[frozenset[str]] = frozenset({"min_steps"})
    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = MINUTES_OR_STEPS

    @model_validator(mode="after")
    def _fits(self) -> DistillConfig:
        if self.batch % self.positions:
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of positions ({self.positions})"
            )
        if self.positions > self.shape.context:
            raise ValueError(
                f"positions ({self.positions}) must be within shape.context ({self.shape.context})"
            )
        for layer in self.hidden_layers:
            if not 0 <= layer < self.shape.layers:
                raise ValueError(
                    f"hidden_layers: {layer} is no layer, shape.layers is {self.shape.layers}"
                )
        return self


@dataclass(frozen=True)
class Lesson:
    """Who learns from whom, and through what their hidden states are compared."""

    student: Decoder
    teacher: Decoder
    projections: Projections

    @property
    def learning(self) -> Mapping[str, nn.Module]:
        """What is trained and saved."""
        if not self.projections.pairs:
            return {"decoder": self.student}
        return {"decoder": self.student, "projections": self.projections}

    def copied(self) -> Lesson:
        """Another student and projections, of the same teacher."""
        return Lesson(copy.deepcopy(self.student), self.teacher, copy.deepcopy(self.projections))


def distill(
    config: DistillConfig, teacher: Checkpoint, tokens: Tokens, work: Workdir
) -> Checkpoint:
    """Train a student of ``config.shape``.

    Raises:
        ConfigError: teacher and tokens are of different tokenizers, the student has another
            vocabulary than the teacher, the blocks are longer than the teacher's context, or the
            minutes come to too few steps.
        DataError: the tokens cannot be read, or there are none.
        MillError: the loss was not finite too often.
    """
    from components.train.budget.step_plan import Course
    from components.train.budget.time_budget import Wish, for_minutes
    from components.train.data.packed_texts import Texts
    from components.train.trainer.training_loop import train

    digest = check_one_tokenizer(
        "distill",
        record_of_model(work.path(teacher), "teacher"),
        record_of_tokens(work.path(tokens)),
    )
    split = open_split(work.path(tokens), "train")
    config = _of_vocabulary(config, read_shape(work.path(teacher)).vocabulary)
    _check(config, read_shape(work.path(teacher)))
    lesson = _lesson(config, load_model(work.path(teacher)))
    texts = Texts(split, tokens.digest, config)
    with computing(lesson.student, config.precision), computing(lesson.teacher, config.precision):
        job = _job(config, lesson, texts, Course.of(config.steps or 1))
        if config.steps is None:

            def trial() -> Job[Micro]:
                return _job(config, lesson.copied(), texts, Course.of(1))

            wish = Wish("distill", config.minutes, config.min_steps)
            job = for_minutes(job, wish, work, trial)
        trained = train(job, work)
    lesson.student.tokenizer = digest
    save_model(work.folder, lesson.student)
    stats = {
        "loss": round(trained.loss, 4),
        "parameters": config.shape.parameters,
        "teacher_parameters": lesson.teacher.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats=stats)


def _of_vocabulary(config: DistillConfig, vocabulary: int) -> DistillConfig:
    """With the teacher's vocabulary where none was asked for: no other can learn from it."""
    if config.shape.vocabulary != DecoderShape().vocabulary:
        return config
    shape = dataclasses.replace(config.shape, vocabulary=vocabulary)
    return config.model_copy(update={"shape": shape})


def _check(config: DistillConfig, teacher: DecoderShape) -> None:
    from components.train.data.packed_texts import check_context

    if config.shape.vocabulary != teacher.vocabulary:
        raise ConfigError(
            f"distill.shape.vocabulary is {config.shape.vocabulary}, the teacher's "
            f"{teacher.vocabulary}: set it to {teacher.vocabulary}"
        )
    check_context(teacher, config.positions, "distill.positions", "the teacher")


def _lesson(config: DistillConfig, teacher: Decoder) -> Lesson:
    import torch

    from models.decoder import Decoder
    from models.distillation_loss import Projections, paired_layers

    torch.manual_seed(config.seed)
    student = Decoder(config.shape)
    pairs = paired_layers(config.hidden_layers, config.shape.layers, teacher.shape.layers)
    projections = Projections(pairs, config.shape.width, teacher.shape.width)
    return Lesson(student, teacher.requires_grad_(False), projections)


def lesson_loss(config: DistillConfig, lesson: Lesson, micro: Micro, targets: float) -> Tensor:
    """The sum of a micro-batch's losses over the targets of the whole batch."""
    import torch

    from models.distillation_loss import logit_loss, watching

    pairs, share_bt = lesson.projections.pairs, micro.share(targets)
    with torch.no_grad(), watching(lesson.teacher, list(pairs.values())) as told:
        told_btc = lesson.teacher.hidden(micro.inputs, mask=micro.mask)
    with watching(lesson.student, list(pairs)) as own:
        own_btc = lesson.student.hidden(micro.inputs, mask=micro.mask)
    loss = logit_loss(
        lesson.student,
        lesson.teacher,
        (own_btc, told_btc),
        micro.targets,
        share_bt,
        temperature=config.temperature,
        weight=config.weight,
    )
    loss = loss + lesson.student.balance_loss(share_bt)
    if pairs:
        loss = loss + config.hidden_weight * lesson.projections(own, told, share_bt)
    return loss


def _job(
    config: DistillConfig,
    lesson: Lesson,
    texts: Texts,
    course: Course,
) -> Job[Micro]:
    from components.train.trainer.training_loop import Job

    return Job(
        modules=lesson.learning,
        batch=texts.batch,
        weight=lambda micro: micro.count,
        loss=lambda micro, targets: lesson_loss(config, lesson, micro, targets),
        course=course,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        after=lesson.student.rebalance,
    )
