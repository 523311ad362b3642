"""Configs of a whole alignment that takes seconds, and a call of its last stage."""

from __future__ import annotations

from components.align.ppo import ppo
from components.align.ppo_config import KLConfig, PPOConfig
from components.align.preferences_config import PreferencesConfig
from components.align.train_reward import (
    RewardConfig,
)
from components.core.store.artifact import Checkpoint
from components.text.constitution.principles import Constitution
from components.train.training_config import OptimConfig

PRINCIPLES = Constitution.model_validate(
    {
        "principles": [
            {
                "name": "faithful",
                "description": "Says what the documentation says.",
                "weight": 3,
                "check": {"kind": "reference", "full": 1.0},
            },
            {"name": "whole", "description": "Ends.", "check": {"kind": "sentence"}},
        ]
    }
)

PAIRS = PreferencesConfig(
    constitution=PRINCIPLES,
    questions=8,
    heldout_questions=4,
    answers=24,
    temperature=1.3,
    max_new=24,
    chunk=4,
    margin=0.15,
)

REWARD = RewardConfig(ridge=0.01, batch=3, min_prompts=4, precision="float32")

PPO = PPOConfig(
    constitution=PRINCIPLES,
    judged=2,
    min_prompts=6,
    judge_every=1,
    iterations=10,
    answers=32,
    batch=16,
    temperature=1.0,
    max_new=24,
    optim=OptimConfig(kind="adamw", adam_lr=1e-3, embedding_lr=1e-3),
    kl=KLConfig(kind="adaptive", coefficient=0.2, target=1.5),
    precision="float32",
)


def align(world, reward, work=None, config=PPO) -> Checkpoint:
    work = work or world.work()
    return ppo(config, world.policy, reward, world.instructions, world.tokenizer, work)
