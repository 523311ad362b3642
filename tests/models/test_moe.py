"""The mixture of experts against a loop over tokens, its balance, and its counts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from models.decoder import Decoder
from models.layers import apply_activation
from models.moe import MoE, Router, grouped_linear
from models.shape import DecoderShape, ExpertsShape
from tests.models.variants import EXPERTS, SHAPE, VARIANTS, random_decoder, some_ids

MIXTURES = [name for name, shape in VARIANTS.items() if shape.experts is not None]
BIAS = replace(SHAPE, mode="research", experts=replace(EXPERTS, balance="bias"))


def mixture(shape: DecoderShape) -> MoE:
    torch.manual_seed(3)
    assert shape.experts is not None
    made = MoE(shape, shape.experts)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def by_hand(moe: MoE, shape: DecoderShape, x_c: torch.Tensor) -> torch.Tensor:
    """One token through its experts, one after the other."""
    experts = shape.experts
    assert experts is not None
    scores = moe.gate.weight @ x_c
    if experts.router_cap is not None:
        scores = experts.router_cap * (scores / experts.router_cap).tanh()
    odds = scores.softmax(0)
    bias = 0.0 if moe.gate.choice_bias is None else moe.gate.choice_bias
    chosen = (odds + bias).topk(experts.active).indices
    weights = odds[chosen]
    if experts.norm_topk:
        weights = weights / weights.sum()
    out = torch.zeros_like(x_c)
    for weight, expert in zip(weights, chosen, strict=True):
        inner = moe.experts.gate_up_proj[expert] @ x_c
        if shape.extras.activation == "relu2":
            inner = inner.relu() ** 2
        else:
            gate, up = inner.chunk(2)
            inner = apply_activation(gate, shape.extras.activation) * up
        out = out + weight * (moe.experts.down_proj[expert] @ inner)
    if moe.shared_expert is not None:
        out = out + moe.shared_expert(x_c)
    return out


@pytest.mark.parametrize("name", MIXTURES)
def test_equals_a_loop_over_tokens_with_its_gradients(name: str) -> None:
    shape = VARIANTS[name]
    moe = mixture(shape)
    x = torch.randn(2, 9, shape.width, generator=torch.Generator().manual_seed(0))
    out, routing = moe(x)
    assert int(routing.counts_e.sum()) == 2 * 9 * 2
    loop = torch.stack([torch.stack([by_hand(moe, shape, token) for token in row]) for row in x])
    torch.testing.assert_close(out, loop, rtol=1e-4, atol=1e-5)
    trained = [p for p in moe.parameters() if p.requires_grad]
    found = torch.autograd.grad(out.square().sum(), trained)
    wanted = torch.autograd.grad(loop.square().sum(), trained)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_segments_equal_the_grouped_kernel(kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 16, generator=generator).to(kind)
    weight = torch.randn(4, 24, 16, generator=generator).to(kind)
    counts = torch.tensor([3, 0, 6, 1])
    kernel = F.grouped_mm(x, weight.mT, offs=counts.cumsum(0).to(torch.int32))
    assert torch.equal(grouped_linear(x, weight, counts), kernel)


def test_an_expert_without_tokens_has_a_gradient_of_zero() -> None:
    moe = mixture(SHAPE_OF_TWO)
    with torch.no_grad():
        moe.gate.weight.zero_()
        moe.gate.weight[0] += 1.0
    out, routing = moe(torch.ones(1, 4, SHAPE.width))
    assert routing.counts_e.tolist() == [4, 0]
    out.sum().backward()
    assert moe.experts.down_proj.grad is not None
    assert moe.experts.down_proj.grad[0].abs().max() > 0
    assert moe.experts.down_proj.grad[1].abs().max() == 0


SHAPE_OF_TWO = replace(SHAPE, experts=ExpertsShape(count=2, active=1, hidden=24))


def losses(model: Decoder, ids: torch.Tensor, share: torch.Tensor) -> float:
    return float(model.loss(model.hidden(ids), ids.roll(-1, 1), share).detach())


def test_the_balance_loss_is_switchs_and_is_added_in_training_alone() -> None:
    model, ids = random_decoder(VARIANTS["experts"]), some_ids(1, 30)
    share = torch.full(ids.shape, 1 / 30)
    plain = losses(model, ids, share)
    model.train()
    hidden = model.hidden(ids)
    wanted = 0.0
    for routing in model._routings:
        fraction = F.one_hot(routing.chosen_bta, 5).float().mean((0, 1, 2))
        wanted += (
            5 * float((fraction * routing.odds_bte.detach().mean((0, 1))).sum()) / SHAPE.layers
        )
    assert wanted > 1.0
    with torch.no_grad():
        found = float(model.loss(hidden, ids.roll(-1, 1), share)) - plain
    assert found == pytest.approx(0.01 * wanted, abs=1e-5)


def test_the_balance_loss_does_not_hang_on_how_a_batch_is_cut_or_padded() -> None:
    model, ids = random_decoder(VARIANTS["experts"]).train(), some_ids(4, 24)
    share = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    share[2, 9:] = 0.0
    share /= share.sum()
    whole = losses(model, ids, share)
    rows = sum(losses(model, ids[i : i + 1], share[i : i + 1]) for i in range(4))
    assert rows == pytest.approx(whole, abs=1e-6)
    padded, left_out = F.pad(ids, (0, 5)), F.pad(share, (0, 5))
    targets = F.pad(ids.roll(-1, 1), (0, 5))
    found = float(model.loss(model.hidden(padded), targets, left_out).detach())
    assert found == pytest.approx(whole, abs=1e-6)


def test_the_balance_loss_counts_every_place_also_where_logits_are_left_out() -> None:
    model, ids = random_decoder(VARIANTS[MIXTURES[0]]).train(), some_ids(3, 11)
    share = torch.where(ids % 3 == 0, 1 / 11, 0.0)
    dense, sparse = (
        model.loss(model.hidden(ids), ids.roll(-1, 1), share, sparse=sparse).item()
        for sparse in (False, True)
    )
    assert sparse == pytest.approx(dense, rel=1e-6)


def test_a_bias_evens_the_loads_without_a_loss() -> None:
    shape = replace(BIAS, experts=replace(BIAS.experts, speed=0.01))  # type: ignore[type-var]
    model, ids = random_decoder(shape).train(), some_ids(8, 64)
    share = torch.full(ids.shape, 1 / ids.numel())

    def spread() -> float:
        losses(model, ids, share)
        counts = [m.load_e.float() for m in model.modules() if isinstance(m, Router)]
        return float(torch.stack([c.std() / c.mean() for c in counts]).mean())

    first = spread()
    assert losses(model, ids, share) == losses(model.eval(), ids, share)
    model.train().rebalance()
    for _ in range(40):
        losses(model, ids, share)
        model.rebalance()
    assert spread() < first / 3


def test_loads_add_up_over_micro_batches_and_are_forgotten_after_a_step() -> None:
    model, ids = random_decoder(BIAS).train(), some_ids(4, 20)
    router = next(m for m in model.modules() if isinstance(m, Router))
    assert router.choice_bias is not None
    router.rebalance()
    before = router.choice_bias.clone()
    share = torch.full(ids.shape, 1 / 80)
    losses(model, ids, share)
    whole = router.load_e.clone()
    assert whole.sum() == ids.numel() * BIAS.experts.active  # type: ignore[union-attr]
    router.rebalance(moved=False)
    assert router.load_e.sum() == 0
    assert torch.equal(router.choice_bias, before)
    for part in ids.split(1):
        losses(model, F.pad(part, (0, 3)), F.pad(share[:1], (0, 3)))  # no one counts the padding
    losses(model, ids, torch.zeros_like(share))
    assert torch.equal(router.load_e, whole)
    with torch.no_grad():
        losses(model, ids, share)
    losses(model.eval(), ids, share)
    assert torch.equal(router.load_e, whole)  # neither is training
    router.rebalance()
    assert router.load_e.sum() == 0
    moved = (router.choice_bias - before) / BIAS.experts.speed  # type: ignore[union-attr]
    assert torch.equal(moved.round(), (whole.float().mean() - whole).sign())


def test_the_bias_is_saved_with_the_weights_and_takes_no_gradient() -> None:
    model = random_decoder(BIAS)
    name = "layers.0.mlp.gate.choice_bias"
    assert name in dict(model.named_parameters())
    assert not model.get_parameter(name).requires_grad
    assert "layers.0.mlp.gate.load_e" not in model.state_dict()


def test_a_model_is_copied_in_the_middle_of_a_step() -> None:
    model, ids = random_decoder(VARIANTS["experts"]).train(), some_ids()
    model.hidden(ids)
    assert model._routings
    assert not copy.deepcopy(model)._routings
