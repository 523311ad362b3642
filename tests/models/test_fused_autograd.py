"""Hand-written gradients, each against numerical differences and against the plain formula."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models import fused_autograd
from models.attention.rotary import rotate_halves
from models.decoder import RMSNorm


def draw(*size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=torch.float64, generator=generator).requires_grad_()


def test_norm() -> None:
    x, weight = draw(2, 3, 8), draw(8, seed=1)
    torch.testing.assert_close(
        fused_autograd.fused_norm(x, weight, 1e-6), F.rms_norm(x, weight.shape, weight, 1e-6)
    )
    assert torch.autograd.gradcheck(lambda x, w: fused_autograd.fused_norm(x, w, 1e-6), (x, weight))


def test_norm_rotate() -> None:
    x, weight = draw(2, 5, 3, 8), draw(8, seed=1)
    angles = torch.rand(1, 5, 1, 4, dtype=torch.float64)
    turns = angles.cos(), angles.sin()
    layer = RMSNorm(8, 1e-6)
    layer.weight.data = weight.detach().float()
    plain = rotate_halves(layer(x), turns)
    torch.testing.assert_close(
        fused_autograd.fused_norm_rotate(x, weight, turns, 1e-6), plain, rtol=1e-5, atol=1e-6
    )
    assert torch.autograd.gradcheck(
        lambda x, w: fused_autograd.fused_norm_rotate(x, w, turns, 1e-6), (x, weight)
    )


def test_rotate_without_norm() -> None:
    x = draw(2, 5, 3, 8)
    angles = torch.rand(1, 5, 1, 4, dtype=torch.float64)
    turns = 1.3 * angles.cos(), 1.3 * angles.sin()
    torch.testing.assert_close(
        fused_autograd.fused_rotate(x, turns), rotate_halves(x, turns), rtol=1e-5, atol=1e-6
    )
    assert torch.autograd.gradcheck(lambda x: fused_autograd.fused_rotate(x, turns), (x,))


def test_attend() -> None:
    q, k, v = draw(2, 2, 3, 5, 4), draw(2, 2, 5, 4, seed=1), draw(2, 2, 5, 4, seed=2)
    bias = fused_autograd.mask_bias(None, 5, q.detach())
    plain = F.scaled_dot_product_attention(
        q.flatten(1, 2), k, v, is_causal=True, enable_gqa=True
    ).view_as(q)
    torch.testing.assert_close(fused_autograd.fused_attend(q, k, v, bias), plain)
    assert torch.autograd.gradcheck(
        lambda q, k, v: fused_autograd.fused_attend(q, k, v, bias), (q, k, v)
    )


def test_linear_cross_entropy_in_chunks() -> None:
    hidden, weight = draw(7, 4), draw(11, 4, seed=1)
    targets = torch.tensor([0, 3, 10, 5, 5, 2, 1])
    share = torch.tensor([0.1, 0.2, 0.0, 0.5, 0.1, 1.0, 0.3], dtype=torch.float64)
    chunk, fused_autograd.CHUNK_LOGITS = fused_autograd.CHUNK_LOGITS, 22  # two rows at once
    try:
        loss = fused_autograd.linear_cross_entropy(hidden, weight, targets, share)
        plain = (F.cross_entropy(hidden @ weight.T, targets, reduction="none") * share).sum()
        torch.testing.assert_close(loss, plain)
        assert torch.autograd.gradcheck(
            lambda h, w: 2 * fused_autograd.linear_cross_entropy(h, w, targets, share),
            (hidden, weight),
        )
    finally:
        fused_autograd.CHUNK_LOGITS = chunk


def test_a_row_without_share_has_no_gradient() -> None:
    hidden, weight = draw(2, 4), draw(5, 4, seed=1)
    share = torch.tensor([0.0, 1.0], dtype=torch.float64)
    fused_autograd.linear_cross_entropy(hidden, weight, torch.tensor([1, 2]), share).backward()
    assert hidden.grad is not None
    assert hidden.grad[0].abs().max() == 0
    assert hidden.grad[1].abs().max() > 0
