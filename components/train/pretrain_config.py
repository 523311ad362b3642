"""Configuration and inputs of pretraining. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Tokenizer, Tokens
from components.train.budget.flop_count import flops_per_token
from components.train.budget.minutes_budget import min_steps_field
from components.train.data.training_corpora import Packing
from components.train.device import Device
from components.train.distributed.parallel_config import ParallelConfig
from components.train.training_config import OptimConfig, SafetyConfig, ScheduleConfig
from models.precision import Precision
from models.shape import DecoderShape
from models.shape_presets import TINY

if TYPE_CHECKING:
    pass


BUDGETS = ("minutes", "tokens", "flops", "steps")


class PretrainConfig(StageConfig):
    """What to train, on how many tokens a step, for how long."""

    shape: DecoderShape = Field(default=TINY, description="the decoder's shape")
    minutes: float | None = Field(
        default=4.0, gt=0, le=100_000, description="budget; a probe makes steps of it"
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
    steps: int | None = Field(
        default=None, ge=1, description="number of steps, in place of minutes"
    )
    min_steps: int = min_steps_field()
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
    packing: Packing = Field(
        default="stream",
        description="stream: documents one behind another, cut at the ends of blocks; best-fit: "
        "whole documents where they fit",
    )
    mixture: dict[str, float] = Field(
        default={}, description="weight of each corpus where several are given: tokens, and others"
    )
    optim: OptimConfig = Field(default=OptimConfig(), description="optimisers and their rates")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="course of the rates")
    safety: SafetyConfig = Field(
        default=SafetyConfig(spike=12.0), description="saved states, bad steps, spikes"
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of an average of the weights, which is then the model; null takes none",
    )
    precision: Precision = Field(
        default="auto", description="dtype of activations; weights stay float32"
    )
    device: Device = Field(default="auto", description="auto: a GPU where there is one")
    compile: Literal["auto", "never", "always"] = Field(
        default="auto", description="torch.compile; auto: on a GPU, where measured quicker"
    )
    float8: bool = Field(
        default=False, description="layers in 8-bit floats, on GPUs that multiply them"
    )
    recompute: bool = Field(
        default=False,
        description="compute each layer again on the way back: less memory, a third more work",
    )
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="of the first weights and the data order"
    )
    parallel: ParallelConfig = Field(
        default=ParallelConfig(), description="processes that train together; no input of the stage"
    )

    aside: ClassVar[frozenset[str]] = frozenset({"parallel", "min_steps"})
    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {kind: tuple(other for other in BUDGETS if other != kind) for kind in BUDGETS}
    )

    @model_validator(mode="before")
    @classmethod
    def _default_gives_way(cls, given: object) -> object:
        """Only a budget that was written can be one too many."""
        if not isinstance(given, Mapping) or "minutes" in given:
            return given
        other = any(given.get(kind) is not None for kind in ("tokens", "flops"))
        return {**given, "minutes": None} if other else given

    @model_validator(mode="after")
    def _one_budget(self) -> PretrainConfig:
        kinds = ("minutes", "tokens", "flops")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if self.steps is not None:  # stands in place of minutes, and of nothing else
            given = [kind for kind in given if kind != "minutes"] + ["steps"]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given: set all but one of them to null")
        if not given:
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
        if any(weight <= 0 for weight in self.mixture.values()):
            raise ValueError("mixture: weights must be more than 0; leave a corpus out instead")
        lengths = (self.positions, self.short_positions)
        for misfit in self.parallel.misfits(self.shape, self.batch // self.positions, lengths):
            raise ValueError(misfit)
        return self

    @property
    def counted_steps(self) -> int | None:
        """Steps that a budget other than time comes to; None where time decides.

        Tokens and operations are never exceeded, but for a first step.
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
        """Floating-point operations of a step, the mean over both phases."""
        long, short = (
            flops_per_token(self.shape, length) for length in (self.positions, self.short_positions)
        )
        return self.batch * (self.short * short + (1.0 - self.short) * long)


class PretrainInputs(BaseModel):
    """What the stage is given beside its config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Tokens
    more: dict[str, Tokens] = {}
    tokenizer: Tokenizer | None = None
    tokenizer_digest: str = ""
    """Of the one tokenizer of all of these; empty where none of them records it."""
