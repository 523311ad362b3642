"""One small shape for each thing a decoder can be."""

from __future__ import annotations

from dataclasses import replace

import torch

from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape, RopeScaling, ShapeExtras

SHAPE = DecoderShape(
    vocabulary=101, width=48, layers=3, heads=4, kv_heads=2, head_width=16, hidden=80, context=64
)
EXPERTS = ExpertsShape(count=5, active=2, hidden=24)
EXTRAS = ShapeExtras(
    value_embeddings=True,
    post_norms=True,
    attention_cap=4.0,
    logit_cap=12.0,
    embedding_scale=3.0,
    output_scale=0.5,
)
VARIANTS = {
    "dense": SHAPE,
    "multi-query": replace(SHAPE, kv_heads=1, tied=False),
    "no qk-norm": replace(SHAPE, qk_norm=False),
    "window": replace(SHAPE, window=7),
    "window in some layers": replace(SHAPE, window=5, full_layers=(1,)),
    "yarn": replace(SHAPE, rope=RopeScaling(kind="yarn", factor=4.0, original=16)),
    "experts": replace(SHAPE, experts=EXPERTS),
    "experts, window": replace(SHAPE, qk_norm=False, window=6, experts=EXPERTS),
    "experts, bias and shared": replace(
        SHAPE, mode="research", experts=replace(EXPERTS, balance="bias", shared=40)
    ),
    "research": replace(SHAPE, mode="research", window=9, extras=EXTRAS),
    "research, relu2": replace(SHAPE, mode="research", extras=ShapeExtras(activation="relu2")),
    "research experts": replace(
        SHAPE,
        mode="research",
        experts=replace(EXPERTS, router_cap=2.0, norm_topk=False),
        extras=replace(EXTRAS, activation="relu2"),
    ),
}


def random_decoder(shape: DecoderShape = SHAPE) -> Decoder:
    """Weights far from their first values, so that a wrong place shows."""
    torch.manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


def some_ids(rows: int = 3, length: int = 33) -> torch.Tensor:
    return torch.randint(0, 101, (rows, length), generator=torch.Generator().manual_seed(1))
