"""Builder of ONNX graphs: weights as arrays, named nodes, and files with reproducible bytes.

The graphs are written node by node from the decoder's weights instead of traced: that takes
half a second instead of twenty, gives equal bytes for equal weights, and lets each graph use the
operators that its runtime is fast at. Parity with the torch model is measured, not assumed.

Names, as other programs expect them: ``input_ids`` int64 [b, t], ``past_key_values.%d.key`` /
``.value`` [b, k, p, d], ``logits`` float32, ``present.%d.key`` / ``.value``. Lengths are given
otherwise to each graph, and its past means another thing: see ``served_graph`` and ``plain_graph``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.core.io.atomic_write import atomic_path
from models.shape import DecoderShape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

    from models.decoder import Decoder

Array = NDArray[Any]
GRAPH_FILE = "model.onnx"
_INLINE_BYTES = 1_500_000_000
"""A protobuf message ends at 2 GB; a larger model keeps its weights in a file beside it."""


@dataclass(frozen=True)
class Weights:
    """A decoder as float32 arrays: linear weights as [in, out], and the rotary tables."""

    shape: DecoderShape
    arrays: Mapping[str, Array]
    cos: Array
    """[context, d/2]"""
    sin: Array

    def linear(self, *names: str) -> Array:
        """Weights of linear layers that read the same input, side by side: [in, sum of out]."""
        return np.concatenate([self.arrays[f"{name}.weight"].T for name in names], axis=1)

    def expert(self, name: str, index: int) -> Array:
        """Matrix of one expert out of a stacked parameter: [in, out]."""
        matrix: Array = self.arrays[name][index].T
        return matrix

    def vector(self, name: str) -> Array:
        """Weight of a norm: [c]."""
        return self.arrays[f"{name}.weight"]

    @property
    def head(self) -> Array:
        """Output head [c, v]; its own array even when tied, since quantizers skip a transpose."""
        return self.linear("embed_tokens" if self.shape.tied else "lm_head")


def weights_of(model: Decoder) -> Weights:
    """Weights of a decoder, with its rotary angles for every position of its context."""
    import torch

    from models.decoder import rotary_angles

    cos, sin = rotary_angles(model.shape, torch.arange(model.shape.context)[None])
    arrays = {name: p.detach().float().numpy() for name, p in model.named_parameters()}
    return Weights(model.shape, arrays, cos[0, 0].numpy(), sin[0, 0].numpy())


class GraphBuilder:
    """Builder of a graph: nodes and constants in order, each value named after its prefix."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._place = ""
        self._count = 0

    def set_prefix(self, place: str) -> None:
        """Name the nodes that follow after a place in the model: ``layers.0.mlp``."""
        self._place, self._count = place, 0

    def constant(self, name: str, value: Array) -> str:
        """Add an initializer; equal names are one tensor."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        """Add a constant int64 vector; returns its name."""
        name = "ints." + "_".join(str(value) for value in values)
        return self.constant(name, np.array(values, dtype=np.int64))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name.

        Args:
            kind: the operator.
            inputs: names of its inputs, in order.
            attributes: attributes of the operator.
        """
        return self.add_many(kind, *inputs, outputs=1, **attributes)[0]

    def add_many(
        self,
        kind: str,
        *inputs: str,
        outputs: int | Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs; returns their names.

        Args:
            kind: the operator.
            inputs: names of its inputs, in order; "" leaves an optional one out.
            outputs: their number, or their names; "" leaves an optional one out.
            domain: domain of the operator; "" is ONNX's own.
            attributes: attributes of the operator.
        """
        from onnx import helper

        place = f"{self._place}.{kind}.{self._count}"
        self._count += 1
        names = (
            [f"{place}.{index}" for index in range(outputs)]
            if isinstance(outputs, int)
            else list(outputs)
        )
        node = helper.make_node(kind, inputs, names, name=place, domain=domain, **attributes)
        self.nodes.append(node)
        return names

    def linear(self, x: str, name: str, weight: Array) -> str:
        """Add ``x @ weight``; returns its name.

        Args:
            x: name of the input.
            name: name of the weight's initializer.
            weight: [in, out].
        """
        return self.add("MatMul", x, self.constant(name, weight))


def cache_names(layers: int) -> tuple[list[str], list[str]]:
    """Names (past, present) of cached keys and values: layer 0's, layer 1's, ..."""
    places = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    return [f"past_key_values.{place}" for place in places], [
        f"present.{place}" for place in places
    ]


def describe_value(name: str, kind: int, *dims: int | str) -> ValueInfoProto:
    """Describe an input or an output of a graph.

    Args:
        name: its name.
        kind: number of its element type (``TensorProto.DataType``).
        dims: its dimensions; those that a call decides on have names.
    """
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, list(dims))


def assemble_graph(
    builder: GraphBuilder,
    shape: DecoderShape,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    *,
    opsets: Mapping[str, int],
    present: str,
    cache: int,
) -> ModelProto:
    """Assemble the ONNX model with its inputs and outputs.

    Args:
        builder: nodes and initializers.
        shape: shape of the decoder; its context is kept in the model's metadata.
        inputs: those that come before the past.
        outputs: those that come before the present.
        opsets: domain -> version.
        present: name of the dimension of the present's positions.
        cache: number of the element type of past and present.
    """
    from onnx import helper

    past, presents = cache_names(shape.layers)

    def cached(name: str, positions: str) -> ValueInfoProto:
        return describe_value(name, cache, "batch", shape.kv_heads, positions, shape.head_width)

    graph = helper.make_graph(
        builder.nodes,
        "decoder",
        [*inputs, *(cached(name, "past") for name in past)],
        [*outputs, *(cached(name, present) for name in presents)],
        initializer=list(builder.constants.values()),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=10,
        producer_name="modelmill",
    )
    helper.set_model_props(model, {"context": str(shape.context)})
    return model


def save_graph(model: ModelProto, path: Path) -> int:
    """Write a graph whole, equal bytes for equal graphs; returns the bytes written.

    Weights beyond what one protobuf message holds go to ``<name>.data`` beside it.
    """
    import onnx

    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    with atomic_path(path) as temporary:
        if size > _INLINE_BYTES:
            onnx.save_model(model, temporary, save_as_external_data=True, location=data.name)
        else:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)
