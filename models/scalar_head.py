"""Heads beside the language-model head."""

from __future__ import annotations

from torch import Tensor, nn


class ScalarHead(nn.Module):
    """Linear head with one output: PPO's value of a position, or the reward of features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden_btc: Tensor) -> Tensor:
        """[b, t, c] -> [b, t]."""
        out: Tensor = self.out(hidden_btc.to(self.out.weight.dtype)).squeeze(-1)
        return out
