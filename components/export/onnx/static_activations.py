"""Static INT8 activations of a served graph: ranges of norms' outputs, measured on some texts.

``MatMulNBits`` rounds its input anew in every call, and multiplies block by block. A product whose
input has one fixed range is a single product of integers, for which processors have instructions of
their own (VNNI, AMX): several times quicker for many tokens, hardly slower for one. Its sums are
exact, so a row's bits do not depend on the rows beside it.

A norm bounds its output, so a range measured on training text holds for other texts; what exceeds
it is clipped. Some channels are far larger than others, and would leave those few steps: each is
divided by a factor in the norm's weight, and the matrix's row multiplied by it (SmoothQuant,
arXiv:2211.10438). Other inputs keep ``MatMulNBits``: those of ``down_proj`` have single tokens with
magnitudes of hundreds, which cost a KL of 5e-3 to 2e-2 nats; ``o_proj`` gained next to nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.export.onnx.graph_builder import GRAPH_FILE, Array, save_graph
from components.export.onnx.onnx_session import open_session

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from components.export.parity import Ids

SMOOTHING = ".smoothing"
"""Ending of the initializer with a norm's factors [c], behind the name of its output."""
PRODUCT = "MatMulIntegerToFloat"
"""The operator, of onnxruntime's own: uint8 [b, t, c] @ int8 [c, n], times both scales."""
_CONTRIB = "com.microsoft"
_WEIGHT_OF_NORM = {"RMSNormalization": 1, "SkipSimplifiedLayerNormalization": 2}
"""Place of the weight among the inputs of each kind of norm."""
_HEAD = "logits"
_SMOOTHED_HIDDEN = "hidden.smoothed"
_ONE = "static.one"
_STRENGTH = 0.8
"""Share of a channel's range that moves from the activations into the weights. Of 0.5 to 1 this had
the least KL on a trained model of 3 M parameters (1.7e-3, 2.2e-3 at 0.5), the head 0.8 or more."""
_ZERO_POINT = 128
"""Activations are uint8 around it, since products of uint8 and int8 have kernels everywhere."""
_FLOAT = 1
"""Number of ONNX's element type (``TensorProto.DataType``)."""


@dataclass(frozen=True)
class _NormedInput:
    """Output of a norm, which products with weights alone read."""

    norm: NodeProto
    weight: str
    """The norm's."""
    products: tuple[NodeProto, ...]

    @property
    def name(self) -> str:
        output: str = self.norm.output[0]
        return output

    @property
    def feeds_head(self) -> bool:
        return any(product.output[0] == _HEAD for product in self.products)


def measure_ranges(graph: ModelProto, windows: Sequence[Ids]) -> dict[str, NDArray[np.float32]]:
    """Largest magnitude of each channel of each norm's output on some texts, by its name.

    Args:
        graph: of ``served_graph``, not quantized; it is left as it is.
        windows: token ids of each text, none longer than the context.
    """
    inputs = _find_normed_inputs(graph)
    probe = _probe_graph(graph, [value.name for value in inputs])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, GRAPH_FILE)
        save_graph(probe, path)
        session = open_session(path)
    names = [value.name for value in inputs]
    past = [argument for argument in session.get_inputs() if argument.name.startswith("past")]
    ranges: dict[str, NDArray[np.float32]] = {}
    for window in windows:
        length = len(window)
        feeds = {
            "input_ids": np.asarray(window, dtype=np.int64)[None],
            "seqlens_k": np.array([length - 1], dtype=np.int32),
            "total_sequence_length": np.array(length, dtype=np.int32),
            "query_seqlens": np.array([length], dtype=np.int32),
            "logit_positions": np.arange(length, dtype=np.int64)[None, :, None],
        }
        for argument in past:
            heads, width = argument.shape[1], argument.shape[3]
            feeds[argument.name] = np.zeros((1, heads, length, width), dtype=np.float32)
        for name, values in zip(names, session.run(names, feeds), strict=True):
            largest = np.abs(values).max(axis=(0, 1))
            ranges[name] = np.maximum(ranges.get(name, np.float32(0)), largest)
    return ranges


def quantize_normed_products(
    graph: ModelProto, ranges: Mapping[str, NDArray[np.float32]], *, head_only: bool = False
) -> int:
    """Turn products of norms' outputs into products of integers, in place; returns how many.

    Args:
        graph: of ``served_graph``, not quantized.
        ranges: from ``measure_ranges`` of the same graph.
        head_only: only the output head's.
    """
    inputs = [value for value in _find_normed_inputs(graph) if value.feeds_head or not head_only]
    arrays = _read_weights(graph, inputs)
    fresh: dict[str, Array] = {_ONE: np.array(1, dtype=np.float32)}
    added: dict[str, list[NodeProto]] = {}
    for value in inputs:
        matrices = {product.input[1]: arrays[product.input[1]] for product in value.products}
        factors = _smoothing_factors(ranges[value.name], list(matrices.values()))
        step = np.float32((ranges[value.name] / factors).max() / 127)
        fresh[value.weight] = arrays[value.weight] / factors
        for name, matrix in matrices.items():
            values, scales = round_columns(matrix * factors[:, None])
            fresh |= {f"{name}.int8": values, f"{name}.scales": scales}
        place = _SMOOTHED_HIDDEN if value.feeds_head else value.name
        added[value.norm.name] = _round_input(value, place)
        for product in value.products:
            added[product.name] = _multiply_integers(product, place)
        fresh |= {
            f"{place}.step": np.asarray(step if step > 0 else 1, dtype=np.float32),
            f"{place}.zero": np.asarray(_ZERO_POINT, dtype=np.uint8),
            f"{place}{SMOOTHING}": factors,
        }
    _put_nodes(graph, added)
    _put_weights(graph, arrays, fresh)
    return sum(len(value.products) for value in inputs)


def round_columns(weight: Array) -> tuple[Array, Array]:
    """Round [in, out] float32 to (int8 [in, out], float32 scales [out]), absmax by column."""
    scales = np.abs(weight).max(axis=0) / np.float32(127)
    steps = np.divide(weight, scales, out=np.zeros_like(weight), where=scales > 0)
    return np.rint(steps).astype(np.int8), scales


def _smoothing_factors(
    largest: NDArray[np.float32], matrices: Sequence[Array]
) -> NDArray[np.float32]:
    """Factors [c] that channels of the activations are divided by; 1 where either side is 0."""
    weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    factors = np.ones_like(largest)
    moved = (largest > 0) & (weights > 0)
    factors[moved] = largest[moved] ** _STRENGTH / weights[moved] ** (1 - _STRENGTH)
    return factors


def _find_normed_inputs(graph: ModelProto) -> list[_NormedInput]:
    """Outputs of norms that products with weights read, and nothing else does."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.graph.node:
        place = _WEIGHT_OF_NORM.get(node.op_type)
        products = readers.get(node.output[0], [])
        if place is None or not products:
            continue
        if all(p.op_type == "MatMul" and p.input[1] in weights for p in products):
            found.append(_NormedInput(node, node.input[place], tuple(products)))
    return found


def _probe_graph(graph: ModelProto, names: Sequence[str]) -> ModelProto:
    """Copy of a graph that gives some values in place of the logits."""
    from onnx import helper

    probe = type(graph)()
    probe.CopyFrom(graph)
    kept = [node for node in probe.graph.node if node.output[0] != _HEAD]
    _replace_all(probe.graph.node, kept)
    outputs = [value for value in probe.graph.output if value.name.startswith("present")]
    outputs += [helper.make_tensor_value_info(name, _FLOAT, None) for name in names]
    _replace_all(probe.graph.output, outputs)
    return probe


def _round_input(value: _NormedInput, place: str) -> list[NodeProto]:
    """Nodes behind a norm that round its output.

    The last norm's output is an output of the graph too, which stays as it was: its smoothing is
    multiplied back.

    Args:
        value: the norm's output.
        place: name that the norm's own output gets.
    """
    nodes = []
    if value.feeds_head:
        nodes.append(_make_node("Mul", place, f"{place}{SMOOTHING}", output=value.name))
        value.norm.output[0] = place
    parts = (f"{place}.step", f"{place}.zero")
    return [*nodes, _make_node("QuantizeLinear", place, *parts, output=f"{place}.uint8")]


def _multiply_integers(product: NodeProto, place: str) -> list[NodeProto]:
    """Turn a product into one of integers; returns the node behind it that scales its columns.

    The operator has an input for scales of columns, which takes it longer than a node of its own: a
    fifth of the time of one row.

    Args:
        product: with a weight.
        place: name of its input in float32.
    """
    weight, output = product.input[1], product.output[0]
    product.op_type, product.domain = PRODUCT, _CONTRIB
    parts = (f"{weight}.int8", f"{place}.step", _ONE, f"{place}.zero")
    product.input[:] = [f"{place}.uint8", *parts]
    product.output[0] = f"{output}.unscaled"
    return [_make_node("Mul", product.output[0], f"{weight}.scales", output=output)]


def _make_node(kind: str, *inputs: str, output: str) -> NodeProto:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], name=f"{inputs[0]}.{kind}")


def _put_nodes(graph: ModelProto, behind: Mapping[str, Sequence[NodeProto]]) -> None:
    """Put nodes behind those of the given names: nodes stand in order of use."""
    ordered = [copy for node in graph.graph.node for copy in (node, *behind.get(node.name, ()))]
    _replace_all(graph.graph.node, ordered)


def _replace_all(field: Any, values: Sequence[Any]) -> None:
    """Replace what a repeated field of a message holds, by some of the same or others."""
    copies = []
    for value in values:
        copies.append(type(value)())
        copies[-1].CopyFrom(value)
    del field[:]
    field.extend(copies)


def _read_weights(graph: ModelProto, inputs: Sequence[_NormedInput]) -> dict[str, Array]:
    """Weights of norms and of the products that read them."""
    from onnx import numpy_helper

    names = {value.weight for value in inputs}
    names |= {product.input[1] for value in inputs for product in value.products}
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.graph.initializer
        if tensor.name in names
    }


def _put_weights(graph: ModelProto, replaced: Collection[str], fresh: Mapping[str, Array]) -> None:
    """Take some initializers out of a graph and put others in."""
    from onnx import numpy_helper

    for tensor in [t for t in graph.graph.initializer if t.name in replaced]:
        graph.graph.initializer.remove(tensor)
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        if value.ndim
        else numpy_helper.from_array(value, name)
        for name, value in fresh.items()
    )
