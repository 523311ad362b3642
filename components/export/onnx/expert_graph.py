"""Mixture of experts in plain ONNX operators: every expert runs, weighted by its router weight.

An expert that a token was not sent to counts by zero, so the numbers are the decoder's; the work
is that of all experts, which for the small models that a CPU serves is the price of one graph
without loops. Operators of opset 18: Softmax, TopK, ScatterElements.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from components.core.errors import ConfigError
from components.export.onnx.graph_builder import GraphBuilder
from models.shape import DecoderShape, ExpertsShape

_DRAWN = ("experts.norm_topk", "full_layers", "window", "width")
"""Of what transformers has no place for, what the graphs do have one for."""


def check_drawable(shape: DecoderShape) -> None:
    """Refuse a shape of which a graph would leave something out.

    Raises:
        ConfigError: names each field that the ONNX graphs have no operators for.
    """
    left = [name for name in shape.unexportable if not name.startswith(_DRAWN)]
    if left:
        raise ConfigError(
            f"ONNX export: the graphs have no operators for {', '.join(left)}; "
            "choose a shape in mode: exportable"
        )


def add_expert_mixture(
    graph: GraphBuilder,
    experts: ExpertsShape,
    scores: str,
    expert: Callable[[int], str],
    narrow: Callable[[str], str] = lambda x: x,
) -> str:
    """Add the weighted sum of the experts' outputs, [b, t, c]; returns its name.

    Args:
        graph: where the nodes go.
        experts: how many there are, and how they are weighted.
        scores: the router's logits [b, t, e], float32.
        expert: writes one expert's nodes; returns its output.
        narrow: casts weights to the precision of the outputs.
    """
    odds = graph.add("Softmax", scores, axis=-1)
    top, chosen = graph.add_many("TopK", odds, graph.ints(experts.active), outputs=2, axis=-1)
    if experts.norm_topk:
        total = graph.add("ReduceSum", top, graph.ints(-1), keepdims=1)
        top = graph.add("Div", top, total)
    zero = graph.constant("single.zero", np.array(0.0, dtype=np.float32))
    none = graph.add("Mul", odds, zero)
    weights = narrow(graph.add("ScatterElements", none, chosen, top, axis=-1))
    shares = graph.add_many(
        "Split", weights, outputs=experts.count, axis=-1, num_outputs=experts.count
    )
    out = ""
    for index, share in enumerate(shares):
        part = graph.add("Mul", expert(index), share)
        out = graph.add("Add", out, part) if out else part
    return out
