"""What research mode adds, against the whole decoder written out once more, plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.rotary import rotary_angles, rotate_halves
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape
from models.shape_presets import GROK1
from tests.models.variants import VARIANTS, random_decoder, some_ids

GROK = replace(
    GROK1,
    vocabulary=101,
    width=48,
    layers=2,
    heads=6,
    kv_heads=2,
    head_width=16,
    hidden=40,
    context=64,
    experts=ExpertsShape(count=4, active=2, hidden=40, norm_topk=False, router_cap=0.7),
    extras=replace(GROK1.extras, attention_cap=1.5, logit_cap=3.0, value_embeddings=True),
)
"""Grok-1's layers with caps low enough to be met, and what it lacks."""


def plain_logits(model: Decoder, ids: Tensor) -> Tensor:
    """One sequence [t] -> logits [t, v], from the weights and the formulas alone."""
    weights = dict(model.named_parameters())
    shape, extras = model.shape, model.shape.extras
    x = weights["embed_tokens.weight"][ids] * extras.embedding_scale
    for layer in range(shape.layers):

        def norm(x: Tensor, name: str, place: str = f"layers.{layer}.") -> Tensor:
            scale = (x.pow(2).mean(-1, keepdim=True) + shape.norm_eps).rsqrt()
            return x * scale * weights[f"{place}{name}.weight"]

        place = f"layers.{layer}."
        mixed = plain_attention(model, norm(x, "input_layernorm"), ids, f"{place}self_attn.")
        x = x + norm(mixed, "attention_out_norm")
        mixed = plain_mixture(model, norm(x, "post_attention_layernorm"), f"{place}mlp.")
        x = x + norm(mixed, "mlp_out_norm")
    scale = (x.pow(2).mean(-1, keepdim=True) + shape.norm_eps).rsqrt()
    logits = (x * scale * weights["norm.weight"]) @ weights["embed_tokens.weight"].T
    logits = logits * extras.output_scale
    assert extras.logit_cap is not None
    return extras.logit_cap * torch.tanh(logits / extras.logit_cap)


def plain_attention(model: Decoder, x: Tensor, ids: Tensor, place: str) -> Tensor:
    weights, shape = dict(model.named_parameters()), model.shape
    q, k, v = (
        (x @ weights[f"{place}{part}_proj.weight"].T).unflatten(-1, (-1, 16)) for part in "qkv"
    )
    table = weights["value_embeddings.weight"][ids].unflatten(-1, (-1, 16))
    v = v + weights[f"{place}value_share"] * table
    angles = tuple(a[0] for a in rotary_angles(shape, torch.arange(len(ids))[None]))
    heads, cap = [], shape.extras.attention_cap
    assert cap is not None
    for head in range(shape.heads):
        kv = head // (shape.heads // shape.kv_heads)
        turned = [rotate_halves(y[None], angles)[0] for y in (q[:, head], k[:, kv])]  # type: ignore[arg-type]
        scores = cap * torch.tanh(turned[0] @ turned[1].T / 4 / cap)
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, kv])
    return torch.cat(heads, -1) @ weights[f"{place}o_proj.weight"].T


def plain_mixture(model: Decoder, x: Tensor, place: str) -> Tensor:
    weights, experts = dict(model.named_parameters()), model.shape.experts
    assert experts is not None
    assert experts.router_cap is not None
    scores = x @ weights[f"{place}gate.weight"].T
    odds = (experts.router_cap * torch.tanh(scores / experts.router_cap)).softmax(-1)
    kept = torch.where(odds >= odds.topk(experts.active).values[:, -1:], odds, 0.0)
    out = torch.zeros_like(x)
    for expert in range(experts.count):
        gate, up = (x @ weights[f"{place}experts.gate_up_proj"][expert].T).chunk(2, -1)
        inner = F.gelu(gate, approximate="tanh") * up
        down = weights[f"{place}experts.down_proj"][expert]
        out = out + kept[:, expert : expert + 1] * (inner @ down.T)
    return out


def test_grok_and_more_written_out() -> None:
    model, ids = random_decoder(GROK), some_ids()
    with torch.no_grad():
        found = model(ids)
        wanted = torch.stack([plain_logits(model, row) for row in ids])
    assert wanted.abs().max() > 1.0
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_takes_part(name: str) -> None:
    model, ids = random_decoder(VARIANTS[name]).train(), some_ids()
    share = torch.full(ids.shape, 1 / ids.numel())
    model.loss(model.hidden(ids), ids.roll(-1, 1), share).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


def test_squared_relu_has_no_gate() -> None:
    shape = DecoderShape(mode="research", extras=VARIANTS["research, relu2"].extras)
    mlp = Decoder(replace(shape, layers=1)).layers[0].mlp
    x = torch.randn(1, 2, shape.width)
    inner = (x @ mlp.up_proj.weight.T).relu() ** 2  # type: ignore[union-attr, operator]
    torch.testing.assert_close(mlp(x), inner @ mlp.down_proj.weight.T)  # type: ignore[union-attr, operator]
