"""INT8 KV cache of a served graph: one scale for the keys and one for the values of each layer.

The attention reads a quarter of the bytes, which is most of what a step of many rows does. Keys are
stored after their norm and their rotary turn, so their range hardly differs between texts; values
beyond the range are clipped by the kernel. A scale is the largest magnitude seen / 127. One scale
for each channel was no nearer to the float32 cache and slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.core.errors import MillError
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch

if TYPE_CHECKING:
    from onnx import ModelProto

    from components.export.parity import Ids

_INT8 = 3
"""Number of ONNX's element type (``TensorProto.DataType``)."""
_KEY_SCALE, _INPUTS = 12, 17
"""Place of the keys' scale among the inputs of ``GroupQueryAttention``, the values' behind it, and
how many inputs there are."""


def measure_cache_scales(path: Path, windows: Sequence[Ids]) -> NDArray[np.float32]:
    """Scales of a served graph's cache on some texts, one for each of the model's ``past``.

    Args:
        path: the graph, with a float32 cache.
        windows: token ids of each text, none longer than the context.
    """
    model = OnnxModel(path)
    batch = RaggedBatch(model, 1, max(map(len, windows)))
    largest = np.zeros(len(model.past), dtype=np.float32)
    for window in windows:
        batch.prefill([window])
        held = np.abs(batch.read_prefix(0, len(window)))
        largest = np.maximum(largest, held.max(axis=(1, 2, 3)))
        batch.leave(0)
    scales: NDArray[np.float32] = largest / np.float32(127)
    return np.where(scales > 0, scales, np.float32(1))


def quantize_cache(graph: ModelProto, scales: NDArray[np.float32]) -> None:
    """Let the attention of a served graph keep its keys and values as INT8, in place.

    Args:
        graph: with a float32 cache.
        scales: of keys and values, layer by layer, from ``measure_cache_scales``.

    Raises:
        MillError: there are not two scales for each attention.
    """
    from onnx import helper, numpy_helper

    attentions = [node for node in graph.graph.node if node.op_type == "GroupQueryAttention"]
    if len(scales) != 2 * len(attentions):
        raise MillError(f"quantize: {len(scales)} scales for {len(attentions)} attentions")
    for value in (*graph.graph.input, *graph.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = _INT8
    kinds = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
    for layer, node in enumerate(attentions):
        inputs = [*node.input, *[""] * (_INPUTS - len(node.input))]
        for part, name in enumerate(("key", "value")):
            scale = scales[2 * layer + part : 2 * layer + part + 1]
            inputs[_KEY_SCALE + part] = f"layers.{layer}.self_attn.{name}_scale"
            graph.graph.initializer.append(
                numpy_helper.from_array(scale, inputs[_KEY_SCALE + part])
            )
        node.input[:] = inputs
        node.attribute.extend(helper.make_attribute(key, kind) for key, kind in kinds.items())
