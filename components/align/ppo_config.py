"""PPO configuration, importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.text.constitution.principles import Constitution, default_constitution
from components.train.training_config import OptimConfig, ScheduleConfig
from models.precision import Precision


class KLConfig(StageConfig):
    """KL penalty that holds the policy near the model it came from."""

    kind: Literal["adaptive", "fixed"] = Field(
        default="fixed", description="adaptive steers the coefficient towards the target KL"
    )
    coefficient: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="penalty for each nat of KL, in deviations of reward; adaptive starts from it",
    )
    target: float = Field(
        default=3.0, gt=0, le=1000, description="KL that adaptive aims at, in nats an answer"
    )
    gain: float = Field(
        default=1.0,
        gt=0,
        le=5,
        description="speed of adaptive: an iteration changes the coefficient by at most gain / 5",
    )


class PPOConfig(StageConfig):
    """PPO: rewards, rollouts, advantages and the clipped objective."""

    constitution: Constitution = Field(
        default_factory=default_constitution,
        description="the principles that reward and that choose an iteration",
    )
    min_correlation: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="least correlation of the reward model with the principles, within a prompt, "
        "with which it rewards; below it the principles reward alone",
    )
    principles: float = Field(
        default=20.0,
        ge=0,
        le=1000,
        description=(
            "reward of a judgement of 1 above one of 0, in standard deviations of reward, "
            "where the principles reward alone; at 0 they never do, and without a reward model "
            "that is good enough the policy stays as it was"
        ),
    )
    beside_model: float = Field(
        default=20.0,
        ge=0,
        le=1000,
        description=(
            "weight of the principles beside the reward model, in the unit of "
            "`principles`; at 0 the reward model rewards alone"
        ),
    )
    min_prompts: int = Field(
        default=8,
        ge=1,
        description="fewest prompts to learn from; with fewer the policy stays as it was",
    )
    judged: int = Field(
        default=256,
        ge=0,
        description="prompts held back from rollouts, at most a quarter, by whose judged answers "
        "the best iteration is chosen; 0 takes the last iteration",
    )
    judged_draws: int = Field(
        default=2,
        ge=1,
        le=64,
        description="answers sampled to each prompt held back, with equal random numbers",
    )
    judge_every: int = Field(
        default=2, ge=1, description="iterations between two judgements of the policy"
    )
    iterations: int = Field(
        default=12, ge=1, le=100_000, description="iterations: a rollout and the training on it"
    )
    answers: int = Field(default=256, ge=2, description="answers of a rollout that are learnt from")
    samples: int = Field(default=8, ge=2, description="answers sampled to a question")
    kept_samples: int = Field(
        default=4,
        ge=2,
        description="answers of these that are learnt from, half the best and half the worst",
    )
    questions: int = Field(default=8192, ge=1, description="alignment prompts to draw from")
    max_new: int = Field(default=64, ge=1, le=4096, description="longest answer, in tokens")
    temperature: float = Field(
        default=0.7,
        gt=0,
        le=5,
        description="temperature of the sampling and of the policy that is trained",
    )
    epochs: int = Field(default=2, ge=1, le=20, description="passes over each rollout")
    batch: int = Field(
        default=64, ge=1, description="answers of a minibatch, one gradient step each"
    )
    clip: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="largest gain from a probability ratio above or below 1",
    )
    value_clip: float = Field(
        default=0.2,
        gt=0,
        description="largest move of a value from that of the rollout that still lowers the loss",
    )
    score_clip: float = Field(
        default=4.0, gt=0, description="bound of the model's reward, in within-prompt deviations"
    )
    unfinished: float = Field(
        default=2.0, ge=0, description="penalty for an answer that was cut at max_new tokens"
    )
    entropy: float = Field(default=0.0, ge=0, le=1, description="bonus for each nat of entropy")
    discount: float = Field(
        default=1.0, gt=0, le=1, description="gamma, the discount of later rewards"
    )
    decay: float = Field(
        default=0.95, ge=0, le=1, description="lambda of generalised advantage estimation"
    )
    kl: KLConfig = Field(
        default=KLConfig(), description="penalty for leaving the model it came from"
    )
    optim: OptimConfig = Field(
        default=OptimConfig(
            kind="adamw", adam_lr=0.0008, embedding_lr=0.0008, beta2=0.98, adam_eps=0.001
        ),
        description="the policy's optimiser",
    )
    value_optim: OptimConfig = Field(
        default=OptimConfig(kind="adamw", adam_lr=0.002), description="the value head's optimiser"
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.05, decay=0.5, floor=0.1),
        description="schedule of both learning rates",
    )
    precision: Precision = Field(default="auto", description="dtype of activations in training")
    save_every: int = Field(default=1, ge=1, description="iterations between two saved states")
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="seed of prompts, sampling and order"
    )
