"""Linear layers with frozen weights in four bits (NF4), dequantized for each product.

NF4 with double quantisation (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): a weight is one of 16
quantiles of a normal distribution times the largest magnitude of its block of 64; the blocks'
scales, less their mean, are 8-bit floats times a float32 for each 256 of them. That is 4.127 bits
a weight.

Shapes in names: n values, b blocks, s blocks of scales, o outputs, i inputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.decoder import Linear

NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The published code book (appendix E of the paper)."""
BLOCK, SCALES = 64, 256
"""Weights that share a scale, and scales that share a float32, as in the paper."""
_LARGEST_FP8 = 448.0
"""Largest finite value of float8_e4m3fn."""


@functools.cache
def _code_book(device: torch.device) -> tuple[Tensor, Tensor]:
    """(bounds between neighbouring codes [15], values of both codes of a byte [256, 2])."""
    values = torch.tensor(NF4, device=device)
    byte = torch.arange(256, device=device)
    pairs = torch.stack((values[byte >> 4], values[byte & 15]), 1)
    return (values[1:] + values[:-1]) / 2, pairs


@dataclass(frozen=True)
class Nf4Values:
    """Tensor in NF4: codes and doubly quantized scales."""

    codes: Tensor
    """uint8 [b * 32]: two codes a byte, the first in the high half."""
    scales_b: Tensor
    """float8_e4m3fn."""
    steps_s: Tensor
    """float32: factor on each block of scales."""
    mean: Tensor
    """float32: mean of the scales, added to each."""

    @property
    def widened_b(self) -> Tensor:
        """The blocks' scales, float32."""
        steps_b = self.steps_s.repeat_interleave(SCALES)[: len(self.scales_b)]
        return self.scales_b.float() * steps_b + self.mean


def quantize_nf4(values: Tensor) -> Nf4Values:
    """Quantize a tensor to NF4; an incomplete last block is padded with zeros.

    Each code is the nearest under the scale as it will be read, its rounding included.
    """
    flat = values.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    largest_b = blocks.abs().amax(1)
    mean = largest_b.mean()
    centred = F.pad(largest_b - mean, (0, -len(largest_b) % SCALES)).view(-1, SCALES)
    steps_s = (centred.abs().amax(1) / _LARGEST_FP8).clamp_min(torch.finfo(torch.float32).tiny)
    scales = (centred / steps_s[:, None]).clamp(-_LARGEST_FP8, _LARGEST_FP8)
    scales_b = scales.to(torch.float8_e4m3fn).flatten()[: len(largest_b)]
    empty = Nf4Values(torch.empty(0), scales_b, steps_s, mean)
    widened_b1 = empty.widened_b[:, None]
    shares = torch.where(widened_b1 == 0, 0.0, blocks / widened_b1)
    codes = (
        torch.bucketize(shares.contiguous(), _code_book(values.device)[0]).to(torch.uint8).flatten()
    )
    return Nf4Values(codes[0::2] << 4 | codes[1::2], scales_b, steps_s, mean)


def dequantize_nf4(packed: Nf4Values, shape: torch.Size) -> Tensor:
    """Dequantize to float32."""
    pairs = _code_book(packed.codes.device)[1][packed.codes.int()]
    values = pairs.view(-1, BLOCK) * packed.widened_b[:, None]
    return values.flatten()[: math.prod(shape)].view(shape)


class Nf4Linear(nn.Module):
    """Linear layer with a frozen weight in four bits; gradients flow to its input."""

    codes: Tensor
    scales: Tensor
    steps: Tensor
    mean: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed = quantize_nf4(layer.weight)
        self.register_buffer("codes", packed.codes)
        self.register_buffer("scales", packed.scales_b)
        self.register_buffer("steps", packed.steps_s)
        self.register_buffer("mean", packed.mean)
        bias: Tensor | None = layer.bias
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """Dequantized weight, float32 [o, i], computed anew at each call."""
        packed = Nf4Values(self.codes, self.scales, self.steps, self.mean)
        return dequantize_nf4(packed, torch.Size((self.out_features, self.in_features)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(x.dtype)

    def dense(self) -> nn.Linear:
        """A plain float32 layer with the dequantized weight."""
        with torch.device("meta"):
            if self.bias is None:
                layer: nn.Linear = Linear(self.in_features, self.out_features)
            else:
                layer = nn.Linear(self.in_features, self.out_features)
                layer.bias = nn.Parameter(self.bias.clone())
        layer.weight = nn.Parameter(self.weight)
        return layer


class _Product(torch.autograd.Function):
    """x @ weight.T that dequantizes the weight again for the gradient instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Nf4Linear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g @ ctx.layer.weight.to(g.dtype), None


def quantize_linears(model: nn.Module, leave: Collection[str] = ("lm_head",)) -> list[str]:
    """Quantize all linear layers except those in ``leave``, in place; returns their names."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name not in leave
    }
    for name, layer in layers.items():
        model.set_submodule(name, Nf4Linear(layer))
    return list(layers)


def widen_linears(model: nn.Module) -> None:
    """Replace every layer in four bits by a plain float32 layer of the same values."""
    names = [name for name, module in model.named_modules() if isinstance(module, Nf4Linear)]
    for name in names:
        module = model.get_submodule(name)
        assert isinstance(module, Nf4Linear)
        model.set_submodule(name, module.dense())
