"""Clipped objective of PPO (Schulman et al. 2017, arXiv:1707.06347, equations 7 and 9).

Shapes in names: n answer tokens of all rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_policy_loss(
    logprobs_n: Tensor, old_logprobs_n: Tensor, advantages_n: Tensor, clip: float
) -> tuple[Tensor, float]:
    """Clipped surrogate loss of the policy.

    Args:
        logprobs_n: log probabilities of the sampled tokens under the policy that is trained.
        old_logprobs_n: the same when they were sampled.
        advantages_n: advantages of each token.
        clip: largest deviation of the probability ratio from 1 that still gains.

    Returns:
        (mean loss over tokens, share of tokens whose ratio was clipped).
    """
    ratios_n = (logprobs_n - old_logprobs_n).exp()
    clipped_n = ratios_n.clamp(1.0 - clip, 1.0 + clip)
    gains_n = torch.minimum(ratios_n * advantages_n, clipped_n * advantages_n)
    share = (clipped_n * advantages_n < ratios_n * advantages_n).float().mean()
    return -gains_n.mean(), float(share)


def clipped_value_loss(
    values_n: Tensor, old_values_n: Tensor, returns_n: Tensor, clip: float
) -> Tensor:
    """Half the mean squared error, the worse of the value's and that of its clipped move.

    Args:
        values_n: predicted now.
        old_values_n: predicted at the rollout.
        returns_n: targets.
        clip: largest move from the old value that still lowers the loss.
    """
    clipped_n = old_values_n + (values_n - old_values_n).clamp(-clip, clip)
    errors_n = torch.maximum((values_n - returns_n) ** 2, (clipped_n - returns_n) ** 2)
    return 0.5 * errors_n.mean()
