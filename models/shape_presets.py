"""Decoder shapes by name, and the published parameter counts that they are checked against."""

from __future__ import annotations

from models.shape import DecoderShape, ExpertsShape, RopeScaling, ShapeExtras

NANO = DecoderShape(
    vocabulary=1024, width=64, layers=2, heads=2, kv_heads=1, head_width=32, hidden=192
)
TINY = DecoderShape(width=192, layers=5, heads=3, kv_heads=3, hidden=576)
"""Shape that four minutes on two cores train best."""

GPT2_SMALL = DecoderShape(
    vocabulary=50304,
    width=768,
    layers=12,
    heads=12,
    kv_heads=12,
    head_width=64,
    hidden=2048,
    context=1024,
)
"""GPT-2's widths; a gated MLP of 2/3 of its hidden width has as many weights."""
GPT2_MEDIUM = DecoderShape(
    vocabulary=50304,
    width=1024,
    layers=24,
    heads=16,
    kv_heads=16,
    head_width=64,
    hidden=2752,
    context=1024,
)
LLAMA32_1B = DecoderShape(
    vocabulary=128_256,
    width=2048,
    layers=16,
    heads=32,
    kv_heads=8,
    head_width=64,
    hidden=8192,
    context=131_072,
    rope_base=500_000.0,
    norm_eps=1e-5,
    qk_norm=False,
    rope=RopeScaling(kind="llama3", factor=32.0, original=8192),
)


def _llama2(
    width: int, layers: int, heads: int, hidden: int, kv_heads: int | None = None
) -> DecoderShape:
    return DecoderShape(
        vocabulary=32_000,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_width=128,
        hidden=hidden,
        context=4096,
        norm_eps=1e-5,
        tied=False,
        qk_norm=False,
    )


LLAMA2_7B = _llama2(4096, 32, 32, 11_008)
LLAMA2_13B = _llama2(5120, 40, 40, 13_824)
LLAMA2_70B = _llama2(8192, 80, 64, 28_672, kv_heads=8)

MIXTRAL_8X7B = DecoderShape(
    vocabulary=32_000,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_width=128,
    hidden=14_336,
    context=32_768,
    rope_base=1e6,
    norm_eps=1e-5,
    tied=False,
    qk_norm=False,
    experts=ExpertsShape(count=8, active=2, hidden=14_336, coefficient=0.02),
)
GROK1 = DecoderShape(
    vocabulary=131_072,
    width=6144,
    layers=64,
    heads=48,
    kv_heads=8,
    head_width=128,
    hidden=32_768,
    context=8192,
    norm_eps=1e-5,
    qk_norm=False,
    experts=ExpertsShape(count=8, active=2, hidden=32_768, norm_topk=False, router_cap=30.0),
    mode="research",
    extras=ShapeExtras(
        activation="geglu",
        post_norms=True,
        attention_cap=30.0,
        embedding_scale=78.38367176906169,
        output_scale=0.5773502691896257,
    ),
)
"""As its released code has it: tied embeddings scaled on the way in and out, four norms a layer."""

PRESETS = {
    "nano": NANO,
    "tiny": TINY,
    "124m": GPT2_SMALL,
    "350m": GPT2_MEDIUM,
    "1b": LLAMA32_1B,
    "7b": LLAMA2_7B,
    "13b": LLAMA2_13B,
    "70b": LLAMA2_70B,
    "8x7b": MIXTRAL_8X7B,
    "grok-1": GROK1,
}
