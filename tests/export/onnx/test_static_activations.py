"""Static activations: measured ranges, smoothing, and answers near the float32 graph's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.onnx_session import OnnxModel, lacks_vnni, open_session
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.onnx.served_graph import served_graph
from components.export.onnx.static_activations import (
    PRODUCT,
    measure_ranges,
    quantize_normed_products,
    round_columns,
)
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape

States = NDArray[np.float32]


def texts(count: int, seed: int) -> list[NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 320, size=30 + 2 * row) for row in range(count)]


def run_graph(graph: ModelProto, path: Path) -> tuple[States, States]:
    """Logits and states after every token of some texts other than those of the ranges."""
    save_graph(graph, path)
    model = OnnxModel(path, threads=1)
    logits, hidden = [], []
    for text in texts(4, seed=9):
        for rows, read in ((logits, "feed"), (hidden, "hidden_states")):
            batch = RaggedBatch(model, 1)
            batch.join()
            rows += getattr(batch, read)(0, [text])
    return np.concatenate(logits), np.concatenate(hidden)


def distance(found: States, expected: States) -> float:
    """Root mean square of the difference, in units of the expected values'."""
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def test_ranges_are_the_largest_magnitudes_of_each_channel(
    decoder: Decoder, tmp_path: Path
) -> None:
    graph = served_graph(weights_of(decoder))
    before = graph.SerializeToString(deterministic=True)
    ranges = measure_ranges(graph, texts(4, seed=9))
    assert graph.SerializeToString(deterministic=True) == before
    assert len(ranges) == 2 * 2 + 1  # before each attention, each MLP, and the head
    _, hidden = run_graph(graph, tmp_path / "model.onnx")
    np.testing.assert_allclose(ranges["hidden"], np.abs(hidden).max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("head_only", [False, True])
def test_logits_and_states_stay_near(decoder: Decoder, tmp_path: Path, head_only: bool) -> None:
    graph = served_graph(weights_of(decoder))
    logits, hidden = run_graph(graph, tmp_path / "float.onnx")
    ranges = measure_ranges(graph, texts(8, seed=1))
    assert quantize_normed_products(graph, ranges, head_only=head_only) == (1 if head_only else 5)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count(PRODUCT) == (1 if head_only else 5)
    found = run_graph(graph, tmp_path / "static.onnx")
    assert 1e-4 < distance(found[0], logits) < (0.02 if head_only else 0.06)
    assert distance(found[1], hidden) < (1e-6 if head_only else 0.06)


def test_a_channel_far_above_the_others_leaves_them_their_steps(
    decoder: Decoder, tmp_path: Path
) -> None:
    weights = weights_of(decoder)
    norm = weights.arrays["norm.weight"]
    head = weights.arrays["embed_tokens.weight"].copy()
    norm[5] *= 300
    head[:, 5] /= 300
    arrays = {**weights.arrays, "lm_head.weight": head}
    shape = DecoderShape(**{**vars(weights.shape), "tied": False})
    graph = served_graph(type(weights)(shape, arrays, weights.cos, weights.sin))
    logits, _ = run_graph(graph, tmp_path / "float.onnx")
    ranges = measure_ranges(graph, texts(8, seed=1))
    assert ranges["hidden"][5] > 50 * np.median(ranges["hidden"])
    quantize_normed_products(graph, ranges, head_only=True)
    assert distance(run_graph(graph, tmp_path / "static.onnx")[0], logits) < 0.02


def test_rows_of_a_mixture_of_experts_read_smoothed_values_too(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    shape = DecoderShape(
        vocabulary=320, width=48, layers=2, heads=4, kv_heads=2, head_width=16, hidden=96,
        context=48, experts=ExpertsShape(count=4, active=2, hidden=32),
    )  # fmt: skip
    model = Decoder(shape).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.2, 4)
    graph = served_graph(weights_of(model))
    logits, _ = run_graph(graph, tmp_path / "float.onnx")
    ranges = measure_ranges(graph, texts(8, seed=1))
    assert quantize_normed_products(graph, ranges) == 2 * (1 + 1 + 4) + 1  # qkv, router, experts
    assert distance(run_graph(graph, tmp_path / "static.onnx")[0], logits) < 0.15


@pytest.mark.parametrize(
    ("flags", "lacking"), [("flags : fma avx2", True), ("flags : avx2 avx512_vnni", False)]
)
def test_a_processor_is_asked_for_sums_that_do_not_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, lacking: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert lacks_vnni(tmp_path / "cpuinfo") is lacking
    assert lacks_vnni(tmp_path / "absent")
    lacks_vnni.cache_clear()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not lacks_vnni(tmp_path / "cpuinfo")
    lacks_vnni.cache_clear()


def test_largest_products_are_added_without_overflow(tmp_path: Path) -> None:
    node = helper.make_node(
        PRODUCT, ["x", "weight", "one", "one", "zero"], ["y"], domain="com.microsoft"
    )
    x, y = (
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in (("x", TensorProto.UINT8), ("y", TensorProto.FLOAT))
    )
    constants = {
        "weight": np.full((192, 64), 127, np.int8),
        "one": np.float32(1),
        "zero": np.array(128, np.uint8),
    }
    graph = helper.make_graph(
        [node],
        "product",
        [x],
        [y],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opsets = [
        helper.make_opsetid(domain, version) for domain, version in (("", 23), ("com.microsoft", 1))
    ]
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    for rows in (1, 4, 64):
        (found,) = open_session(path).run(None, {"x": np.full((1, rows, 192), 255, np.uint8)})
        assert (found == 192 * 127 * 127).all()


def test_a_column_is_rounded_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(48, 10)).astype(np.float32)
    weight[:, 3] = 0
    values, scales = round_columns(weight)
    assert values.dtype == np.int8
    assert np.abs(values).max() == 127
    assert np.all(np.abs(values * scales - weight) <= scales / 2 + 1e-7)
    assert not values[:, 3].any()
