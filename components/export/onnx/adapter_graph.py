"""Adapters (LoRA) added to a served graph: each row computes with the one that it names.

After every adapted matmul ``x @ W`` of the graph, float32 or in integers:

    x @ W + ((x @ A) * mask) @ B        A [in, ranks], B [ranks, out], mask [b, 1, ranks]

A and B hold the factors of all adapters side by side, and the mask is 1 where a rank belongs to the
row's adapter, so that rows of several adapters share two plain products. To gather each row's own
factors (as Punica does on GPUs, arXiv:2310.18547) copies them in every step, which a processor pays
for in memory traffic. A row without an adapter gets exactly 0 added.

The graph has one more input, the last: ``adapter`` int64 [b], 0 for none, else the adapter's number
from 1 on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.core.errors import ConfigError
from components.export.onnx.adapter_files import LoraFactors, ServedAdapter
from components.export.onnx.graph_builder import Array, GraphBuilder, describe_value
from components.export.onnx.graph_call import ADAPTER_INPUT
from components.export.onnx.static_activations import PRODUCT, SMOOTHING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MAX_ADAPTERS = 64
"""Every row pays for the ranks of all."""
_FLOAT, _INT64 = 1, 7
"""Numbers of ONNX's element types (``TensorProto.DataType``)."""
_JOINED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""Matrices that the graph multiplies by in one, side by side."""


@dataclass(frozen=True)
class _Matmul:
    """A product with a weight in the graph."""

    node: NodeProto
    """The node that gives its output."""
    source: str
    """Its input, in float32."""
    smoothing: Array | None
    """[in]: what the input is divided by, where the activations are static."""
    inputs: int
    outputs: int
    parts: Mapping[str, slice]
    """Layer of the model -> its columns of the output."""


@dataclass(frozen=True)
class _StackedFactors:
    """Factors of all adapters of one product."""

    down: Array
    """[in, ranks]"""
    up: Array
    """[ranks, out]"""
    owners: Array
    """[ranks]: number of the adapter that each rank belongs to"""


def add_served_adapters(model: ModelProto, adapters: Sequence[ServedAdapter]) -> int:
    """Add adapters to a served graph, in place; returns how many products are adapted.

    Args:
        model: graph of ``served_graph``, quantized or not.
        adapters: numbered from 1 on, in this order.

    Raises:
        ConfigError: there are too many, or one has a layer that the graph does not have, or one of
            another size.
    """
    if not 0 < len(adapters) <= MAX_ADAPTERS:
        raise ConfigError(f"--adapter: {len(adapters)} adapters; 1 to {MAX_ADAPTERS} are served")
    matmuls = _find_matmuls(model)
    _check_layers(adapters, matmuls)
    graph = GraphBuilder()
    graph.set_prefix("adapters")
    numbers = graph.add("Unsqueeze", ADAPTER_INPUT, graph.ints(1, 2))
    masks: dict[bytes, str] = {}
    added: dict[str, list[NodeProto]] = {}
    for name, matmul in matmuls.items():
        stacked = _stack_factors(matmul, adapters)
        if stacked is None:
            continue
        graph.set_prefix(f"adapters.{name}")
        key = stacked.owners.tobytes()
        if key not in masks:
            owners = graph.constant(f"adapters.owners.{len(masks)}", stacked.owners)
            masks[key] = graph.add("Cast", graph.add("Equal", owners, numbers), to=_FLOAT)
        before = len(graph.nodes)
        _add_update(graph, name, matmul, stacked, masks[key])
        added[matmul.node.name] = graph.nodes[before:]
    _insert_nodes(model, graph, added)
    return len(added)


def _add_update(
    graph: GraphBuilder, name: str, matmul: _Matmul, stacked: _StackedFactors, mask: str
) -> None:
    """Add the update behind a product; what read the product's output reads the sum."""
    node = matmul.node
    down = graph.constant(f"adapters.{name}.down", stacked.down)
    up = graph.constant(f"adapters.{name}.up", stacked.up)
    low = graph.add("Mul", graph.add("MatMul", matmul.source, down), mask)
    output = node.output[0]
    node.output[0] = f"{output}.base"
    graph.add_many("Add", node.output[0], graph.add("MatMul", low, up), outputs=[output])


def _insert_nodes(
    model: ModelProto, graph: GraphBuilder, added: Mapping[str, Sequence[NodeProto]]
) -> None:
    """Put the masks first, and every update behind its product: nodes stand in order of use."""
    updates = {id(node) for nodes in added.values() for node in nodes}
    ordered = [node for node in graph.nodes if id(node) not in updates]
    for node in model.graph.node:
        ordered += [node, *added.get(node.name, ())]
    copies = []
    for node in ordered:
        copy = type(node)()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    known = {tensor.name for tensor in model.graph.initializer}
    fresh = [tensor for name, tensor in graph.constants.items() if name not in known]
    model.graph.initializer.extend(fresh)
    model.graph.input.append(describe_value(ADAPTER_INPUT, _INT64, "batch"))


def _find_matmuls(model: ModelProto) -> dict[str, _Matmul]:
    """Name of a weight -> the product with it, but for the head."""
    from onnx import numpy_helper

    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    widths = _head_widths(model)
    sources = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    scaled = {n.input[0]: n for n in model.graph.node if n.op_type == "Mul"}
    smoothing = {
        tensor.name.removesuffix(SMOOTHING): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith(SMOOTHING)
    }
    found = {}
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "MatMulNBits", PRODUCT) or node.input[1] not in sizes:
            continue
        weight = node.input[1].removesuffix(".int8")
        if not weight.endswith(".weight") or weight.startswith("lm_head"):
            continue
        name = weight.removesuffix(".weight")
        attributes: dict[str, Any] = {a.name: a.i for a in node.attribute}
        inputs, outputs = (
            (attributes["K"], attributes["N"])
            if node.op_type == "MatMulNBits"
            else sizes[node.input[1]]
        )
        source = sources.get(node.input[0], node.input[0])
        parts = _split_columns(name, outputs, widths)
        if node.op_type == PRODUCT:
            node = scaled[node.output[0]]
        found[name] = _Matmul(node, source, smoothing.get(source), inputs, outputs, parts)
    return found


def _head_widths(model: ModelProto) -> tuple[int, int]:
    """(channels of the queries, channels of the keys) of the graph's attention."""
    attention = next(n for n in model.graph.node if n.op_type == "GroupQueryAttention")
    heads = {a.name: a.i for a in attention.attribute}
    past = next(i for i in model.graph.input if i.name.startswith("past_key_values."))
    width = past.type.tensor_type.shape.dim[3].dim_value
    return heads["num_heads"] * width, heads["kv_num_heads"] * width


def _split_columns(name: str, outputs: int, widths: tuple[int, int]) -> dict[str, slice]:
    """Layer of the model -> its columns of a product's output."""
    place, _, last = name.rpartition(".")
    if last not in _JOINED:
        return {name: slice(0, outputs)}
    q, k = widths
    sizes = (q, k, k) if last == "qkv_proj" else (outputs // 2, outputs // 2)
    ends = np.cumsum(sizes)
    return {
        f"{place}.{part}": slice(int(end) - size, int(end))
        for part, size, end in zip(_JOINED[last], sizes, ends, strict=True)
    }


def _check_layers(adapters: Sequence[ServedAdapter], matmuls: Mapping[str, _Matmul]) -> None:
    """Refuse a layer that the graph does not have, or has in another size.

    Raises:
        ConfigError: names adapter, layer and sizes.
    """
    known = {
        part: (m.inputs, c.stop - c.start) for m in matmuls.values() for part, c in m.parts.items()
    }
    for adapter in adapters:
        for layer, factors in adapter.layers.items():
            size = (factors.down.shape[0], factors.up.shape[1])
            if layer not in known:
                kinds = sorted({name.rpartition(".")[2] for name in known})
                raise ConfigError(
                    f"--adapter {adapter.name}: the base has no layer {layer} to adapt; it has "
                    f"{', '.join(kinds)} in its layers"
                )
            if known[layer] != size:
                raise ConfigError(
                    f"--adapter {adapter.name} is of another base: {layer} is {_shown(size)}, "
                    f"this base's is {_shown(known[layer])}"
                )


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _stack_factors(matmul: _Matmul, adapters: Sequence[ServedAdapter]) -> _StackedFactors | None:
    """Factors of all adapters for one product; None where none adapts it."""
    downs, ups, owners = [], [], []
    for number, adapter in enumerate(adapters, start=1):
        for layer, columns in matmul.parts.items():
            factors: LoraFactors | None = adapter.layers.get(layer)
            if factors is None:
                continue
            rank = factors.down.shape[1]
            up = np.zeros((rank, matmul.outputs), dtype=np.float32)
            up[:, columns] = factors.up
            down = factors.down
            if matmul.smoothing is not None:
                down = down * matmul.smoothing[:, None]
            downs.append(down)
            ups.append(up)
            owners.append(np.full(rank, number, dtype=np.int64))
    if not downs:
        return None
    return _StackedFactors(
        np.concatenate(downs, axis=1), np.concatenate(ups), np.concatenate(owners)
    )
