"""Adapters: what learns, exact merging, every computing path, and targets that cannot be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.decoder import Decoder, Linear
from models.lora import (
    AdapterParameters,
    LoraLinear,
    LoraSpec,
    add_lora,
    lora_layers,
    lora_tensors,
    match_linears,
    merge_adapters,
    merge_and_unload,
    unmerge_adapters,
)
from models.quantized_linear import quantize_linears
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=101, width=48, layers=2, heads=4, kv_heads=2, head_width=16, hidden=80, context=64
)
UNTIED = DecoderShape(**{**SHAPE.__dict__, "tied": False})


def decoder(shape: DecoderShape = SHAPE) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0) if parameter.ndim > 1 else None
    return model.eval()


def learnt(model: Decoder) -> Decoder:
    """As if it had been trained: B is zero no longer."""
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.weight.normal_(std=0.3)
    return model


IDS = torch.randint(0, 101, (3, 20), generator=torch.Generator().manual_seed(1))


def kl(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest KL divergence of any position."""
    one, other = one.detach(), other.detach()
    scores, others = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((scores.exp() * (scores - others)).sum(-1).max())


def test_an_adapted_model_begins_as_the_model_it_was_made_of() -> None:
    model = decoder()
    before = model(IDS)
    add_lora(model, LoraSpec(rank=4))
    assert torch.equal(model(IDS), before)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_gradients_reach_the_adapters_alone(quantized: bool, compute: torch.dtype) -> None:
    model = decoder()
    if quantized:
        quantize_linears(model)
    add_lora(model, LoraSpec(rank=4))
    learnt(model).train().compute = compute
    share = torch.full(IDS[:, 1:].shape, 1 / IDS[:, 1:].numel())
    model.loss(model.hidden(IDS[:, :-1]), IDS[:, 1:], share).backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found == set(lora_tensors(model)) == {n for n in found if "lora_" in n}
    assert len(found) == 2 * 7 * SHAPE.layers
    assert all(bool(parameter.grad.any()) for parameter in AdapterParameters(model).parameters())


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_logits_are_the_unmerged_ones(quantized: bool, rslora: bool) -> None:
    model = decoder(UNTIED)
    if quantized:
        quantize_linears(model)
    add_lora(model, LoraSpec(rank=4, alpha=8, rslora=rslora, targets=("all-linear", "lm_head")))
    plain = model(IDS)
    apart = learnt(model)(IDS)
    assert kl(apart, plain) > 1e-3  # there is something to merge
    merge_adapters(model)
    merge_adapters(model)
    together = model(IDS)
    unmerge_adapters(model)
    assert torch.equal(model(IDS), apart)
    merge_and_unload(model)
    assert torch.equal(model(IDS), together)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert kl(together, apart) < 1e-10
    assert {type(m) for n, m in model.named_modules() if n.endswith(("proj", "lm_head"))} == {
        Linear
    }
    assert set(dict(model.named_parameters())) == set(dict(Decoder(UNTIED).named_parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_scale_is_alpha_over_rank_or_its_root() -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    for rslora, scale in ((False, 10 / 4), (True, 10 / 2)):
        torch.manual_seed(0)
        layer = LoraLinear(Linear(12, 9), LoraSpec(rank=4, alpha=10, rslora=rslora))
        nn.init.normal_(layer.lora_B.weight)
        change = layer(x) - layer.base(x)
        wanted = F.linear(F.linear(x, layer.lora_A.weight), layer.lora_B.weight) * scale
        torch.testing.assert_close(change, wanted)


def test_the_head_takes_an_adapter_on_every_path() -> None:
    """The bfloat16 loss multiplies with the head's weight without calling the head."""
    model = decoder(UNTIED)
    add_lora(model, LoraSpec(rank=4, targets=("lm_head",)))
    learnt(model).train()
    targets, share = IDS[:, 1:], torch.full(IDS[:, 1:].shape, 1 / IDS[:, 1:].numel())
    gradients: list[torch.Tensor] = []
    for compute in (torch.float32, torch.bfloat16):
        model.compute = compute
        model.zero_grad()
        model.loss(model.hidden(IDS[:, :-1]), targets, share).backward()
        head = model.get_submodule("lm_head")
        assert isinstance(head, LoraLinear)
        gradients.append(
            torch.cat([p.grad.flatten() for p in AdapterParameters(model).parameters()])
        )
    assert F.cosine_similarity(*gradients, dim=0) > 0.99


def test_dropout_falls_on_the_adapter_in_training_alone() -> None:
    model = decoder()
    add_lora(model, LoraSpec(rank=4, dropout=0.5))
    learnt(model)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    assert not torch.equal(model(IDS), model(IDS))


def test_a_copy_has_adapters_of_its_own() -> None:
    model = decoder()
    add_lora(model, LoraSpec(rank=4))
    other = learnt(copy.deepcopy(model))
    assert not any(bool(layer.lora_B.weight.any()) for layer in lora_layers(model).values())
    assert len(list(AdapterParameters(other).parameters())) == 28


def test_targets_are_last_parts_whole_names_or_patterns() -> None:
    model = decoder()
    assert match_linears(model, ["q_proj"]) == [f"layers.{i}.self_attn.q_proj" for i in range(2)]
    assert match_linears(model, ["layers.1.mlp.up_proj"]) == ["layers.1.mlp.up_proj"]
    assert match_linears(model, ["layers.0.*"]) == match_linears(model, ["all-linear"])[:7]
    assert "lm_head" not in match_linears(model, ["all-linear"])


@pytest.mark.parametrize(
    ("shape", "spec", "words"),
    [
        (
            SHAPE,
            LoraSpec(targets=("q_proj", "query")),
            r"'query' names no linear layer; there are q_proj, k_proj, .*layers.0.self_attn.q_proj",
        ),
        (SHAPE, LoraSpec(rank=33), r"rank 33 is larger than layers.0.self_attn.k_proj, .* 32 x 48"),
        (SHAPE, LoraSpec(targets=("lm_head",)), "lm_head shares its weight with embed_tokens"),
    ],
)
def test_what_cannot_be_adapted_is_named_and_nothing_changes(
    shape: DecoderShape, spec: LoraSpec, words: str
) -> None:
    model = decoder(shape)
    with pytest.raises(ValueError, match=words):
        add_lora(model, spec)
    assert not lora_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
