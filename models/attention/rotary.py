"""Rotary positions, half-split (arXiv:2104.09864), and their scaling for long contexts.

``linear`` arXiv:2306.15595, ``yarn`` 2309.00071 (sections 3.2 and 3.4), ``llama3`` 2407.21783.
Frequencies are computed in the order of operations of transformers, so that both agree to the
last bit even where a position of tens of thousands multiplies a rounding.

Shapes in names: b batch, t positions, h heads, d head width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.shape import DecoderShape, RopeScaling

_GOLDEN_CONTEXT = 512
"""Contexts up to which a plain decoder keeps the rounding of frequencies of its golden losses.

Measured against transformers on random weights with QK-norm, it costs 8e-11 nats of KL at 512
positions, 1e-8 at 8,192 and 4e-6 at 131,072; the rounding of transformers itself costs 0.
"""


def rotary_frequencies(shape: DecoderShape, device: torch.device) -> tuple[Tensor, float]:
    """(radians a position [d/2], float32; the factor of cos and sin)."""
    width, rope = shape.head_width, shape.rope
    half = width // 2
    plain_kind = rope.kind == "none" and shape.qk_norm and shape.experts is None
    if plain_kind and shape.context <= _GOLDEN_CONTEXT:
        exponents = torch.arange(half, dtype=torch.float32, device=device) / half
        return shape.rope_base**-exponents, 1.0
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    periods = shape.rope_base**steps
    if rope.kind == "yarn":
        return _yarn(periods, shape), _attention_factor(rope)
    plain = 1.0 / periods
    if rope.kind == "linear":
        return plain / rope.factor, 1.0
    return (_llama3(plain, rope) if rope.kind == "llama3" else plain), 1.0


def _attention_factor(rope: RopeScaling) -> float:
    if rope.attention is not None:
        return rope.attention
    return 0.1 * math.log(rope.factor) + 1.0


def _yarn(periods: Tensor, shape: DecoderShape) -> Tensor:
    """Keep frequencies that turn often within ``original``, divide slow ones by the factor."""
    width, rope = shape.head_width, shape.rope

    def place(turns: float) -> float:
        """Dimension whose frequency makes ``turns`` turns within the original context."""
        ratio = rope.original / (turns * 2 * math.pi)
        return width * math.log(ratio) / (2 * math.log(shape.rope_base))

    low = max(math.floor(place(rope.fast)), 0)
    high: float = min(math.ceil(place(rope.slow)), width - 1)
    if low == high:
        high += 0.001
    places = torch.arange(width // 2, dtype=torch.float32, device=periods.device)
    kept_share = 1 - ((places - low) / (high - low)).clamp(0, 1)
    return 1.0 / (rope.factor * periods) * (1 - kept_share) + 1.0 / periods * kept_share


def _llama3(plain: Tensor, rope: RopeScaling) -> Tensor:
    """Stretch wavelengths above original/low, keep those below original/high, mix between."""
    waves = 2 * math.pi / plain
    stretched = torch.where(waves > rope.original / rope.low, plain / rope.factor, plain)
    share = (rope.original / waves - rope.low) / (rope.high - rope.low)
    mixed = (1 - share) * stretched / rope.factor + share * stretched
    between = (waves >= rope.original / rope.high) & (waves <= rope.original / rope.low)
    return torch.where(between, mixed, stretched)


def rotary_angles(shape: DecoderShape, positions_bt: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, each [b, 1, t, d/2], float32."""
    turns, factor = rotary_frequencies(shape, positions_bt.device)
    angles = positions_bt[:, None, :, None].float() * turns
    if factor == 1.0:
        return angles.cos(), angles.sin()
    return angles.cos() * factor, angles.sin() * factor


def rotate_halves(x_bhtd: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary angles to the two halves of each head (half-split layout)."""
    cos, sin = angles
    left, right = x_bhtd.float().chunk(2, dim=-1)
    turned = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
    return turned.to(x_bhtd.dtype)
