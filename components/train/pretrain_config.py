"""Configuration and inputs of pretraining. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.core.store.artifact import Tokenizer, Tokens
from components.train.budget.flop_count import flops_per_token
from components.train.device import DeviceChoice
from components.train.distributed.parallel_config import ParallelConfig
from components.train.training_config import Minutes, PackedTrainingConfig, TrainingSafetyConfig
from models.shape import DecoderShape
from models.shape_presets import TINY

Packing = Literal["stream", "best-fit"]
BUDGET_FIELDS = ("minutes", "tokens", "flops", "steps")


class PretrainConfig(PackedTrainingConfig):
    """Decoder, tokens a step, and one budget: minutes, tokens, operations or steps."""

    shape: DecoderShape = Field(default=TINY, description="the decoder's shape")
    minutes: Minutes | None = Field(
        default=4.0, description="time budget; a probe turns it into steps"
    )
    tokens: float | None = Field(
        default=None, gt=0, le=1e15, description="budget in tokens to learn from"
    )
    flops: float | None = Field(
        default=None,
        gt=0,
        le=1e30,
        description="budget in operations, 6 N + 12 L H Q T a token",
    )
    autopilot: (
        bool | tuple[Literal["shape", "batch", "muon_lr", "adam_lr", "embedding_lr"], ...]
    ) = Field(
        default=False,
        description="true: choose every field that stands at its default; a list: choose the "
        "fields that it names",
    )
    short_sequence_length: int = Field(
        default=256, ge=8, description="tokens of a sequence in the first phase"
    )
    short: float = Field(
        default=0.5, ge=0, le=1, description="fraction of the steps in the first phase"
    )
    packing: Packing = Field(
        default="stream",
        description="stream: documents one behind another, cut at the ends of sequences; best-fit: "
        "whole documents where they fit",
    )
    mixture: dict[str, float] = Field(
        default={}, description="weight of each corpus where several are given: tokens, and others"
    )
    safety: TrainingSafetyConfig = Field(
        default=TrainingSafetyConfig(spike=12.0),
        description="saved states, bad steps, loss spikes",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of an exponential moving average of the weights, which is then the "
        "model; null takes none",
    )
    device: DeviceChoice = Field(
        default="auto", description="auto: a GPU where there is one; GPUs are experimental"
    )
    compile: Literal["auto", "never", "always"] = Field(
        default="auto",
        description="torch.compile; auto: on a GPU (experimental), where measured quicker",
    )
    float8: bool = Field(
        default=False,
        description="experimental: layers in 8-bit floats, on GPUs that multiply them",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="compute each layer again on the way back: less memory, a third more work",
    )
    parallel: ParallelConfig = Field(
        default=ParallelConfig(),
        description="processes that train together, on GPUs experimental; no input of the stage",
    )

    excluded_from_key: ClassVar[frozenset[str]] = PackedTrainingConfig.excluded_from_key | {
        "parallel"
    }
    clears_preset_fields: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {kind: tuple(other for other in BUDGET_FIELDS if other != kind) for kind in BUDGET_FIELDS}
    )

    @model_validator(mode="before")
    @classmethod
    def _default_gives_way(cls, values: object) -> object:
        """Drop the default minutes where another budget was written."""
        if not isinstance(values, Mapping) or "minutes" in values:
            return values
        other = any(values.get(kind) is not None for kind in ("tokens", "flops"))
        return {**values, "minutes": None} if other else values

    @model_validator(mode="after")
    def _one_budget(self) -> PretrainConfig:
        kinds = ("minutes", "tokens", "flops")
        budgets = [kind for kind in kinds if getattr(self, kind) is not None]
        if self.steps is not None:  # stands in place of minutes, and of nothing else
            budgets = [kind for kind in budgets if kind != "minutes"] + ["steps"]
        if len(budgets) > 1:
            raise ValueError(f"{' and '.join(budgets)} are given: set all but one of them to null")
        if not budgets:
            raise ValueError("no budget is given: set one of minutes, tokens, flops or steps")
        if self.autopilot and (self.steps is not None or self.tokens is not None):
            raise ValueError(
                "autopilot plans for minutes or flops, not for steps or tokens: set one of those"
            )
        if self.tokens is not None and self.tokens < self.batch:
            raise ValueError(f"tokens ({self.tokens:g}) is less than a batch ({self.batch})")
        return self

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        if self.sequence_length % self.short_sequence_length:
            raise ValueError(
                f"short_sequence_length ({self.short_sequence_length}) must divide "
                f"sequence_length ({self.sequence_length})"
            )
        if self.sequence_length > self.shape.context:
            raise ValueError(
                f"sequence_length ({self.sequence_length}) must be within shape.context "
                f"({self.shape.context})"
            )
        if any(weight <= 0 for weight in self.mixture.values()):
            raise ValueError("mixture: weights must be more than 0; leave a corpus out instead")
        lengths = (self.sequence_length, self.short_sequence_length)
        for misfit in self.parallel.find_conflicts(
            self.shape, self.batch // self.sequence_length, lengths
        ):
            raise ValueError(misfit)
        return self

    @property
    def counted_steps(self) -> int | None:
        """Steps that a budget other than time comes to; None for minutes.

        Budgets of tokens and operations are never exceeded, but for the first step.
        """
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            return max(1, int(self.tokens // self.batch))
        if self.flops is not None:
            return max(1, int(self.flops // self.step_operations))
        return None

    @property
    def step_operations(self) -> float:
        """Floating-point operations of a step, averaged over both phases."""
        long, short = (
            flops_per_token(self.shape, length)
            for length in (self.sequence_length, self.short_sequence_length)
        )
        return self.batch * (self.short * short + (1.0 - self.short) * long)


class PretrainInputs(BaseModel):
    """Artifacts that the stage takes, and the digest of their tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Tokens
    more: dict[str, Tokens] = {}
    tokenizer: Tokenizer | None = None
    tokenizer_digest: str = ""
    """Digest of the one tokenizer of all of these; empty where none records it."""
