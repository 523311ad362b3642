"""Muon's updates are orthogonal, each parameter has its group, the state comes back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.core.errors import DataError
from components.train.trainer.optimizer import Optimiser, orthogonalise
from components.train.training_config import OptimConfig
from models.decoder import Decoder
from models.scalar_head import ScalarHead
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=50, width=16, layers=2, heads=2, kv_heads=1, head_width=8, hidden=24
)


def some_model() -> Decoder:
    torch.manual_seed(0)
    return Decoder(SHAPE)


def learn(model: Decoder, optimiser: Optimiser, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randint(0, 50, (2, 9), generator=generator)
        nn.functional.cross_entropy(
            model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
        ).backward()
        optimiser.step(1.0)
        optimiser.zero_grad()


@pytest.mark.parametrize("size", [(3, 24, 16), (2, 16, 24), (1, 16, 16)])
def test_singular_values_come_near_one(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(size) * 1e-3).float())
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_zero_gradient_gives_no_update() -> None:
    assert orthogonalise(torch.zeros(1, 4, 4)).abs().max() == 0


def test_matrices_of_the_layers_alone_take_muon() -> None:
    model = nn.ModuleDict({"decoder": some_model(), "head": ScalarHead(16)})
    optimiser = Optimiser(model, OptimConfig())
    muon = {name for name in optimiser.tensors() if name.startswith("muon/")}
    assert len(muon) == 7 * SHAPE.layers
    assert not any(word in name for name in muon for word in ("embed", "norm", "head.out"))


def test_adamw_alone_equals_torch() -> None:
    ours, theirs = some_model(), some_model()
    config = OptimConfig(kind="adamw", adam_lr=0.01, embedding_lr=0.01, weight_decay=0.0)
    learn(ours, Optimiser(ours, config), 3)
    reference = torch.optim.AdamW(
        theirs.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        ids = torch.randint(0, 50, (2, 9), generator=generator)
        logits = theirs(ids[:, :-1]).flatten(0, 1)
        nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
        reference.step()
        reference.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_every_matrix_moves_as_far_as_its_rate_says() -> None:
    model = some_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learn(model, Optimiser(model, OptimConfig(muon_lr=0.1)), 1)
    moved = model.layers[0].mlp.down_proj.weight - before["layers.0.mlp.down_proj.weight"]  # type: ignore[union-attr]
    assert 0.06 < torch.linalg.matrix_norm(moved.detach(), 2) < 0.13


def test_frozen_parameters_stay() -> None:
    model = some_model()
    model.embed_tokens.weight.requires_grad_(False)
    before = model.embed_tokens.weight.clone()
    learn(model, Optimiser(model, OptimConfig()), 1)
    assert torch.equal(model.embed_tokens.weight, before)


def test_the_state_comes_back() -> None:
    one, two = some_model(), some_model()
    first, second = Optimiser(one, OptimConfig()), Optimiser(two, OptimConfig())
    learn(one, first, 2)
    two.load_state_dict(one.state_dict())
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()})
    learn(one, first, 2, seed=1)
    learn(two, second, 2, seed=1)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_another_model_is_refused() -> None:
    small = some_model()
    optimiser = Optimiser(small, OptimConfig())
    learn(small, optimiser, 1)
    large = Decoder(DecoderShape(**{**SHAPE.__dict__, "width": 32}))
    with pytest.raises(DataError, match="another model"):
        Optimiser(large, OptimConfig()).load(optimiser.tensors())
