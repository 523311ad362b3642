"""Linear layers without bias, RMSNorm, and the MLP with its activations.

Sources: RMSNorm (arXiv:1910.07467), SwiGLU and GEGLU (2002.05202), squared ReLU (2109.08668).

Shapes in names: b batch, t positions, c model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import fused_autograd
from models.shape import Activation


class Linear(nn.Linear):
    """A bias-free linear layer that computes in the dtype of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, fast: bool = False) -> Tensor:
        if fast:
            return fused_autograd.fused_norm(x, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def is_gated(activation: Activation) -> bool:
    """True where an MLP has a gate beside its first matrix."""
    return activation != "relu2"


def apply_activation(gate: Tensor, activation: Activation) -> Tensor:
    """Activation of the gate or, without one, of the first matrix's output."""
    if activation == "swiglu":
        return F.silu(gate)
    if activation == "geglu":
        return F.gelu(gate, approximate="tanh")
    return F.relu(gate).square()


class MLP(nn.Module):
    """down(activate(gate(x)) * up(x)); without a gate down(activate(up(x)))."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = Linear(width, hidden) if is_gated(activation) else None
        self.up_proj = Linear(width, hidden)
        self.down_proj = Linear(hidden, width)

    def forward(self, x_btc: Tensor) -> Tensor:
        if self.gate_proj is None:
            inner = apply_activation(self.up_proj(x_btc), self.activation)
        else:
            inner = apply_activation(self.gate_proj(x_btc), self.activation) * self.up_proj(x_btc)
        out: Tensor = self.down_proj(inner)
        return out


def soft_cap(x: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(x / cap), which stays within the cap and is x near 0 (arXiv:2408.00118)."""
    return x if cap is None else (x / cap).tanh() * cap
