"""Fused autograd functions for the parts of a training step that eager torch is slow at on a CPU.

Each function computes what the plain layers compute, in the dtype it is given, with fewer passes
over memory; on two cores this doubles the rate of training. Inference and export do not use them.

Shapes in names: b batch, t positions, h heads, k kv heads, g query heads a kv head, d head width,
c model width, v vocabulary, n rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 4 * 1024 * 1024
"""Logits held at once by ``linear_cross_entropy``: 8 MB in bfloat16, which fit a CPU's cache."""
_GPU_CHUNK_LOGITS = 256 * 1024 * 1024
"""The same on a GPU, whose matmuls want thousands of rows: half a gigabyte."""


def _sum_dtype(x: Tensor) -> torch.dtype:
    """Dtype for sums over ``x``: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / rms over the last dimension, [..., 1], accumulated in float32 at least."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_sum_dtype(x))
    inverse: Tensor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
    return inverse


def _norm_backward(g: Tensor, normed: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of x for normed = x * inverse, given the gradient ``g`` of ``normed``."""
    along = (g * normed).mean(-1, keepdim=True)
    return torch.addcmul(g, normed, along, value=-1).mul_(inverse)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse_rms(x, eps)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        rows = tuple(range(g.ndim - 1))
        g_weight = (g * normed).sum(rows, dtype=_sum_dtype(g))
        return _norm_backward(g * weight.to(g.dtype), normed, inverse), g_weight, None


def fused_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of the last dimension.

    Args:
        x: input of any shape.
        weight: weight of the last dimension.
        eps: added to the mean square.
    """
    out: Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_bthd: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float
    ) -> Tensor:
        inverse = _inverse_rms(x_bthd, eps)
        normed = x_bthd * inverse
        swapped = normed.roll(x_bthd.shape[-1] // 2, -1)
        cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        direct = (cos * weight).to(x_bthd.dtype)
        crossed = (sin * weight.roll(len(weight) // 2)).to(x_bthd.dtype)
        ctx.save_for_backward(normed, inverse, direct, crossed, cos, sin)
        return torch.addcmul(normed * direct, swapped, crossed)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        normed, inverse, direct, crossed, cos, sin = ctx.saved_tensors
        half = g.shape[-1] // 2
        swapped = normed.roll(half, -1)
        g_direct = ((g * normed).sum(2, keepdim=True, dtype=_sum_dtype(g)) * cos).sum((0, 1, 2))
        g_crossed = ((g * swapped).sum(2, keepdim=True, dtype=_sum_dtype(g)) * sin).sum((0, 1, 2))
        g_normed = (g * crossed).roll(half, -1).addcmul_(g, direct)
        g_weight = g_direct + g_crossed.roll(half)
        return _norm_backward(g_normed, normed, inverse), g_weight, None, None, None


def fused_norm_rotate(
    x_bthd: Tensor, weight: Tensor, angles_bt1d: tuple[Tensor, Tensor], eps: float
) -> Tensor:
    """RMSNorm of each head, then rotary positions.

    Args:
        x_bthd: queries or keys.
        weight: weight of the norm, [d].
        angles_bt1d: cos and sin, each [b or 1, t, 1, d/2].
        eps: added to the mean square.
    """
    cos, sin = angles_bt1d
    out: Tensor = _NormRotate.apply(  # type: ignore[no-untyped-call]
        x_bthd, weight, cos, sin, eps
    )
    return out


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_bthd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        direct = torch.cat((cos, cos), -1).to(x_bthd.dtype)
        crossed = torch.cat((-sin, sin), -1).to(x_bthd.dtype)
        ctx.save_for_backward(direct, crossed)
        return torch.addcmul(x_bthd * direct, x_bthd.roll(x_bthd.shape[-1] // 2, -1), crossed)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        direct, crossed = ctx.saved_tensors
        return (g * crossed).roll(g.shape[-1] // 2, -1).addcmul_(g, direct), None, None


def fused_rotate(x_bthd: Tensor, angles_bt1d: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (cos and sin, each [b or 1, t, 1, d/2]) of heads that are not normalised."""
    out: Tensor = _Rotate.apply(x_bthd, *angles_bt1d)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scale = q.shape[-1] ** -0.5
        batch, kv_heads, group, length, width = q.shape
        q, k, v = q.flatten(2, 3).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        scores = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=scale)
        scores.view(batch, kv_heads, group, length, length).add_(bias)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.size = scale, (batch, kv_heads, group, length, width)
        return torch.bmm(weights, v).view(ctx.size)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        batch, kv_heads, group, length, width = ctx.size
        g = g.reshape(batch * kv_heads, group * length, width)
        g_v = torch.bmm(weights.mT, g)
        g_weights = torch.bmm(g, v.mT)
        g_scores = torch._softmax_backward_data(g_weights, weights, -1, weights.dtype)
        empty = q.new_empty(())
        g_q = torch.baddbmm(empty, g_scores, k, beta=0, alpha=ctx.scale)
        g_k = torch.baddbmm(empty, g_scores.mT, q, beta=0, alpha=ctx.scale)
        heads = (batch, kv_heads, length, width)
        return g_q.view(ctx.size), g_k.view(heads), g_v.view(heads), None


def fused_attend(q_bkgtd: Tensor, k_bktd: Tensor, v_bktd: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention [b, k, g, t, d].

    The attention weights are kept for the gradient: meant for sequences of some hundred positions.

    Args:
        q_bkgtd: queries.
        k_bktd: keys.
        v_bktd: values.
        bias: the mask in additive form, broadcast to [b, k, g, t, t].
    """
    out: Tensor = _Attend.apply(q_bkgtd, k_bktd, v_bktd, bias)  # type: ignore[no-untyped-call]
    return out


def mask_bias(mask: Tensor | None, length: int, like: Tensor) -> Tensor:
    """Additive form [b or 1, 1, 1, t, t] of a bool mask.

    Args:
        mask: [b, 1, t, t]; None is causal.
        length: t.
        like: a tensor of the scores' dtype and device.
    """
    if mask is None:
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=like.device).tril()
    bias = like.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(like.dtype).min / 2)
    return bias[:, :, None]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, share: Tensor) -> Tensor:
        table = weight.to(hidden.dtype)
        rows = max(1, (_GPU_CHUNK_LOGITS if hidden.is_cuda else CHUNK_LOGITS) // len(table))
        g_hidden, g_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        loss = torch.zeros((), dtype=_sum_dtype(hidden), device=hidden.device)
        for start in range(0, len(hidden), rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            weights = share[start : start + rows, None]
            odds = torch.softmax(part @ table.T, -1)
            loss -= (odds.gather(1, wanted).to(loss.dtype).clamp_min(1e-38).log() * weights).sum()
            g_logits = odds.mul_(weights.to(odds.dtype))
            g_logits[torch.arange(len(part), device=part.device), wanted[:, 0]] -= weights[:, 0].to(
                odds.dtype
            )
            torch.mm(g_logits, table, out=g_hidden[start : start + rows])
            g_weight += g_logits.T @ part
        ctx.save_for_backward(g_hidden, g_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g_hidden, g_weight = ctx.saved_tensors
        return g_hidden * g.to(g_hidden.dtype), g_weight * g, None, None


def linear_cross_entropy(
    hidden_nc: Tensor, weight_vc: Tensor, targets_n: Tensor, share_n: Tensor
) -> Tensor:
    """sum(share * -log softmax(hidden @ weight.T)[target]), without ever holding all logits.

    The gradient is computed in the forward pass, chunk by chunk (as in Liger, arXiv:2410.10989).

    Args:
        hidden_nc: final hidden states.
        weight_vc: weight of the head.
        targets_n: the next token of each row.
        share_n: each row's weight in the sum, 0 for rows without a target.
    """
    apply = _LinearCrossEntropy.apply
    out: Tensor = apply(hidden_nc, weight_vc, targets_n, share_n)  # type: ignore[no-untyped-call]
    return out
