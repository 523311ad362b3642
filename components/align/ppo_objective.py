"""The clipped objective of PPO (Schulman et al. 2017, arXiv:1707.06347, equations 7 and 9).

Shapes in names: n answer tokens of all rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(
    logprobs_n: Tensor, before_n: Tensor, advantages_n: Tensor, clip: float
) -> tuple[Tensor, float]:
    """(mean loss over tokens, share of tokens whose ratio the clip held back)."""
    ratios_n = (logprobs_n - before_n).exp()
    held_n = ratios_n.clamp(1.0 - clip, 1.0 + clip)
    gains_n = torch.minimum(ratios_n * advantages_n, held_n * advantages_n)
    share = (held_n * advantages_n < ratios_n * advantages_n).float().mean()
    return -gains_n.mean(), float(share)


def value_loss(values_n: Tensor, before_n: Tensor, returns_n: Tensor, clip: float) -> Tensor:
    """Half the mean squared error, the worse of the value and of its clipped move."""
    held_n = before_n + (values_n - before_n).clamp(-clip, clip)
    errors_n = torch.maximum((values_n - returns_n) ** 2, (held_n - returns_n) ** 2)
    return 0.5 * errors_n.mean()
