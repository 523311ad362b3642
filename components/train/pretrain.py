"""Pretraining: a decoder from packed tokens, for a budget of minutes, tokens, operations or steps.

    modelmill stage pretrain --input tokens=PATH --output DIR --set minutes=4

Muon on matrices, AdamW on the rest, warm-up-stable-decay, and short blocks first: the same tokens
cut finer, since early on a model learns nothing from far away. Further corpora are mixed in by
weight: ``--input more.code=PATH --set mixture={tokens: 0.8, code: 0.2}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.token_arrays import read_meta
from components.train.autopilot.apply_choices import fixed_fields, settle
from components.train.budget.flop_count import flops_per_token
from components.train.budget.minutes_budget import min_steps_field
from components.train.data.training_corpora import Corpora, Packing, open_corpora
from components.train.device import Device, device_of
from components.train.distributed.parallel_config import ParallelConfig
from components.train.training_config import OptimConfig, SafetyConfig, ScheduleConfig
from models.precision import Precision, computing
from models.shape import DecoderShape
from models.shape_presets import TINY

if TYPE_CHECKING:
    from components.train.distributed.single_process import Ranks
    from components.train.trainer.training_loop import Trained
    from models.decoder import Decoder


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


class Inputs(BaseModel):
    """What the stage is given beside its config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Tokens
    more: dict[str, Tokens] = {}
    tokenizer: Tokenizer | None = None
    tokenizer_digest: str = ""
    """Of the one tokenizer of all of these; empty where none of them records it."""


def pretrain(
    config: PretrainConfig,
    tokens: Tokens,
    work: Workdir,
    more: Mapping[str, Tokens] = MappingProxyType({}),
    tokenizer: Tokenizer | None = None,
) -> Checkpoint:
    """Train a decoder from random weights.

    Args:
        more: further corpora by name, for ``config.mixture``.
        tokenizer: that of the tokens; with it, samples of text are recorded on the way.

    Raises:
        ConfigError: the inputs are of different tokenizers, the shape has another vocabulary, the
            mixture names other corpora, a GPU is missing, a step does not fit into memory, the
            minutes come to fewer steps than ``config.min_steps``, or the autopilot cannot plan.
        DataError: the tokens cannot be read, or are less than a batch.
        MillError: the loss was not finite, or spiked, too often, or a rank died.
    """
    folders = [work.path(one) for one in (tokens, *more.values())]
    digest = _check_tokenizer(config, folders, None if tokenizer is None else work.path(tokenizer))
    inputs = Inputs(tokens=tokens, more=dict(more), tokenizer=tokenizer, tokenizer_digest=digest)
    config = settle(config, folders, work)
    if config.parallel.ranks > 1:
        from components.train.distributed.launch_ranks import train_on_ranks

        stats = train_on_ranks(config, inputs, work)
    else:
        from components.train.distributed.single_process import ALONE

        stats = learn(config, inputs, work, ALONE)
    return work.seal(Checkpoint, stats=stats)


def learn(config: PretrainConfig, inputs: Inputs, work: Workdir, ranks: Ranks) -> dict[str, float]:
    """All of the stage but its seal, as one of the ranks that train together; the stats.

    Raises:
        ConfigError, DataError, MillError: as ``pretrain``.
    """
    import torch

    from components.train.trainer.pretraining_call import Pretraining
    from models.decoder import Decoder

    device = ranks.device or device_of(config.device)
    given = {"tokens": inputs.tokens, **inputs.more}
    folders = {name: work.path(one) for name, one in given.items()}
    corpora = open_corpora(
        folders,
        {name: one.digest for name, one in given.items()},
        config,
    )
    torch.manual_seed(config.seed)
    model = Decoder(config.shape).to(device)
    model.tokenizer = inputs.tokenizer_digest
    model.recompute = config.recompute
    if config.float8:
        from components.train.trainer.float8 import check_float8, use_float8

        check_float8(device)
        use_float8(model.layers)
    model = ranks.shard(model)
    sample = _sampler(model, corpora, work, inputs.tokenizer, ranks)
    with computing(model, config.precision, device.type):
        run = Pretraining(config, model, corpora, device, work, sample, ranks)
        trained = run.train()
    ranks.save(work.folder, model)
    return _stats(trained, model, corpora.bits_per_loss)


def _check_tokenizer(
    config: PretrainConfig, corpora: Sequence[Path], tokenizer: Path | None
) -> str:
    """Refuse corpora of different tokenizers, and a shape of another vocabulary, before any probe.

    Args:
        corpora: folders of the tokens to train on, the first the one that all others must match.

    Returns:
        The tokenizer's digest; empty where nothing records it.

    Raises:
        ConfigError: they differ.
    """
    records = [record_of_tokens(folder) for folder in corpora]
    if tokenizer is not None:
        records.append(record_of_tokenizer(tokenizer))
    digest = check_one_tokenizer("pretrain", *records)
    left_to_autopilot = config.autopilot and "shape" not in fixed_fields(config)
    vocabulary = read_meta(corpora[0]).vocabulary
    if vocabulary != config.shape.vocabulary and not left_to_autopilot:
        raise ConfigError(_other_vocabulary(config.shape.vocabulary, vocabulary))
    return digest


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


def _sampler(
    model: Decoder, corpora: Corpora, work: Workdir, tokenizer: Tokenizer | None, ranks: Ranks
) -> Callable[[], str] | None:
    """What gives samples of the model's text; None without a tokenizer, and on many ranks."""
    if tokenizer is None or ranks.world > 1:  # one rank cannot write without the others
        return None
    from components.text.chat.chat_template import open_tokenizer
    from components.train.trainer.text_samples import Sampler

    return Sampler(model, open_tokenizer(work.path(tokenizer)), corpora.eos)


def _stats(trained: Trained, model: Decoder, bits_per_loss: float) -> dict[str, float]:
    stats = {
        "parameters": model.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "loss": round(trained.loss, 4),
        "train_bits_per_byte": round(trained.loss * bits_per_loss, 4),
        "skipped": trained.skipped,
        "tokens_per_second": round(trained.rate, 1),
        "wait_seconds": round(trained.wait_seconds, 3),
        "starved_steps": trained.starved,
    }
    if trained.utilisation is not None:
        stats["utilisation"] = round(trained.utilisation, 4)
    return stats
