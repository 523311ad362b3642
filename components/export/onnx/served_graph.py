"""Served ONNX graph, for onnxruntime: GroupQueryAttention, fused norms, one matmul for q, k and v.

``GroupQueryAttention`` (com.microsoft) turns the positions, writes the new keys and values into
the cache and attends, each row at its own length. So a batch may be ragged, and rows may join and
leave between two steps. The calling convention is that of
``components.export.onnx.ragged_runtime``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.core.errors import ConfigError
from components.export.onnx.expert_graph import add_expert_mixture, check_drawable
from components.export.onnx.graph_builder import (
    Array,
    GraphBuilder,
    Weights,
    assemble_graph,
    cache_names,
    describe_value,
)

if TYPE_CHECKING:
    from onnx import ModelProto

    from models.shape import DecoderShape

_CONTRIB = "com.microsoft"
_HEAD_STEP = 16
"""Head widths that GroupQueryAttention takes are multiples of this."""
_FLOAT, _INT32, _INT64 = 1, 6, 7
"""Numbers of ONNX's element types (``TensorProto.DataType``)."""
_LAST, _TOTAL, _NEW = "seqlens_k", "total_sequence_length", "query_seqlens"
"""Lengths, by the names that ``GroupQueryAttention`` has for them."""
_POSITIONS = "logit_positions"


def check_served(shape: DecoderShape) -> None:
    """Refuse a shape that the graph cannot hold.

    Raises:
        ConfigError: onnxruntime's operator cannot take heads of this width, or the graphs lack
            operators for the shape.
    """
    check_drawable(shape)
    if shape.head_width % _HEAD_STEP:
        raise ConfigError(
            f"ONNX export: a head_width of {shape.head_width} is no multiple of {_HEAD_STEP}, "
            "which onnxruntime's attention needs: choose another shape"
        )


def served_graph(weights: Weights) -> ModelProto:
    """Build the float32 graph with a ragged KV cache.

    Logits are computed at the positions that a call asks for. From the last attention on nothing
    looks at another position, so the last layer computes no others either.

    Raises:
        ConfigError: onnxruntime's operator cannot take heads of this width, or the graphs lack
            operators for the shape.
    """
    shape = weights.shape
    check_served(shape)
    graph = GraphBuilder()
    past, present = cache_names(shape.layers)
    table = graph.constant("embed_tokens.weight", weights.arrays["embed_tokens.weight"])
    x = graph.add("Gather", table, "input_ids")
    normed = _first_norm(graph, weights, x)
    for layer in range(shape.layers):
        cache = slice(2 * layer, 2 * layer + 2)
        mixed = _attention(graph, weights, layer, normed, past[cache], present[cache])
        if layer + 1 == shape.layers:
            graph.set_prefix("wanted")
            x, mixed = (
                graph.add("GatherND", value, _POSITIONS, batch_dims=1) for value in (x, mixed)
            )
        place = f"layers.{layer}"
        graph.set_prefix(f"{place}.self_attn.out")
        name = f"{place}.self_attn.o_proj"
        change = graph.linear(mixed, f"{name}.weight", weights.linear(name))
        x, normed = _add_norm(graph, weights, x, change, f"{place}.post_attention_layernorm")
        after = f"layers.{layer + 1}.input_layernorm" if layer + 1 < shape.layers else "norm"
        x, normed = _add_norm(graph, weights, x, _mlp(graph, weights, place, normed), after)
    graph.set_prefix("lm_head")
    head = graph.constant("lm_head.weight", weights.head)
    graph.add_many("MatMul", normed, head, outputs=["logits"])
    return assemble_graph(
        graph,
        shape,
        [
            describe_value("input_ids", _INT64, "batch", "new"),
            describe_value(_LAST, _INT32, "batch"),
            describe_value(_TOTAL, _INT32),
            describe_value(_NEW, _INT32, "batch"),
            describe_value(_POSITIONS, _INT64, "batch", "wanted", 1),
        ],
        [
            describe_value("logits", _FLOAT, "batch", "wanted", shape.vocabulary),
            describe_value("hidden", _FLOAT, "batch", "wanted", shape.width),
        ],
        opsets={"": 23, _CONTRIB: 1},
        present="present",
        cache=_FLOAT,
    )


def _first_norm(graph: GraphBuilder, weights: Weights, x: str) -> str:
    name = "layers.0.input_layernorm"
    graph.set_prefix(name)
    scale = graph.constant(f"{name}.weight", weights.vector(name))
    return graph.add("RMSNormalization", x, scale, axis=-1, epsilon=weights.shape.norm_eps)


def _add_norm(
    graph: GraphBuilder, weights: Weights, x: str, change: str, name: str
) -> tuple[str, str]:
    """(x + change, its norm), in one operator."""
    graph.set_prefix(name)
    normed, total = "hidden" if name == "norm" else f"{name}.normed", f"{name}.residual"
    graph.add_many(
        "SkipSimplifiedLayerNormalization",
        x,
        change,
        graph.constant(f"{name}.weight", weights.vector(name)),
        outputs=[normed, "", "", total],
        domain=_CONTRIB,
        epsilon=weights.shape.norm_eps,
    )
    return total, normed


def _attention(
    graph: GraphBuilder,
    weights: Weights,
    layer: int,
    x: str,
    past: list[str],
    present: list[str],
) -> str:
    """Heads of every position, side by side, before they are projected."""
    shape, place = weights.shape, f"layers.{layer}.self_attn"
    graph.set_prefix(place)
    names = [f"{place}.{part}_proj" for part in "qkv"]
    joined = graph.linear(x, f"{place}.qkv_proj.weight", weights.linear(*names))
    q_width, k_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    sizes = graph.ints(q_width, k_width, k_width)
    q, k, v = graph.add_many("Split", joined, sizes, outputs=3, axis=-1)
    if shape.qk_norm:
        q = _head_norm(graph, weights, q, f"{place}.q_norm", shape.heads)
        k = _head_norm(graph, weights, k, f"{place}.k_norm", shape.kv_heads)
    near = {"local_window_size": shape.window} if shape.windowed(layer) else {}
    output = f"{place}.mixed"
    graph.add_many(
        "GroupQueryAttention",
        *(q, k, v, *past, _LAST, _TOTAL),
        *(graph.constant("cos", weights.cos), graph.constant("sin", weights.sin)),
        *("", "", "", "", "", "", "", _NEW),  # query_seqlens is the 17th input
        outputs=[output, *present],
        domain=_CONTRIB,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=1,
        **near,
    )
    return output


def _head_norm(graph: GraphBuilder, weights: Weights, x: str, name: str, heads: int) -> str:
    """RMSNorm of each head of x [b, t, h*d]."""
    width = weights.shape.head_width
    split = graph.add("Reshape", x, graph.ints(0, 0, heads, width))
    scale = graph.constant(f"{name}.weight", weights.vector(name))
    eps = weights.shape.norm_eps
    normed = graph.add("RMSNormalization", split, scale, axis=-1, epsilon=eps)
    return graph.add("Reshape", normed, graph.ints(0, 0, heads * width))


def _mlp(graph: GraphBuilder, weights: Weights, place: str, x: str) -> str:
    """down(silu(gate(x)) * up(x)), or the mixture of such."""
    place, experts = f"{place}.mlp", weights.shape.experts
    graph.set_prefix(place)
    if experts is None:
        pair = weights.linear(f"{place}.gate_proj", f"{place}.up_proj")
        return _gated(graph, x, place, pair, weights.linear(f"{place}.down_proj"))

    def expert(index: int) -> str:
        stack = f"{place}.experts"
        pair = weights.expert(f"{stack}.gate_up_proj", index)
        down = weights.expert(f"{stack}.down_proj", index)
        return _gated(graph, x, f"{stack}.{index}", pair, down)

    scores = graph.linear(x, f"{place}.gate.weight", weights.linear(f"{place}.gate"))
    return add_expert_mixture(graph, experts, scores, expert)


def _gated(graph: GraphBuilder, x: str, place: str, pair: Array, down: Array) -> str:
    """One gated MLP; ``pair`` holds gate and up side by side."""
    joined = graph.linear(x, f"{place}.gate_up_proj.weight", pair)
    gate, up = graph.add_many("Split", joined, outputs=2, axis=-1, num_outputs=2)
    silu = graph.add_many("QuickGelu", gate, outputs=1, domain=_CONTRIB, alpha=1.0)[0]
    product = graph.add("Mul", silu, up)
    return graph.linear(product, f"{place}.down_proj.weight", down)
