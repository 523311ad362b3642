"""The decoder: RMSNorm, rotary positions, grouped-query attention with QK-norm, SwiGLU.

Module names are those of ``Qwen3Model``, so a state dict loads there under a ``model.`` prefix.
Sources: RMSNorm (arXiv:1910.07467), rotary, half-split (2104.09864), grouped-query attention
(2305.13245), QK-norm (2010.04245), SwiGLU (2002.05202).

Weights are float32; activations take ``Decoder.compute``. In bfloat16 without a
cache the layers take the passes of ``models/fused.py``, which compute the same at less cost.

Shapes in names: b batch, t new positions, s all positions, h heads, k kv heads, d head width,
c model width, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import fused
from models.shape import DecoderShape


class Cache:
    """Keys and values of a batch: one preallocated [b, k, s, d] tensor a layer."""

    def __init__(self, shape: DecoderShape, batch: int, length: int, like: Tensor) -> None:
        size = (batch, shape.kv_heads, length, shape.head_width)
        self.keys = [like.new_zeros(size) for _ in range(shape.layers)]
        self.values = [like.new_zeros(size) for _ in range(shape.layers)]
        self.length = 0

    def extend(self, layer: int, k_bktd: Tensor, v_bktd: Tensor) -> tuple[Tensor, Tensor]:
        """Write new positions behind ``length``; all positions so far come back."""
        end = self.length + k_bktd.shape[2]
        self.keys[layer][:, :, self.length : end] = k_bktd
        self.values[layer][:, :, self.length : end] = v_bktd
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]


@dataclass(frozen=True)
class Context:
    """What every layer of one forward pass shares."""

    angles: tuple[Tensor, Tensor]
    mask: Tensor | None
    cache: Cache | None
    bias: Tensor | None
    """The mask as what is added to scores, where the fused passes are taken; else None."""


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
            return fused.norm(x, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def rotary_angles(shape: DecoderShape, positions_bt: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, each [b, 1, t, d/2], float32."""
    half = shape.head_width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=positions_bt.device) / half
    frequencies = shape.rope_base**-exponents
    angles = positions_bt[:, None, :, None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x_bhtd: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the halves of each head against each other (half-split layout)."""
    cos, sin = angles
    left, right = x_bhtd.float().chunk(2, dim=-1)
    turned = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
    return turned.to(x_bhtd.dtype)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        self.q_proj = Linear(shape.width, shape.heads * shape.head_width)
        self.k_proj = Linear(shape.width, shape.kv_heads * shape.head_width)
        self.v_proj = Linear(shape.width, shape.kv_heads * shape.head_width)
        self.o_proj = Linear(shape.heads * shape.head_width, shape.width)
        self.q_norm = RMSNorm(shape.head_width, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_width, shape.norm_eps)

    def forward(self, x_btc: Tensor, context: Context) -> Tensor:
        heads = (*x_btc.shape[:2], -1, self.shape.head_width)
        q_bthd = self.q_proj(x_btc).view(heads)
        k_btkd = self.k_proj(x_btc).view(heads)
        v_bktd = self.v_proj(x_btc).view(heads).transpose(1, 2)
        mix = self._mix if context.bias is None else self._mix_fused
        mixed_bhtd = mix(q_bthd, k_btkd, v_bktd, context)
        joined: Tensor = self.o_proj(mixed_bhtd.transpose(1, 2).reshape(*x_btc.shape[:2], -1))
        return joined

    def _mix(self, q_bthd: Tensor, k_btkd: Tensor, v_bktd: Tensor, context: Context) -> Tensor:
        q = rotate(self.q_norm(q_bthd).transpose(1, 2), context.angles)
        k = rotate(self.k_norm(k_btkd).transpose(1, 2), context.angles)
        v = v_bktd
        if context.cache is not None:
            k, v = context.cache.extend(self.layer, k, v)
        causal = context.mask is None and q.shape[2] > 1
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=context.mask, is_causal=causal, enable_gqa=True
        )

    def _mix_fused(
        self, q_bthd: Tensor, k_btkd: Tensor, v_bktd: Tensor, context: Context
    ) -> Tensor:
        assert context.bias is not None
        cos, sin = (angle.transpose(1, 2) for angle in context.angles)
        q = fused.norm_rotate(q_bthd, self.q_norm.weight, (cos, sin), self.q_norm.eps)
        k = fused.norm_rotate(k_btkd, self.k_norm.weight, (cos, sin), self.k_norm.eps)
        batch, new, _, width = q.shape
        grouped = (batch, new, self.shape.kv_heads, -1, width)
        q_bkgtd = q.view(grouped).permute(0, 2, 3, 1, 4)
        return fused.attend(q_bkgtd, k.transpose(1, 2), v_bktd, context.bias).flatten(1, 2)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.hidden)
        self.up_proj = Linear(shape.width, shape.hidden)
        self.down_proj = Linear(shape.hidden, shape.width)

    def forward(self, x_btc: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_btc)) * self.up_proj(x_btc))
        return out


class Layer(nn.Module):
    """Pre-norm attention, then pre-norm MLP, each added to the residual stream."""

    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x_btc: Tensor, context: Context) -> Tensor:
        fast = context.bias is not None
        x_btc = x_btc + self.self_attn(self.input_layernorm(x_btc, fast), context)
        out: Tensor = x_btc + self.mlp(self.post_attention_layernorm(x_btc, fast))
        return out


class Decoder(nn.Module):
    """A causal language model.

    ``compute`` is the dtype of activations: float32, or bfloat16 for training and sampling.
    """

    compute: torch.dtype = torch.float32

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.lm_head = Linear(shape.width, shape.vocabulary)
        if shape.tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Normal(0, 0.02); layers that write to the residual stream scaled by 1/sqrt(2 layers)."""
        if isinstance(module, nn.Embedding | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Attention):
            nn.init.normal_(module.o_proj.weight, std=0.02 * (2 * self.shape.layers) ** -0.5)
        elif isinstance(module, MLP):
            nn.init.normal_(module.down_proj.weight, std=0.02 * (2 * self.shape.layers) ** -0.5)

    def hidden(
        self,
        ids_bt: Tensor,
        *,
        positions_bt: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Final hidden states [b, t, c].

        Args:
            ids_bt: token ids.
            positions_bt: rotary positions; 0, 1, 2 ... behind the cache's length by default.
            mask: bool, [b or 1, 1, t, s], True where a query may look; None is causal
                (only without a cache, or for one new position).
            cache: extended in place by the new positions.
        """
        past = cache.length if cache is not None else 0
        if positions_bt is None:
            steps = torch.arange(past, past + ids_bt.shape[1], device=ids_bt.device)
            positions_bt = steps.expand_as(ids_bt)
        x_btc = self.embed_tokens(ids_bt).to(self.compute)
        fast = x_btc.dtype == torch.bfloat16 and cache is None
        bias = fused.mask_bias(mask, ids_bt.shape[1], x_btc) if fast else None
        context = Context(rotary_angles(self.shape, positions_bt), mask, cache, bias)
        for layer in self.layers:
            x_btc = layer(x_btc, context)
        if cache is not None:
            cache.length += ids_bt.shape[1]
        out: Tensor = self.norm(x_btc, fast)
        return out

    def loss(self, hidden_btc: Tensor, targets_bt: Tensor, share_bt: Tensor) -> Tensor:
        """sum(share * -log p(target)), never holding all logits; ``share`` 0 leaves a target out.

        float32 hidden states give the plain, exact cross entropy.
        """
        if hidden_btc.dtype == torch.float32:
            logits = self.logits(hidden_btc).flatten(0, 1)
            losses = F.cross_entropy(logits, targets_bt.flatten(), reduction="none")
            return (losses * share_bt.flatten()).sum()
        return fused.linear_cross_entropy(
            hidden_btc.flatten(0, 1), self.lm_head.weight, targets_bt.flatten(), share_bt.flatten()
        )

    def logits(self, hidden_btc: Tensor) -> Tensor:
        """Logits [b, t, v] of hidden states."""
        out: Tensor = self.lm_head(hidden_btc)
        return out

    def forward(self, ids_bt: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [b, t, v] of whole sequences, causal."""
        return self.logits(self.hidden(ids_bt, mask=mask))


def document_mask(documents_bt: Tensor) -> Tensor:
    """[b, 1, t, t]: causal, and only within one document of a packed sequence."""
    same = documents_bt[:, None, :, None] == documents_bt[:, None, None, :]
    length = documents_bt.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents_bt.device).tril()
    return same & causal
