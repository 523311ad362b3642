"""Knowledge distillation: a smaller decoder learns from the logits of a trained one.

    modelmill stage distill --input teacher=PATH --input tokens=PATH --output DIR --set minutes=4

The teacher runs beside the student on the same text, so the time budget pays for both. The student
begins with random weights.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

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
from components.train.training_config import STEPS_REPLACE_MINUTES, Minutes, PackedTrainingConfig
from models.precision import compute_in
from models.shape import DecoderShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.train.budget.step_plan import StepPlan
    from components.train.data.micro_batch import MicroBatch
    from components.train.data.packed_texts import PackedTexts
    from components.train.trainer.training_job import TrainingJob
    from models.decoder import Decoder
    from models.distillation_loss import Projections


class DistillConfig(PackedTrainingConfig):
    """Shape of the student, distillation loss, budget and rates."""

    shape: DecoderShape = Field(
        default=DecoderShape(width=128, layers=4, heads=4, kv_heads=2, head_width=32, hidden=384),
        description="the student's shape; a vocabulary left at its default is the teacher's",
    )
    temperature: float = Field(
        default=1.0, gt=0, le=100, description="temperature that divides both models' logits"
    )
    weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="weight of the loss against the teacher's logits; the rest is the text's own",
    )
    hidden_layers: tuple[int, ...] = Field(
        default=(),
        description="the student's layers, from 0, that also learn the hidden states of the "
        "teacher's layers at the same relative depth",
    )
    hidden_weight: float = Field(
        default=1.0, ge=0, le=1000, description="weight of the hidden states' mean square error"
    )
    minutes: Minutes = Field(default=4.0, description="time budget; a probe turns it into steps")

    clears_preset_fields: ClassVar[Mapping[str, tuple[str, ...]]] = STEPS_REPLACE_MINUTES

    @model_validator(mode="after")
    def _fits(self) -> DistillConfig:
        if self.sequence_length > self.shape.context:
            raise ValueError(
                f"sequence_length ({self.sequence_length}) must be within shape.context "
                f"({self.shape.context})"
            )
        for layer in self.hidden_layers:
            if not 0 <= layer < self.shape.layers:
                raise ValueError(
                    f"hidden_layers: {layer} is no layer, shape.layers is {self.shape.layers}"
                )
        return self


@dataclass(frozen=True)
class DistillationModels:
    """Student, teacher, and the projections between their hidden states."""

    student: Decoder
    teacher: Decoder
    projections: Projections

    @property
    def trained_modules(self) -> Mapping[str, nn.Module]:
        """Modules that are trained and saved."""
        if not self.projections.pairs:
            return {"decoder": self.student}
        return {"decoder": self.student, "projections": self.projections}

    def copy_student(self) -> DistillationModels:
        """A copy of student and projections, with the same teacher."""
        return DistillationModels(
            copy.deepcopy(self.student), self.teacher, copy.deepcopy(self.projections)
        )


def distill(
    config: DistillConfig, teacher: Checkpoint, tokens: Tokens, work: Workdir
) -> Checkpoint:
    """Train a student of ``config.shape``.

    Args:
        config: shape, loss, budget and rates.
        teacher: a trained decoder.
        tokens: text packed with the teacher's tokenizer.
        work: gets the student's checkpoint.

    Raises:
        ConfigError: teacher and tokens are of different tokenizers, the student has another
            vocabulary than the teacher, the sequences are longer than the teacher's context, or the
            minutes come to too few steps.
        DataError: the tokens cannot be read, or there are none.
        MillError: the loss was not finite too often.
    """
    from components.train.budget.step_plan import StepPlan
    from components.train.budget.time_budget import MinutesRequest, job_for_minutes
    from components.train.data.packed_texts import PackedTexts
    from components.train.trainer.training_loop import run_training

    digest = check_one_tokenizer(
        "distill",
        record_of_model(work.artifact_folder(teacher), "teacher"),
        record_of_tokens(work.artifact_folder(tokens)),
    )
    split = open_split(work.artifact_folder(tokens), "train")
    config = _with_teacher_vocabulary(config, read_shape(work.artifact_folder(teacher)).vocabulary)
    _check_teacher(config, read_shape(work.artifact_folder(teacher)))
    models = _make_models(config, load_model(work.artifact_folder(teacher)))
    texts = PackedTexts(split, tokens.digest, config)
    with compute_in(models.student, config.precision), compute_in(models.teacher, config.precision):
        job = _job(config, models, texts, StepPlan.of_steps(config.steps or 1))
        if config.steps is None:

            def trial() -> TrainingJob[MicroBatch]:
                return _job(config, models.copy_student(), texts, StepPlan.of_steps(1))

            request = MinutesRequest("distill", config.minutes, config.min_steps)
            job = job_for_minutes(job, request, work, trial)
        trained = run_training(job, work)
    models.student.tokenizer = digest
    save_model(work.folder, models.student)
    stats = {
        "loss": round(trained.loss, 4),
        "parameters": config.shape.parameters,
        "teacher_parameters": models.teacher.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats=stats)


def _with_teacher_vocabulary(config: DistillConfig, vocabulary: int) -> DistillConfig:
    """``config`` with the teacher's vocabulary where it is left at its default."""
    if config.shape.vocabulary != DecoderShape().vocabulary:
        return config
    shape = dataclasses.replace(config.shape, vocabulary=vocabulary)
    return config.model_copy(update={"shape": shape})


def _check_teacher(config: DistillConfig, teacher: DecoderShape) -> None:
    from components.train.data.packed_texts import check_sequence_length

    if config.shape.vocabulary != teacher.vocabulary:
        raise ConfigError(
            f"distill.shape.vocabulary is {config.shape.vocabulary}, the teacher's "
            f"{teacher.vocabulary}: set it to {teacher.vocabulary}"
        )
    check_sequence_length(teacher, config.sequence_length, "distill.sequence_length", "the teacher")


def _make_models(config: DistillConfig, teacher: Decoder) -> DistillationModels:
    import torch

    from models.decoder import Decoder
    from models.distillation_loss import Projections, pair_layers

    torch.manual_seed(config.seed)
    student = Decoder(config.shape)
    pairs = pair_layers(config.hidden_layers, config.shape.layers, teacher.shape.layers)
    projections = Projections(pairs, config.shape.width, teacher.shape.width)
    return DistillationModels(student, teacher.requires_grad_(False), projections)


def distillation_step_loss(
    config: DistillConfig, models: DistillationModels, micro: MicroBatch, targets: float
) -> Tensor:
    """Sum of a micro-batch's losses, divided by the targets of the whole batch.

    Args:
        config: temperature and weights.
        models: student, teacher and projections.
        micro: inputs, targets and mask.
        targets: number of targets of the whole batch.
    """
    import torch

    from models.distillation_loss import capture_layers, logit_loss

    pairs, share_bt = models.projections.pairs, micro.target_weights(targets)
    with torch.no_grad(), capture_layers(models.teacher, list(pairs.values())) as teacher_states:
        teacher_btc = models.teacher.hidden(micro.inputs, mask=micro.mask)
    with capture_layers(models.student, list(pairs)) as student_states:
        student_btc = models.student.hidden(micro.inputs, mask=micro.mask)
    loss = logit_loss(
        models.student,
        models.teacher,
        (student_btc, teacher_btc),
        micro.targets,
        share_bt,
        temperature=config.temperature,
        weight=config.weight,
    )
    loss = loss + models.student.balance_loss(share_bt)
    if pairs:
        states_loss = models.projections(student_states, teacher_states, share_bt)
        loss = loss + config.hidden_weight * states_loss
    return loss


def _job(
    config: DistillConfig,
    models: DistillationModels,
    texts: PackedTexts,
    plan: StepPlan,
) -> TrainingJob[MicroBatch]:
    from components.train.trainer.training_job import TrainingJob

    return TrainingJob(
        modules=models.trained_modules,
        batch=texts.batch,
        count_targets=lambda micro: micro.count,
        loss=lambda micro, targets: distillation_step_loss(config, models, micro, targets),
        plan=plan,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        after_step=models.student.rebalance,
    )
