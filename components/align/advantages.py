"""From scores to advantages: the others' baseline, the KL controller, generalised advantages.

Shapes in names: b answers, a answer positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.align.ppo_config import KLConfig

_EPS = 1e-8
_ERROR_BOUND = 0.2


@dataclass(frozen=True)
class KLController:
    """The coefficient of the KL penalty (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    Adaptive: each iteration multiplies it by 1 + gain * clip(KL / target - 1, -0.2, 0.2).
    """

    config: KLConfig
    coefficient: float

    def after(self, kl: float) -> KLController:
        """The controller for the next iteration, when answers had this KL in nats."""
        if self.config.kind == "fixed":
            return self
        error = min(_ERROR_BOUND, max(-_ERROR_BOUND, kl / self.config.target - 1.0))
        return KLController(self.config, self.coefficient * (1.0 + self.config.gain * error))


def against_others(scores_b: Tensor, questions_b: Tensor) -> Tensor:
    """Each score less the mean of the other answers to its question; 0 where there are none.

    The leave-one-out baseline (Ahmadian et al. 2024, arXiv:2402.14740): it takes away what
    a question gives to whoever answers it, which no linear value function sees as well.
    """
    same_bb = (questions_b[:, None] == questions_b).float()
    count_b = same_bb.sum(1)
    mean_b = same_bb @ scores_b / count_b
    return (scores_b - mean_b) * count_b / (count_b - 1).clamp(min=1)


def token_rewards(scores_b: Tensor, mask_ba: Tensor) -> Tensor:
    """The score at each answer's last token, 0 before it."""
    rewards_ba = torch.zeros(mask_ba.shape)
    rewards_ba[torch.arange(len(scores_b)), mask_ba.sum(1) - 1] = scores_b
    return rewards_ba


def gae(
    rewards_ba: Tensor, values_ba: Tensor, mask_ba: Tensor, discount: float, decay: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), each [b, a]: Schulman et al. 2015 (arXiv:1506.02438, equation 16).

    ``values_ba`` are of the state before each token; behind an answer's end the value is 0.
    """
    advantages_ba = torch.zeros_like(rewards_ba)
    following_b = torch.zeros_like(rewards_ba[:, 0])
    next_value_b = torch.zeros_like(following_b)
    for at in range(rewards_ba.shape[1] - 1, -1, -1):
        real_b = mask_ba[:, at]
        delta_b = rewards_ba[:, at] + discount * next_value_b - values_ba[:, at]
        following_b = torch.where(real_b, delta_b + discount * decay * following_b, 0.0)
        next_value_b = torch.where(real_b, values_ba[:, at], 0.0)
        advantages_ba[:, at] = following_b
    return advantages_ba, (advantages_ba + values_ba) * mask_ba


def whiten(values_ba: Tensor, mask_ba: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the real tokens, 0 elsewhere."""
    real = values_ba[mask_ba]
    return (values_ba - real.mean()) / (real.std(correction=0) + _EPS) * mask_ba
