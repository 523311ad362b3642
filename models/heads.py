"""Heads beside the language-model head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScalarHead(nn.Module):
    """One number a position: a value (PPO) or, read at the last position, a reward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden_btc: Tensor) -> Tensor:
        """[b, t, c] -> [b, t]."""
        out: Tensor = self.out(hidden_btc.to(self.out.weight.dtype)).squeeze(-1)
        return out


def last_position(values_bt: Tensor, lengths_b: Tensor) -> Tensor:
    """The value at each row's last real position (rows padded on the right) -> [b]."""
    rows = torch.arange(values_bt.shape[0], device=values_bt.device)
    return values_bt[rows, lengths_b - 1]
