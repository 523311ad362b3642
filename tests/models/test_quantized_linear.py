"""Four-bit layers: the code book, its published error and size, and what the gradient keeps."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.decoder import Linear
from models.quantized_linear import (
    BLOCK,
    NF4,
    Nf4Linear,
    dequantize_nf4,
    quantize_linears,
    quantize_nf4,
    widen_linears,
)

OFFSET = 0.9677083
"""The outermost quantile of the published code book."""


def normal(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


def quantiles(count: int) -> list[float]:
    """The quantiles of one half, without the middle."""
    probabilities = torch.linspace(OFFSET, 0.5, count + 1, dtype=torch.float64)[:-1].tolist()
    return [NormalDist().inv_cdf(p) for p in probabilities]


def test_the_code_book_is_made_of_normal_quantiles() -> None:
    values = sorted([*quantiles(8), 0.0, *(-q for q in quantiles(7))])
    expected = [value / max(values) for value in values]
    # The paper's book has eight values above zero and, but for their signs, one fewer below.
    assert pytest.approx(expected, abs=2e-7) == NF4


def test_the_error_on_normal_weights_is_the_published_one() -> None:
    values = normal(1024, 1024)
    error = (dequantize_nf4(quantize_nf4(values), values.shape) - values).abs()
    # bitsandbytes' own tests expect 0.0728 with exact scales; theirs, rounded, cost next to nothing.
    assert float(error.mean()) == pytest.approx(0.0728, abs=0.0015)


def test_every_code_is_the_nearest_under_the_scale_that_is_read() -> None:
    values = normal(40, 100)
    packed = quantize_nf4(values)
    found = dequantize_nf4(packed, values.shape)
    scales = packed.widened_b.repeat_interleave(BLOCK)[: values.numel()].view_as(values)
    choices = torch.tensor(NF4) * scales[..., None]
    best = (choices - values[..., None]).abs().amin(-1)
    torch.testing.assert_close((found - values).abs(), best, rtol=1e-5, atol=1e-6)


def test_a_weight_takes_four_bits_and_an_eighth() -> None:
    layer = Nf4Linear(Linear(1024, 4096))
    held = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
    assert 8 * held / (1024 * 4096) == pytest.approx(4.127, abs=0.001)
    assert not list(layer.parameters())


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 1), (130, 129)])
def test_any_size_comes_back_in_its_shape(size: tuple[int, int]) -> None:
    values = normal(*size)
    found = dequantize_nf4(quantize_nf4(values), values.shape)
    assert found.shape == values.shape
    assert float((found - values).abs().max()) < 0.2 * float(values.abs().max())


def test_zeros_and_blocks_of_very_different_size_stay_finite() -> None:
    values = torch.zeros(6, BLOCK)
    assert torch.equal(dequantize_nf4(quantize_nf4(values), values.shape), values)
    values[0], values[1], values[2, 0] = 1e4, 1e-6, -3.0
    found = dequantize_nf4(quantize_nf4(values), values.shape)
    assert torch.isfinite(found).all()
    assert torch.equal(found[3:], values[3:])
    assert found[0].mean() == pytest.approx(1e4, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_it_computes_and_differentiates_as_its_dense_layer(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Nf4Linear(nn.Linear(48, 80) if bias else Linear(48, 80))
    dense = layer.dense()
    x, y = (normal(3, 48).to(dtype).requires_grad_() for _ in range(2))
    out = layer(x)
    plain = F.linear(y, dense.weight.to(dtype), dense.bias.to(dtype) if bias else None)
    torch.testing.assert_close(out, plain)
    g = normal(3, 80).to(dtype)
    torch.testing.assert_close(*torch.autograd.grad(out, x, g), *torch.autograd.grad(plain, y, g))


def test_no_widened_weight_is_kept_for_the_gradient() -> None:
    layer = Nf4Linear(Linear(48, 80))
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    x = normal(3, 48).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x).sum().backward()
    assert 80 * 48 not in kept
    assert x.grad is not None


def test_a_model_is_quantized_but_for_its_head_and_widened_again() -> None:
    model = nn.ModuleDict({"inner": Linear(64, 64), "lm_head": Linear(64, 8)})
    assert quantize_linears(model) == ["inner"]
    held = model["inner"].weight
    widen_linears(model)
    assert type(model["inner"]) is Linear
    assert torch.equal(model["inner"].weight, held)
