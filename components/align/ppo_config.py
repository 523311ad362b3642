"""Settings of PPO. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.text.constitution.principles import Constitution, house_constitution
from components.train.training_config import OptimConfig, ScheduleConfig
from models.precision import Precision


class KLConfig(StageConfig):
    """How the policy is held near the model it came from."""

    kind: Literal["adaptive", "fixed"] = Field(
        default="fixed", description="whether the coefficient follows the target"
    )
    coefficient: float = Field(
        default=0.1, ge=0, le=10, description="penalty a nat, in deviations of reward, at first"
    )
    target: float = Field(
        default=3.0, gt=0, le=1000, description="nats of KL an answer that adaptive aims at"
    )
    gain: float = Field(
        default=1.0, gt=0, le=5, description="how fast adaptive follows; at 1, a fifth at most"
    )


class PPOConfig(StageConfig):
    """Rollouts, advantages, and the clipped objective."""

    constitution: Constitution = Field(
        default_factory=house_constitution,
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
        gt=0,
        le=1000,
        description="deviations of reward that a judgement of 1 is worth above one of 0, where "
        "the principles reward alone",
    )
    beside_model: float = Field(
        default=20.0,
        ge=0,
        le=1000,
        description="the same where they reward beside the reward model; 0: the model alone",
    )
    min_prompts: int = Field(
        default=8, ge=1, description="fewest prompts to learn from; with fewer the start is kept"
    )
    judged: int = Field(
        default=256,
        ge=0,
        description="prompts kept back, at most a quarter, whose answers choose the iteration; "
        "0: the last is taken",
    )
    judged_draws: int = Field(
        default=2, ge=1, le=64, description="answers to each of them, with the same random numbers"
    )
    judge_every: int = Field(default=2, ge=1, description="iterations between judgements")
    iterations: int = Field(default=12, ge=1, le=100_000, description="rollouts, each learnt from")
    answers: int = Field(default=256, ge=2, description="answers of a rollout")
    samples: int = Field(default=8, ge=2, description="answers sampled to a question")
    kept: int = Field(
        default=4, ge=2, description="of these, half the best and half the worst are learnt from"
    )
    questions: int = Field(default=8192, ge=1, description="alignment prompts to draw from")
    max_new: int = Field(default=64, ge=1, le=4096, description="tokens an answer, at most")
    temperature: float = Field(
        default=0.7, gt=0, le=5, description="of the sampling, and of the policy that is learnt"
    )
    epochs: int = Field(default=2, ge=1, le=20, description="times each rollout is learnt from")
    batch: int = Field(default=64, ge=1, description="answers a gradient step")
    clip: float = Field(default=0.2, gt=0, lt=1, description="how far a ratio may help")
    value_clip: float = Field(default=0.2, gt=0, description="how far a value may move at once")
    score_clip: float = Field(
        default=4.0, gt=0, description="bound of a score, in deviations of reward"
    )
    unfinished: float = Field(
        default=2.0, ge=0, description="taken off the score of an answer that did not end"
    )
    entropy: float = Field(default=0.0, ge=0, le=1, description="bonus a nat of entropy")
    discount: float = Field(default=1.0, gt=0, le=1, description="gamma")
    decay: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimation")
    kl: KLConfig = Field(default=KLConfig(), description="hold on the model it came from")
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
        description="course of the rates",
    )
    precision: Precision = Field(default="auto", description="dtype of activations in learning")
    save_every: int = Field(default=1, ge=1, description="iterations between saved states")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of questions, sampling and order")
