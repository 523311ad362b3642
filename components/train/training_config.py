"""Settings that trainings share: learning rates, schedule, budget, checkpoints. Free of torch."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from models.precision import Precision

MINUTES_OR_STEPS = MappingProxyType({"minutes": ("steps",), "epochs": ("steps",)})
"""What is displaced where steps stand in place of minutes, which epochs bound."""
ONE_BUDGET = MappingProxyType({"minutes": ("steps",), "epochs": ("steps",), "steps": ("minutes",)})
"""What is displaced where minutes or steps may stand in place of epochs, which bound minutes."""


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
        description="of Muon's iteration; auto: bfloat16 where the machine multiplies it natively. "
        "In bfloat16 the rounding of sums, which hangs on how a step is cut, moves losses by 1e-5",
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the second moment")
    adam_eps: float = Field(
        default=1e-10,
        gt=0,
        le=1,
        description="added to AdamW's root; far above the gradients it makes it momentum SGD",
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decoupled, on matrices only")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the whole gradient")


class ScheduleConfig(StageConfig):
    """Warm-up, stable, decay, in fractions of all steps; or warm-up and then half a cosine."""

    kind: Literal["stable", "cosine"] = Field(
        default="stable", description="stable, then a linear decay; or down a cosine all the way"
    )
    warmup: float = Field(
        default=0.02, ge=0, le=1, description="fraction of the steps to warm up over"
    )
    decay: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="last fraction of the steps, linear decay; a cosine takes all that are left",
    )
    floor: float = Field(default=0.0, ge=0, le=1, description="factor reached at the last step")


class SafetyConfig(StageConfig):
    """How often the state is saved, and how much nonsense is borne."""

    checkpoint_seconds: float = Field(
        default=20.0, gt=0, description="seconds between saved states"
    )
    keep: int = Field(default=2, ge=1, le=100, description="how many saved states to keep")
    bad_steps: int = Field(
        default=3, ge=0, le=1000, description="steps of non-finite loss to skip before giving up"
    )
    spike: float | None = Field(
        default=None,
        ge=3,
        le=1000,
        description="a loss so many robust deviations above the median is a spike; null bears all",
    )
    spike_window: int = Field(
        default=128, ge=16, le=4096, description="losses that median and deviation are taken over"
    )
    spike_span: int = Field(
        default=8, ge=1, le=1000, description="windows to leave out, up to that of the spike"
    )
    spikes: int = Field(default=5, ge=0, le=1000, description="spikes to undo before giving up")
