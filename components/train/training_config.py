"""Configuration that all trainings share: budget, batch, optimiser, schedule, checkpoints.

Free of torch, so that a plan reads it in milliseconds.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from components.core.config.stage_config import StageConfig
from components.train.budget.minutes_budget import MIN_STEPS
from models.precision import Precision

Minutes = Annotated[float, Field(gt=0, le=100_000)]

STEPS_REPLACE_MINUTES = MappingProxyType({"minutes": ("steps",), "epochs": ("steps",)})
"""Preset fields that a user's field clears, where steps replace minutes and epochs bound them."""
ONE_OF_MINUTES_STEPS = MappingProxyType(
    {"minutes": ("steps",), "epochs": ("steps",), "steps": ("minutes",)}
)
"""The same where minutes or steps may replace epochs, which bound minutes too."""


class OptimConfig(StageConfig):
    """Muon on the matrices of the layers and AdamW on the rest, or AdamW on everything."""

    kind: Literal["muon", "adamw"] = Field(
        default="muon", description="optimiser of the layers' matrices"
    )
    muon_lr: float = Field(default=0.01, ge=0, le=1, description="peak learning rate of Muon")
    adam_lr: float = Field(
        default=0.006,
        ge=0,
        le=1,
        description="peak learning rate of AdamW: norms, heads, or everything",
    )
    embedding_lr: float = Field(default=0.02, ge=0, le=1, description="peak rate of the embeddings")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon's Nesterov momentum")
    muon_dtype: Precision = Field(
        default="auto",
        description=(
            "dtype of Muon's iteration; auto: bfloat16 where the machine multiplies it "
            "natively. In bfloat16 losses differ by 1e-5 between two splits of a step"
        ),
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the second moment")
    adam_eps: float = Field(
        default=1e-10,
        gt=0,
        le=1,
        description=(
            "constant added to AdamW's denominator; far above the gradients it is momentum SGD"
        ),
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="decoupled weight decay, on matrices only"
    )
    clip: float = Field(default=1.0, gt=0, description="largest norm of the whole gradient")


class ScheduleConfig(StageConfig):
    """Learning-rate schedule: warm-up, stable, decay in fractions of all steps; or a cosine."""

    kind: Literal["stable", "cosine"] = Field(
        default="stable", description="stable, then a linear decay; or half a cosine after warm-up"
    )
    warmup: float = Field(
        default=0.02, ge=0, le=1, description="fraction of the steps to warm up over"
    )
    decay: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="fraction of the steps that decay linearly at the end; no part of a cosine",
    )
    floor: float = Field(
        default=0.0, ge=0, le=1, description="factor on the rates towards the last step"
    )


class TrainingSafetyConfig(StageConfig):
    """Saved states, and how many non-finite or spiking losses are undone before giving up."""

    checkpoint_seconds: float = Field(
        default=20.0, gt=0, description="seconds between saved states"
    )
    keep: int = Field(default=2, ge=1, le=100, description="number of saved states that are kept")
    bad_steps: int = Field(
        default=3, ge=0, le=1000, description="steps of non-finite loss to skip before giving up"
    )
    spike: float | None = Field(
        default=None,
        ge=3,
        le=1000,
        description="a loss this many robust deviations above the median is a spike; null: no loss "
        "is one",
    )
    spike_window: int = Field(
        default=128, ge=16, le=4096, description="losses that median and deviation are taken over"
    )
    spike_span: int = Field(
        default=8, ge=1, le=1000, description="batches to leave out, up to that of the spike"
    )
    spikes: int = Field(default=5, ge=0, le=1000, description="spikes to undo before giving up")


class TrainingConfig(StageConfig):
    """Settings of a training by gradient descent; each stage derives its own from it."""

    minutes: Minutes | None = Field(
        default=None, description="time budget; a probe turns it into steps"
    )
    steps: int | None = Field(
        default=None, ge=1, description="number of steps, in place of minutes"
    )
    min_steps: int = Field(
        default=MIN_STEPS,
        ge=1,
        description="fewest steps that minutes may come to; fewer are refused before they begin",
    )
    batch: int = Field(default=2048, ge=8, description="tokens a step")
    micro_batch: int = Field(
        default=4096,
        ge=8,
        description="tokens computed at once, capped at batch; the result stays "
        "the same, memory falls with it",
    )
    optim: OptimConfig = Field(default=OptimConfig(), description="optimisers and their rates")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="learning-rate schedule")
    safety: TrainingSafetyConfig = Field(
        default=TrainingSafetyConfig(), description="saved states, bad steps, loss spikes"
    )
    precision: Precision = Field(
        default="auto", description="dtype of activations; weights stay float32"
    )
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="seed of the first weights and the data order"
    )

    excluded_from_key: ClassVar[frozenset[str]] = frozenset({"min_steps"})


class PackedTrainingConfig(TrainingConfig):
    """Settings of a training on packed text, cut into sequences of equal length."""

    # The fields of a shape are described by their docstrings: `models/` knows no pydantic.
    model_config = ConfigDict(use_attribute_docstrings=True)

    sequence_length: int = Field(
        default=512, ge=8, le=1 << 16, description="tokens of a training sequence"
    )

    @model_validator(mode="after")
    def _batch_holds_whole_sequences(self) -> PackedTrainingConfig:
        if self.batch % self.sequence_length:
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of sequence_length "
                f"({self.sequence_length})"
            )
        return self
