"""The decoder against transformers' Qwen3, its cache, its masks and its bfloat16 passes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.decoder import Cache, Decoder, document_mask
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=101, width=48, layers=3, heads=4, kv_heads=2, head_width=16, hidden=80, context=64
)


def random_decoder(shape: DecoderShape = SHAPE) -> Decoder:
    """Weights far from their initial values, so that a wrong permutation shows."""
    torch.manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(12.0) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Decoder:
    return random_decoder()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(0, 101, (3, 33), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [True, False])
def test_equals_qwen3(ids: torch.Tensor, tied: bool) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = DecoderShape(**{**SHAPE.__dict__, "tied": tied, "rope_base": 50_000.0})
    ours = random_decoder(shape)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=tied,
        max_position_embeddings=shape.context,
    )
    theirs = Qwen3ForCausalLM(config).eval()
    state = {
        (name if name.startswith("lm_head") else f"model.{name}"): value
        for name, value in ours.state_dict().items()
    }
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    with torch.no_grad():
        p = ours(ids).double().log_softmax(-1)
        q = theirs(ids).logits.double().log_softmax(-1)
    assert p.exp().max() > 0.5  # the weights are far from uniform answers
    assert F.kl_div(q, p, reduction="batchmean", log_target=True).abs() < 1e-10


def test_parameters_are_counted_exactly(model: Decoder) -> None:
    assert sum(p.numel() for p in model.parameters()) == model.shape.parameters
    untied = DecoderShape(**{**SHAPE.__dict__, "tied": False})
    assert sum(p.numel() for p in Decoder(untied).parameters()) == untied.parameters


def test_cached_steps_equal_one_pass(model: Decoder, ids: torch.Tensor) -> None:
    with torch.no_grad():
        whole = model.hidden(ids)
        cache = Cache(model.shape, len(ids), ids.shape[1], whole)
        parts = [model.hidden(ids[:, :20], cache=cache)]
        parts += [model.hidden(ids[:, i : i + 1], cache=cache) for i in range(20, ids.shape[1])]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_document_mask_hides_the_document_before(
    model: Decoder, ids: torch.Tensor, compute: torch.dtype
) -> None:
    numbers = (torch.arange(ids.shape[1]) >= 12).long().expand_as(ids)
    other = ids.clone()
    other[:, :12] = (ids[:, :12] + 1) % 101
    model.compute = compute
    try:
        with torch.no_grad():
            one = model.hidden(ids, mask=document_mask(numbers))
            two = model.hidden(other, mask=document_mask(numbers))
            leaks = model.hidden(other)
    finally:
        model.compute = torch.float32
    torch.testing.assert_close(one[:, 12:], two[:, 12:])
    assert not torch.allclose(one[:, 12:], leaks[:, 12:])


@pytest.mark.parametrize("masked", [True, False])
def test_bfloat16_gradients_follow_float32(ids: torch.Tensor, masked: bool) -> None:
    model = random_decoder()
    targets, share = ids.roll(-1, 1), torch.full(ids.shape, 1 / ids.numel())
    mask = document_mask((ids % 9 == 0).cumsum(1)) if masked else None

    def gradients(compute: torch.dtype) -> tuple[float, dict[str, torch.Tensor]]:
        model.compute = compute
        model.zero_grad()
        loss = model.loss(model.hidden(ids, mask=mask), targets, share)
        loss.backward()
        return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters()}  # type: ignore[union-attr]

    exact, exact_gradients = gradients(torch.float32)
    rough, rough_gradients = gradients(torch.bfloat16)
    assert rough == pytest.approx(exact, rel=5e-3)
    for name, gradient in exact_gradients.items():
        similar = F.cosine_similarity(gradient.flatten(), rough_gradients[name].flatten(), dim=0)
        assert similar > 0.995, name


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_leaving_out_logits_that_weigh_nothing_changes_no_loss_and_no_gradient(
    ids: torch.Tensor, compute: torch.dtype
) -> None:
    model = random_decoder()
    model.compute = compute
    share = torch.where(ids % 4 == 0, 0.125, 0.0)
    results = []
    for sparse in (False, True):
        model.zero_grad()
        loss = model.loss(model.hidden(ids), ids.roll(-1, 1), share, sparse=sparse)
        loss.backward()
        results.append((loss.item(), [parameter.grad.clone() for parameter in model.parameters()]))  # type: ignore[union-attr]
    (dense_loss, dense), (sparse_loss, sparse_gradients) = results
    assert sparse_loss == pytest.approx(dense_loss, rel=1e-6)
    tolerance = 1e-5 if compute == torch.float32 else 2e-2
    for one, other in zip(dense, sparse_gradients, strict=True):
        assert (one - other).norm() <= tolerance * one.norm()
