"""Plain ONNX graph, from which TensorRT builds: operators of opset 20, no contrib ones.

The mask has a column for every position of the past and then of the new tokens, 1 where it holds
a token of the row: [b, p + t]. Holes are fine, so rows may be padded on either side, and a padded
prompt can be decoded on. Keys and values are appended behind the past: present is [b, k, p + t, d].

In float16 the norms, the rotary turn and the softmax are still computed in float32, as are the
logits that come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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

_BOOL, _FLOAT, _HALF, _INT64 = 9, 1, 10, 7
"""Numbers of ONNX's element types (``TensorProto.DataType``)."""
_NEVER = -30_000.0
"""Added to masked scores: e^-30000 is 0, and float16 (largest magnitude 65504) holds it."""


@dataclass(frozen=True)
class _Shared:
    """Names of the values that every layer reads."""

    cos: str
    """[b, 1, t, d/2], float32"""
    sin: str
    bias: str
    """[b, 1, 1, t, p + t], float32: 0 where a query may look"""
    near: str
    """The same for layers with a window."""


class _Plain:
    """Writer of one graph, in float16 where ``half``."""

    def __init__(self, weights: Weights, half: bool) -> None:
        self.weights, self.shape, self.half = weights, weights.shape, half
        self.graph = GraphBuilder()

    def real(self, name: str, value: Array) -> str:
        """A constant of the graph's precision."""
        return self.graph.constant(name, value.astype(np.float16 if self.half else np.float32))

    def single(self, value: float) -> str:
        return self.graph.constant(f"single.{value!r}", np.array(value, dtype=np.float32))

    def widen(self, x: str) -> str:
        """x in float32."""
        return self.graph.add("Cast", x, to=_FLOAT) if self.half else x

    def narrow(self, x: str) -> str:
        """x in the graph's precision."""
        return self.graph.add("Cast", x, to=_HALF) if self.half else x

    def linear(self, x: str, *names: str) -> str:
        weight = self.weights.linear(*names)
        return self.graph.add("MatMul", x, self.real("+".join(names), weight))

    def shared(self) -> _Shared:
        """Add rotary tables at the new tokens' positions, and the attention masks."""
        graph = self.graph
        graph.set_prefix("positions")
        new = graph.add("Shape", "input_ids", start=1, end=2)
        total = graph.add("Shape", "attention_mask", start=1, end=2)
        past = graph.add("Sub", total, new)
        counted = graph.add("CumSum", "attention_mask", graph.ints(1))
        before = graph.add("Sub", counted, graph.ints(1))
        latest = graph.add("Slice", before, past, total, graph.ints(1))
        places = graph.add("Max", latest, graph.ints(0))
        tables = [
            graph.constant(n, a) for n, a in (("cos", self.weights.cos), ("sin", self.weights.sin))
        ]
        cos, sin = (
            graph.add("Unsqueeze", graph.add("Gather", table, places), graph.ints(1))
            for table in tables
        )
        graph.set_prefix("mask")
        zero, one = (graph.constant(f"int.{n}", np.array(n, dtype=np.int64)) for n in (0, 1))
        start, end = (graph.add("Squeeze", size, graph.ints(0)) for size in (past, total))
        columns = graph.add("Range", zero, end, one)
        rows = graph.add("Unsqueeze", graph.add("Range", start, end, one), graph.ints(1))
        causal = graph.add("GreaterOrEqual", rows, columns)
        held = graph.add("Cast", "attention_mask", to=_BOOL)
        seen = graph.add("And", graph.add("Unsqueeze", held, graph.ints(1, 2, 3)), causal)
        bias = near = graph.add("Where", seen, self.single(0.0), self.single(_NEVER))
        if self.shape.window is not None:
            query = graph.add("Unsqueeze", places, graph.ints(1, 2, 4))
            key = graph.add("Unsqueeze", before, graph.ints(1, 2, 3))
            window = graph.constant("int.window", np.array(self.shape.window, dtype=np.int64))
            close = graph.add("Less", graph.add("Sub", query, key), window)
            both = graph.add("And", seen, close)
            near = graph.add("Where", both, self.single(0.0), self.single(_NEVER))
        return _Shared(cos, sin, bias, near)

    def norm(self, x: str, name: str) -> str:
        """RMSNorm over the last axis, in float32; the result too."""
        graph = self.graph
        wide = self.widen(x)
        mean = graph.add("ReduceMean", graph.add("Mul", wide, wide), graph.ints(-1), keepdims=1)
        root = graph.add("Sqrt", graph.add("Add", mean, self.single(self.shape.norm_eps)))
        scale = graph.constant(f"{name}.weight", self.weights.vector(name))
        return graph.add("Mul", graph.add("Div", wide, root), scale)

    def rotate(self, x: str, shared: _Shared) -> str:
        """Turn the halves of each head of x [b, h, t, d] against each other."""
        graph = self.graph
        left, right = graph.add_many("Split", x, outputs=2, axis=-1, num_outputs=2)
        first = graph.add(
            "Sub", graph.add("Mul", left, shared.cos), graph.add("Mul", right, shared.sin)
        )
        second = graph.add(
            "Add", graph.add("Mul", right, shared.cos), graph.add("Mul", left, shared.sin)
        )
        return graph.add("Concat", first, second, axis=-1)

    def heads(self, x: str, count: int) -> str:
        """[b, t, h*d] -> [b, t, h, d]."""
        return self.graph.add("Reshape", x, self.graph.ints(0, 0, count, self.shape.head_width))

    def attention(
        self, layer: int, x: str, shared: _Shared, past: list[str], present: list[str]
    ) -> str:
        graph, shape, place = self.graph, self.shape, f"layers.{layer}.self_attn"
        graph.set_prefix(place)
        turned = []
        for part, count in (("q", shape.heads), ("k", shape.kv_heads)):
            split = self.heads(self.linear(x, f"{place}.{part}_proj"), count)
            wide = self.norm(split, f"{place}.{part}_norm") if shape.qk_norm else self.widen(split)
            swapped = graph.add("Transpose", wide, perm=[0, 2, 1, 3])
            turned.append(self.rotate(swapped, shared))
        q, k = turned
        v = self.heads(self.linear(x, f"{place}.v_proj"), shape.kv_heads)
        v = graph.add("Transpose", v, perm=[0, 2, 1, 3])
        graph.add_many("Concat", past[0], self.narrow(k), outputs=[present[0]], axis=2)
        graph.add_many("Concat", past[1], v, outputs=[present[1]], axis=2)
        bias = shared.near if shape.windowed(layer) else shared.bias
        mixed = self.mix(q, present, bias)
        return self.linear(mixed, f"{place}.o_proj")

    def mix(self, q: str, present: list[str], bias: str) -> str:
        """Attend: q [b, h, t, d] float32 over present [b, k, s, d] -> [b, t, h*d]."""
        graph, shape = self.graph, self.shape
        group, width = shape.heads // shape.kv_heads, shape.head_width
        scaled = self.narrow(graph.add("Mul", q, self.single(width**-0.5)))
        grouped = graph.add("Reshape", scaled, graph.ints(0, shape.kv_heads, group, -1, width))
        k, v = (graph.add("Unsqueeze", name, graph.ints(2)) for name in present)
        k = graph.add("Transpose", k, perm=[0, 1, 2, 4, 3])
        scores = graph.add("Add", self.widen(graph.add("MatMul", grouped, k)), bias)
        shares = self.narrow(graph.add("Softmax", scores, axis=-1))
        mixed = graph.add("MatMul", shares, v)  # [b, k, group, t, d]
        swapped = graph.add("Transpose", mixed, perm=[0, 3, 1, 2, 4])
        return graph.add("Reshape", swapped, graph.ints(0, 0, shape.heads * width))

    def mlp(self, layer: int, x: str) -> str:
        graph, weights, place = self.graph, self.weights, f"layers.{layer}.mlp"
        graph.set_prefix(place)
        experts = self.shape.experts
        if experts is None:
            gate, up = (weights.linear(f"{place}.{part}_proj") for part in ("gate", "up"))
            return self.gated(x, place, gate, up, weights.linear(f"{place}.down_proj"))

        def expert(index: int) -> str:
            pair = weights.expert(f"{place}.experts.gate_up_proj", index)
            gate, up = np.split(pair, 2, axis=1)
            down = weights.expert(f"{place}.experts.down_proj", index)
            return self.gated(x, f"{place}.experts.{index}", gate, up, down)

        router = graph.constant(f"{place}.gate.weight", weights.linear(f"{place}.gate"))
        scores = graph.add("MatMul", self.widen(x), router)
        return add_expert_mixture(graph, experts, scores, expert, self.narrow)

    def gated(self, x: str, place: str, gate: Array, up: Array, down: Array) -> str:
        """One gated MLP: down(silu(gate(x)) * up(x))."""
        graph = self.graph
        left = graph.add("MatMul", x, self.real(f"{place}.gate_proj", gate))
        silu = graph.add("Mul", left, graph.add("Sigmoid", left))
        right = graph.add("MatMul", x, self.real(f"{place}.up_proj", up))
        product = graph.add("Mul", silu, right)
        return graph.add("MatMul", product, self.real(f"{place}.down_proj", down))

    def normed(self, x: str, name: str) -> str:
        self.graph.set_prefix(name)
        return self.narrow(self.norm(x, name))


def plain_graph(weights: Weights, *, half: bool) -> ModelProto:
    """Build the graph in plain operators, float16 where ``half``.

    Raises:
        ConfigError: there are no operators for the shape.
    """
    check_drawable(weights.shape)
    plain, shape = _Plain(weights, half), weights.shape
    graph = plain.graph
    shared = plain.shared()
    past, present = cache_names(shape.layers)
    graph.set_prefix("embed_tokens")
    table = plain.real("embed_tokens.weight", weights.arrays["embed_tokens.weight"])
    x = graph.add("Gather", table, "input_ids")
    for layer in range(shape.layers):
        cache, place = slice(2 * layer, 2 * layer + 2), f"layers.{layer}"
        normed = plain.normed(x, f"{place}.input_layernorm")
        mixed = plain.attention(layer, normed, shared, past[cache], present[cache])
        x = graph.add("Add", x, mixed)
        normed = plain.normed(x, f"{place}.post_attention_layernorm")
        x = graph.add("Add", x, plain.mlp(layer, normed))
    normed = plain.normed(x, "norm")
    graph.set_prefix("lm_head")
    narrow = graph.add("MatMul", normed, plain.real("lm_head.weight", weights.head))
    graph.add_many("Cast", narrow, outputs=["logits"], to=_FLOAT)
    return assemble_graph(
        graph,
        shape,
        [
            describe_value("input_ids", _INT64, "batch", "new"),
            describe_value("attention_mask", _INT64, "batch", "total"),
        ],
        [describe_value("logits", _FLOAT, "batch", "new", shape.vocabulary)],
        opsets={"": 20},
        present="total",
        cache=_HALF if half else _FLOAT,
    )
