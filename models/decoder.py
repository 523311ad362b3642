"""The decoder: RMSNorm, rotary positions, grouped-query attention with QK-norm, SwiGLU.

Module names are those of ``Qwen3Model``, so a state dict loads there under a ``model.`` prefix.
Sources: RMSNorm (arXiv:1910.07467), rotary, half-split (2104.09864), grouped-query attention
(2305.13245), QK-norm (2010.04245), SwiGLU (2002.05202).

Shapes in names: b batch, t new positions, s all positions, h heads, k kv heads, d head width,
c model width, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
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
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)
        self.q_norm = RMSNorm(shape.head_width, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_width, shape.norm_eps)

    def forward(
        self,
        x_btc: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        batch, new, _ = x_btc.shape
        width = self.shape.head_width
        q = self.q_norm(self.q_proj(x_btc).view(batch, new, -1, width)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x_btc).view(batch, new, -1, width)).transpose(1, 2)
        v = self.v_proj(x_btc).view(batch, new, -1, width).transpose(1, 2)
        q, k = rotate(q, angles), rotate(k, angles)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None and new > 1, enable_gqa=True
        )
        joined: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, new, -1))
        return joined


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

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

    def forward(
        self,
        x_btc: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        x_btc = x_btc + self.self_attn(self.input_layernorm(x_btc), angles, mask, cache)
        out: Tensor = x_btc + self.mlp(self.post_attention_layernorm(x_btc))
        return out


class Decoder(nn.Module):
    """A causal language model."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
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
            mask: bool, broadcastable to [b, h, t, s], True where a query may look; None is causal
                (only without a cache, or for one new position).
            cache: extended in place by the new positions.
        """
        past = cache.length if cache is not None else 0
        if positions_bt is None:
            steps = torch.arange(past, past + ids_bt.shape[1], device=ids_bt.device)
            positions_bt = steps.expand_as(ids_bt)
        angles = rotary_angles(self.shape, positions_bt)
        x_btc = self.embed_tokens(ids_bt)
        for layer in self.layers:
            x_btc = layer(x_btc, angles, mask, cache)
        if cache is not None:
            cache.length += ids_bt.shape[1]
        out: Tensor = self.norm(x_btc)
        return out

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
