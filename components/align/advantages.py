"""Advantages of PPO: leave-one-out baseline, generalised advantage estimation, KL controller.

Shapes in names: b answers, a answer positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.align.ppo_config import KLConfig

_EPSILON = 1e-8
_ERROR_BOUND = 0.2  # of Ziegler et al. 2019: one noisy iteration moves the coefficient little


@dataclass(frozen=True)
class KLController:
    """Coefficient of the KL penalty (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    Adaptive: each iteration multiplies it by 1 + gain * clip(KL / target - 1, -0.2, 0.2).
    """

    config: KLConfig
    coefficient: float

    def updated(self, kl: float) -> KLController:
        """Controller of the next iteration, after answers with this mean KL in nats."""
        if self.config.kind == "fixed":
            return self
        error = min(_ERROR_BOUND, max(-_ERROR_BOUND, kl / self.config.target - 1.0))
        return KLController(self.config, self.coefficient * (1.0 + self.config.gain * error))


def subtract_leave_one_out_baseline(scores_b: Tensor, prompt_index_b: Tensor) -> Tensor:
    """Each score less the mean score of the other answers to its prompt; 0 without others.

    The leave-one-out baseline (RLOO: Ahmadian et al. 2024, arXiv:2402.14740) removes the level
    that a prompt gives to every answer, which a linear value function sees less well.
    """
    same_bb = (prompt_index_b[:, None] == prompt_index_b).float()
    count_b = same_bb.sum(1)
    mean_b = same_bb @ scores_b / count_b
    return (scores_b - mean_b) * count_b / (count_b - 1).clamp(min=1)


def token_rewards(scores_b: Tensor, mask_ba: Tensor) -> Tensor:
    """Rewards [b, a]: the score at each answer's last token, 0 elsewhere."""
    rewards_ba = torch.zeros(mask_ba.shape)
    rewards_ba[torch.arange(len(scores_b)), mask_ba.sum(1) - 1] = scores_b
    return rewards_ba


def generalised_advantages(
    rewards_ba: Tensor, values_ba: Tensor, mask_ba: Tensor, discount: float, decay: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438, equation 16).

    Args:
        rewards_ba: reward of each token.
        values_ba: value of the state before each token; behind an answer's end it is 0.
        mask_ba: true at tokens of the answer.
        discount: gamma.
        decay: lambda.

    Returns:
        (advantages, returns), each [b, a].
    """
    advantages_ba = torch.zeros_like(rewards_ba)
    advantage_b = torch.zeros_like(rewards_ba[:, 0])
    next_value_b = torch.zeros_like(advantage_b)
    for position in range(rewards_ba.shape[1] - 1, -1, -1):
        is_token_b = mask_ba[:, position]
        delta_b = rewards_ba[:, position] + discount * next_value_b - values_ba[:, position]
        advantage_b = torch.where(is_token_b, delta_b + discount * decay * advantage_b, 0.0)
        next_value_b = torch.where(is_token_b, values_ba[:, position], 0.0)
        advantages_ba[:, position] = advantage_b
    return advantages_ba, (advantages_ba + values_ba) * mask_ba


def whiten_advantages(advantages_ba: Tensor, mask_ba: Tensor) -> Tensor:
    """Scale to mean 0 and deviation 1 over the tokens of answers; 0 elsewhere."""
    token_values = advantages_ba[mask_ba]
    return (
        (advantages_ba - token_values.mean())
        / (token_values.std(correction=0) + _EPSILON)
        * mask_ba
    )
