"""Loss and gradients do not change with micro-batch, accumulation or ranks: equal to 1e-6."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from components.text.token_arrays import open_split
from components.train.data.best_fit_packing import BestFitPacking
from components.train.data.data_order import BatchOrder, TokenBlocks
from components.train.data.micro_batch import MicroBatch, split_micro_batches
from models.decoder import Decoder
from tests.train.conftest import NANO, sealed_tokens

POSITIONS, ROWS = 128, 8


@pytest.fixture
def blocks(store: Path) -> TokenBlocks:
    """Packed documents: rows of several, and one batch with rows that are mostly empty."""
    split = open_split(store / sealed_tokens(store, 40).name, "train")
    source = BestFitPacking(split, sequence_length=POSITIONS, seed=0, digest="ab" * 32)
    order = BatchOrder(source, ROWS)
    found = next(
        batch
        for batch in map(order.batch, range(50))
        if batch.real is not None and batch.real.sum(1).min() < 0.75 * POSITIONS
    )
    assert len(set(found.real.sum(1).tolist())) > 1
    return found


def gradients(shares: list[list[MicroBatch]], mean_of_means: bool = False) -> tuple[float, Tensor]:
    """(loss, all gradients in a row), summed over the ranks' micro-batches."""
    torch.manual_seed(0)
    model = Decoder(NANO)
    targets = float(sum(micro.count for share in shares for micro in share))
    parts = sum(len(share) for share in shares)
    total = 0.0
    for micro in (micro for share in shares for micro in share):
        hidden = model.hidden(micro.inputs, mask=micro.mask, documents_bt=micro.documents)
        over = micro.count * parts if mean_of_means else targets
        loss = model.loss(hidden, micro.targets, micro.target_weights(over))
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [128, 256, 400, 4096])
def test_any_split_gives_the_whole_batch(blocks: TokenBlocks, world: int, micro: int) -> None:
    loss, gradient = gradients([split_micro_batches(blocks, 1 << 20)])
    size = ROWS // world
    shares = [
        split_micro_batches(blocks.take_blocks(r * size, (r + 1) * size), micro)
        for r in range(world)
    ]
    split_loss, split_gradient = gradients(shares)
    assert split_loss == pytest.approx(loss, abs=1e-6)
    assert float((split_gradient - gradient).abs().max()) < 1e-6


def test_numbers_of_documents_do_as_masks_do(blocks: TokenBlocks) -> None:
    loss, gradient = gradients([split_micro_batches(blocks, 256)])
    numbered = split_micro_batches(blocks, 256, masks=False)
    assert any(micro.documents is not None for micro in numbered)
    assert all(micro.mask is None for micro in numbered)
    other_loss, other = gradients([numbered])
    assert other_loss == pytest.approx(loss, abs=1e-6)
    assert float((other - gradient).abs().max()) < 1e-6


def test_a_mean_of_means_would_be_seen(blocks: TokenBlocks) -> None:
    """The fault that this guards against is larger than what is allowed by far."""
    loss, gradient = gradients([split_micro_batches(blocks, 1 << 20)])
    wrong_loss, wrong = gradients([split_micro_batches(blocks, 128)], mean_of_means=True)
    assert abs(wrong_loss - loss) > 1e-4
    assert float((wrong - gradient).abs().max()) > 1e-4


def test_short_blocks_without_a_target_change_nothing(blocks: TokenBlocks) -> None:
    """The first phase cuts blocks finer; pieces of padding alone are left out."""
    short = blocks.split_blocks(POSITIONS // 4)
    one, many = split_micro_batches(short, 1 << 20), split_micro_batches(short, 32)
    assert len(many) < len(short.inputs)
    loss, gradient = gradients([one])
    split_loss, split_gradient = gradients([many])
    assert split_loss == pytest.approx(loss, abs=1e-6)
    assert float((split_gradient - gradient).abs().max()) < 1e-6


def test_what_only_fills_up_is_not_learnt_from(blocks: TokenBlocks) -> None:
    """Other tokens there change neither loss nor gradient, and the weights sum to 1."""
    assert blocks.real is not None
    filled = dataclasses.replace(blocks, targets=np.where(blocks.real, blocks.targets, 17))
    assert not np.array_equal(filled.targets, blocks.targets)
    loss, gradient = gradients([split_micro_batches(blocks, 256)])
    other_loss, other = gradients([split_micro_batches(filled, 256)])
    assert loss == other_loss
    assert torch.equal(gradient, other)
    (whole,) = split_micro_batches(blocks, 1 << 20)
    assert float(whole.target_weights(whole.count).double().sum()) == pytest.approx(1.0, abs=1e-6)
