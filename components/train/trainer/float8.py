"""Linear layers in 8-bit floats (Micikevicius et al. 2022, arXiv:2209.05433), an opt-in.

Weights and activations go to e4m3, gradients to e5m2, each scaled by the largest value of the
tensor; products accumulate in the tensor cores and come out in bfloat16. Weight gradients are
computed in bfloat16, since they sum over the most terms. Embeddings and the head stay as they are,
and so do layers whose sides are no multiples of 16.

Shapes in names: n rows, i inputs, o outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.core.errors import ConfigError

SIDE = 16
"""Alignment that the kernel asks of both sides of a product."""
LEAST_CAPABILITY = (8, 9)
"""Compute capability of Ada, the first with 8-bit floats."""
_FORWARD, _BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2


def check_float8(device: torch.device) -> None:
    """Refuse a device that does not multiply 8-bit floats.

    Raises:
        ConfigError: no GPU, or one before Ada and Hopper.
    """
    if device.type != "cuda":
        raise ConfigError("float8: only GPUs multiply 8-bit floats; set float8 to false")
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < LEAST_CAPABILITY:
        raise ConfigError(
            f"float8: this GPU has compute capability {major}.{minor}, 8.9 or newer is needed; set "
            "float8 to false"
        )


def use_float8(layers: nn.Module) -> int:
    """Convert the linear layers of a module to 8-bit products, in place; returns their number.

    Their weights keep their dtype.
    """
    count = 0
    for module in layers.modules():
        if isinstance(module, nn.Linear) and not any(s % SIDE for s in module.weight.shape):
            module.__class__ = Float8Linear  # in place, so a copy of the model has them too
            count += 1
    return count


class Float8Linear(nn.Linear):
    """Bias-free linear layer that multiplies in 8-bit floats."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] % SIDE:
            return nn.functional.linear(x, self.weight.to(x.dtype))
        out: Tensor = _Product.apply(rows, self.weight)  # type: ignore[no-untyped-call]
        return out.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ni: Tensor, w_oi: Tensor) -> Tensor:
        ctx.save_for_backward(x_ni, w_oi)
        return _multiply(x_ni, w_oi, _FORWARD, x_ni.dtype)

    @staticmethod
    def backward(ctx: Any, g_no: Tensor) -> tuple[Tensor, Tensor]:
        x_ni, w_oi = ctx.saved_tensors
        g_x = _multiply(g_no, w_oi.mT, _BACKWARD, x_ni.dtype)
        return g_x, (g_no.mT @ x_ni).to(w_oi.dtype)


def _multiply(left_nk: Tensor, right_mk: Tensor, kind: torch.dtype, out: torch.dtype) -> Tensor:
    """left @ right.T, ``left`` in ``kind`` and ``right`` in e4m3, [n, m]."""
    left, left_scale = _scaled(left_nk, kind)
    right, right_scale = _scaled(right_mk, _FORWARD)
    product: Tensor = torch._scaled_mm(
        left.contiguous(),
        right.contiguous().mT,
        scale_a=left_scale,
        scale_b=right_scale,
        out_dtype=out,
    )
    return product


def _scaled(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x`` in 8 bits, and the scale that restores it."""
    scale = x.abs().amax().float().clamp_min(1e-12) / torch.finfo(kind).max
    return (x.float() / scale).to(kind), scale
