"""Folder that onnxruntime-genai loads: our graph in INT8 blocks, its lengths read from a mask.

genai tells a graph which tokens are real by ``attention_mask`` alone. So the inputs of every
attention that hold lengths are computed from it by a few nodes in front, whatever our graph takes
in their place; nodes that nothing needs any more are left out. Weights and kernels are those that
genai's own builder chooses for INT8, which has no static activations.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.serve.targets.served_models import FLOAT_CACHE_FILE, BenchModel
from components.core.io.atomic_write import write_atomically
from components.export.onnx.graph_builder import GRAPH_FILE, cache_names, save_graph
from components.export.quantize import read_onnx_graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_ATTENTION = "GroupQueryAttention"
_LAST, _TOTAL = 5, 6
"""Places of its inputs seqlens_k and total_sequence_length."""
_POSITIONS = "logit_positions"
_COMMON_INPUTS = 9
"""Its inputs up to the rotary tables; those behind are for ragged pieces, which genai has not."""


def write_genai_folder(model: BenchModel, folder: Path) -> None:
    """Write graph, config and tokenizer as genai expects them.

    Args:
        model: the model.
        folder: new or empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = read_onnx_graph(model.folder / FLOAT_CACHE_FILE)
    take_lengths_from_mask(graph)
    save_graph(graph, folder / GRAPH_FILE)
    tokenizer = (model.bundle / "tokenizer.json").read_bytes()
    write_atomically(folder / "tokenizer.json", tokenizer)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_atomically(folder / "tokenizer_config.json", json.dumps(kind).encode())
    config = json.dumps(_genai_config(model), indent=1).encode()
    write_atomically(folder / "genai_config.json", config)


def take_lengths_from_mask(model: ModelProto) -> None:
    """Have every attention's lengths computed from ``attention_mask``, in place.

    A graph that is told for which positions it gives logits gives those of the last one.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    nodes = list(graph.node)
    for node in nodes:
        if node.op_type == _ATTENTION:
            node.input[_LAST], node.input[_TOTAL] = "mask.last", "mask.total"
            del node.input[_COMMON_INPUTS:]
    outputs = [value for value in graph.output if value.name.startswith(("logits", "present"))]
    kept = needed_nodes(nodes, {value.name for value in outputs})
    used = {name for node in kept for name in node.input}
    front = _mask_nodes()
    if _POSITIONS in used:
        front += _position_nodes()
        outputs[0].type.tensor_type.shape.dim[1].ClearField("dim_param")
        outputs[0].type.tensor_type.shape.dim[1].dim_value = 1
    past = [value for value in graph.input if value.name.startswith("past")]
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"])
    inputs = [graph.input[0], mask, *past]
    numbers = {"mask.one": [1], "mask.ones": [1, 1]}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    constants += [
        numpy_helper.from_array(np.array(value, dtype=np.int64), name)
        for name, value in numbers.items()
    ]
    for field, values in (
        (graph.node, front + kept),
        (graph.input, inputs),
        (graph.output, outputs),
        (graph.initializer, constants),
    ):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)


def _mask_nodes() -> list[NodeProto]:
    """Nodes from the mask to ``mask.last`` [b] and ``mask.total`` [], int32."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("ReduceSum", ["attention_mask", "mask.one"], ["mask.counted"], keepdims=0),
        helper.make_node("Sub", ["mask.counted", "mask.one"], ["mask.last64"]),
        helper.make_node("Cast", ["mask.last64"], ["mask.last"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["mask.width"], start=1, end=2),
        helper.make_node("Squeeze", ["mask.width"], ["mask.total64"]),
        helper.make_node("Cast", ["mask.total64"], ["mask.total"], to=TensorProto.INT32),
    ]


def _position_nodes() -> list[NodeProto]:
    """Nodes from the tokens to ``logit_positions`` [b, 1, 1]: the last position of each row."""
    from onnx import helper

    return [
        helper.make_node("Shape", ["input_ids"], ["mask.new"], start=1, end=2),
        helper.make_node("Sub", ["mask.new", "mask.one"], ["mask.end"]),
        helper.make_node("Shape", ["input_ids"], ["mask.rows"], start=0, end=1),
        helper.make_node("Concat", ["mask.rows", "mask.ones"], ["mask.wanted"], axis=0),
        helper.make_node("Expand", ["mask.end", "mask.wanted"], [_POSITIONS]),
    ]


def needed_nodes(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes that some of the wanted values come from, in their order.

    Args:
        nodes: of the graph, each after those it reads.
        wanted: names of values.
    """
    names, kept = set(wanted), list["NodeProto"]()
    for node in reversed(nodes):
        if names & set(node.output):
            names |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _genai_config(model: BenchModel) -> dict[str, object]:
    shape, end = model.shape, model.tokenizer.separator_id
    keys, values = "past_key_values.%d.key", "past_key_values.%d.value"
    assert cache_names(1)[0] == [keys % 0, values % 0]
    return {
        "model": {
            "type": "qwen3",
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": end,
            "vocab_size": shape.vocabulary,
            "context_length": shape.context,
            "decoder": {
                "session_options": {"intra_op_num_threads": 1, "provider_options": []},
                "filename": GRAPH_FILE,
                "head_size": shape.head_width,
                "hidden_size": shape.width,
                "num_attention_heads": shape.heads,
                "num_hidden_layers": shape.layers,
                "num_key_value_heads": shape.kv_heads,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": keys,
                    "past_value_names": values,
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "max_length": shape.context,
            "past_present_share_buffer": True,
        },
    }
