"""Grouped-query attention with rotary positions, its KV cache, and the context of a forward pass.

Sources: grouped-query attention (arXiv:2305.13245; one kv head is multi-query, 1911.02150),
QK-norm (2010.04245), sliding window (2004.05150), soft cap of scores (2408.00118).

Shapes in names: b batch, t new positions, s all positions, h heads, k kv heads, d head width,
c model width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import fused_autograd
from models.attention import block_masks
from models.attention.attention_masks import VisibleKeys
from models.attention.rotary import rotate_halves
from models.layers import Linear, RMSNorm, soft_cap
from models.moe import Routings
from models.shape import DecoderShape


class Cache:
    """KV cache of a batch: one preallocated [b, k, s, d] tensor a layer."""

    def __init__(self, shape: DecoderShape, batch: int, length: int, like: Tensor) -> None:
        size = (batch, shape.kv_heads, length, shape.head_width)
        self.keys = [like.new_zeros(size) for _ in range(shape.layers)]
        self.values = [like.new_zeros(size) for _ in range(shape.layers)]
        self.length = 0

    def extend(self, layer: int, k_bktd: Tensor, v_bktd: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of new positions; returns those of all positions so far.

        Args:
            layer: number of the layer.
            k_bktd: keys.
            v_bktd: values.
        """
        end = self.length + k_bktd.shape[2]
        self.keys[layer][:, :, self.length : end] = k_bktd
        self.values[layer][:, :, self.length : end] = v_bktd
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]


@dataclass(frozen=True)
class AttentionContext:
    """Inputs of the layers that are the same for all layers of one forward pass."""

    angles: tuple[Tensor, Tensor]
    full: VisibleKeys
    """Keys that layers without a window see."""
    near: VisibleKeys
    """Keys that layers with a window see."""
    cache: Cache | None = None
    fast: bool = False
    """True where norms take the fused passes."""
    values_bktd: Tensor | None = None
    """Value embeddings of the new positions."""
    routings: Routings = field(default_factory=Routings)
    """Decisions of the experts' routers, written layer by layer."""


class Attention(nn.Module):
    """Grouped-query attention, with normalised queries and keys where the shape says so."""

    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        self.q_proj = Linear(shape.width, shape.heads * shape.head_width)
        self.k_proj = Linear(shape.width, shape.kv_heads * shape.head_width)
        self.v_proj = Linear(shape.width, shape.kv_heads * shape.head_width)
        self.o_proj = Linear(shape.heads * shape.head_width, shape.width)
        self.q_norm = RMSNorm(shape.head_width, shape.norm_eps) if shape.qk_norm else None
        self.k_norm = RMSNorm(shape.head_width, shape.norm_eps) if shape.qk_norm else None
        if shape.extras.value_embeddings:
            self.value_share = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x_btc: Tensor, context: AttentionContext) -> Tensor:
        heads = (*x_btc.shape[:2], -1, self.shape.head_width)
        q_bthd = self.q_proj(x_btc).view(heads)
        k_btkd = self.k_proj(x_btc).view(heads)
        v_bktd = self.v_proj(x_btc).view(heads).transpose(1, 2)
        if context.values_bktd is not None:
            v_bktd = v_bktd + self.value_share.to(v_bktd.dtype) * context.values_bktd
        seen = context.near if self.shape.windowed(self.layer) else context.full
        if seen.bias is not None:
            mixed_bhtd = self._mix_fused(q_bthd, k_btkd, v_bktd, context.angles, seen.bias)
        else:
            mixed_bhtd = self._mix(q_bthd, k_btkd, v_bktd, context, seen)
        joined: Tensor = self.o_proj(mixed_bhtd.transpose(1, 2).reshape(*x_btc.shape[:2], -1))
        return joined

    def _mix(
        self,
        q_bthd: Tensor,
        k_btkd: Tensor,
        v_bktd: Tensor,
        context: AttentionContext,
        visible: VisibleKeys,
    ) -> Tensor:
        if self.q_norm is not None and self.k_norm is not None:
            q_bthd, k_btkd = self.q_norm(q_bthd), self.k_norm(k_btkd)
        q = rotate_halves(q_bthd.transpose(1, 2), context.angles)
        k = rotate_halves(k_btkd.transpose(1, 2), context.angles)
        v = v_bktd
        if context.cache is not None:
            k, v = context.cache.extend(self.layer, k, v)
            k, v = k[:, :, visible.first :], v[:, :, visible.first :]
        cap = self.shape.extras.attention_cap
        if visible.blocks is not None:
            return block_masks.flex_attend(q, k, v, visible.blocks, cap)
        if cap is not None:
            return capped_attention(q, k, v, visible.mask, cap)
        causal = visible.mask is None and q.shape[2] > 1
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible.mask, is_causal=causal, enable_gqa=True
        )

    def _mix_fused(
        self,
        q_bthd: Tensor,
        k_btkd: Tensor,
        v_bktd: Tensor,
        angles: tuple[Tensor, Tensor],
        bias: Tensor,
    ) -> Tensor:
        cos, sin = (angle.transpose(1, 2) for angle in angles)
        if self.q_norm is not None and self.k_norm is not None:
            q = fused_autograd.fused_norm_rotate(
                q_bthd, self.q_norm.weight, (cos, sin), self.q_norm.eps
            )
            k = fused_autograd.fused_norm_rotate(
                k_btkd, self.k_norm.weight, (cos, sin), self.k_norm.eps
            )
        else:
            q, k = (
                fused_autograd.fused_rotate(q_bthd, (cos, sin)),
                fused_autograd.fused_rotate(k_btkd, (cos, sin)),
            )
        batch, new, _, width = q.shape
        grouped = (batch, new, self.shape.kv_heads, -1, width)
        q_bkgtd = q.view(grouped).permute(0, 2, 3, 1, 4)
        return fused_autograd.fused_attend(q_bkgtd, k.transpose(1, 2), v_bktd, bias).flatten(1, 2)


def capped_attention(
    q_bhtd: Tensor, k_bksd: Tensor, v_bksd: Tensor, mask: Tensor | None, cap: float
) -> Tensor:
    """Softmax attention [b, h, t, d] with soft-capped scores; softmax in float32.

    Args:
        q_bhtd: queries.
        k_bksd: keys.
        v_bksd: values.
        mask: True where a query may look; None is causal.
        cap: bound of the scores.
    """
    group = q_bhtd.shape[1] // k_bksd.shape[1]
    k_bhsd, v_bhsd = (x.repeat_interleave(group, dim=1) for x in (k_bksd, v_bksd))
    scores = soft_cap((q_bhtd @ k_bhsd.mT).float() * q_bhtd.shape[-1] ** -0.5, cap)
    if mask is None and scores.shape[-2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(v_bhsd.dtype) @ v_bhsd
