"""INT8: every matmul, a smaller file, and how near it stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from components.core.errors import DataError, MillError
from components.core.store.artifact import Checkpoint, Export, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.onnx.cache_memory import position_bytes
from components.export.onnx.export_onnx import OnnxConfig, export_onnx
from components.export.onnx.graph_builder import weights_of
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.onnx.served_graph import served_graph
from components.export.parity import Parity, ParityConfig, read_parity
from components.export.quantize import (
    QuantizeConfig,
    quantize,
    quantize_blocks,
    quantize_matmuls,
    read_onnx_graph,
)
from models.decoder import Decoder

SMALL = ParityConfig(positions=200, batch=3, steps=4)
LOOSE = ParityConfig(positions=200, batch=3, steps=4, kl_max=0.05, top1_min=0.9, difference_max=2.0)
New = Callable[[], Workdir]


@pytest.fixture
def exported(model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, fresh: New) -> Export:
    return export_onnx(OnnxConfig(parity=SMALL), model, tokens, tokenizer, fresh())


def test_every_matmul_is_quantized_and_the_file_shrinks(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    config = QuantizeConfig(parity=LOOSE)
    made = quantize(config, model, exported, tokens, fresh())
    assert made.stats["matmuls"] == 4 * 2 + 1  # qkv, o, gate and up, down; and the tied head
    assert made.stats["bytes"] < 0.6 * exported.stats["bytes"]
    assert made.stats["passes"] == 1
    assert 0 < made.stats["kl_mean"] < 0.05
    kinds = [n.op_type for n in onnx.load(fresh().artifact_folder(made) / "model.onnx").graph.node]
    assert kinds.count("MatMulNBits") == 4  # o and down
    assert kinds.count("MatMulIntegerToFloat") == made.stats["static_matmuls"] == 5
    assert "MatMul" not in kinds
    assert quantize(config, model, exported, tokens, fresh()).digest == made.digest


def test_the_head_has_blocks_of_its_own(decoder: Decoder) -> None:
    graph = served_graph(weights_of(decoder))
    quantize_matmuls(graph, QuantizeConfig(block=16, head_block=64))
    blocks = {
        node.output[0]: {a.name: a.i for a in node.attribute}["block_size"]
        for node in graph.graph.node
        if node.op_type == "MatMulNBits"
    }
    assert blocks.pop("logits") == 64
    assert set(blocks.values()) == {16}


def test_an_int8_cache_has_a_parity_of_its_own_and_rows_are_as_alone(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    config = QuantizeConfig(cache="int8", parity=LOOSE, cache_parity=LOOSE)
    made = quantize(config, model, exported, tokens, fresh())
    without = QuantizeConfig(cache="float32", parity=LOOSE)
    plain = quantize(without, model, exported, tokens, fresh())
    assert made.stats["passes"] == made.stats["cache_passes"] == 1
    assert 0 < made.stats["cache_kl_mean"] < 0.01
    assert "cache_kl_mean" not in plain.stats
    folder = fresh().artifact_folder(made)
    record = Parity.model_validate_json((folder / "cache_parity.json").read_bytes())
    assert record.reference == "the same weights with a float32 cache"
    assert read_parity(folder).measured_on.endswith("INT8 cache")
    assert quantize(config, model, exported, tokens, fresh()).digest == made.digest

    served = OnnxModel(folder / "model.onnx", 1)
    assert position_bytes(served) * 4 == 512  # a quarter of what float32 takes
    rows = [np.random.default_rng(n).integers(0, 320, size=9 + 4 * n) for n in range(5)]
    alone = []
    for row in rows:
        batch = RaggedBatch(served, 1)
        alone.append([batch.prefill([row])[0].copy()])
        alone[-1] += [batch.step([token])[0].copy() for token in (7, 8, 9)]
        guessing = RaggedBatch(served, 1)
        guessing.prefill([row])
        for wrong in (3, 5):  # and dropped again
            checked = guessing.check_guesses([7, wrong]).copy()
            guessing.rewind(0, len(row) + 1)
            assert np.array_equal(checked[0], alone[-1][1])
            guessing.rewind(0, len(row))
        assert np.array_equal(guessing.check_guesses([7, 8, 9]), np.stack(alone[-1][1:]))
    batch = RaggedBatch(served, 5)
    together = [batch.prefill(rows).copy()]
    together += [batch.step([token] * 5).copy() for token in (7, 8, 9)]
    for place, logits in enumerate(together):
        assert np.abs(logits - np.stack([row[place] for row in alone])).max() < 1e-4


def test_a_cache_that_moves_the_logits_too_far_does_not_pass(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    strict = LOOSE.model_copy(update={"difference_max": 1e-6})
    config = QuantizeConfig(cache="int8", parity=LOOSE, cache_parity=strict)
    made = quantize(config, model, exported, tokens, fresh())
    assert made.stats["passes"] == made.stats["cache_passes"] == 0
    assert not read_parity(fresh().artifact_folder(made)).passes


def test_auto_takes_the_int8_cache_only_where_it_keeps_its_bounds(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    made = [
        quantize(
            QuantizeConfig(cache=cache, parity=LOOSE, cache_parity=bounds),
            model,
            exported,
            tokens,
            fresh(),
        )
        for cache, bounds in (
            ("auto", LOOSE),
            ("int8", LOOSE),
            ("auto", LOOSE.model_copy(update={"difference_max": 1e-6})),
            ("float32", LOOSE),
        )
    ]
    taken, asked, refused, plain = (
        (fresh().artifact_folder(form) / "model.onnx").read_bytes() for form in made
    )
    assert taken == asked != refused == plain
    assert [form.stats["passes"] for form in made] == [1, 1, 1, 1]
    assert made[2].stats["cache_passes"] == 0


def test_auto_takes_the_most_static_activations_that_keep_parity(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    def make(activations: str, kl_max: float = 0.05) -> Export:
        bounds = LOOSE.model_copy(update={"kl_max": kl_max})
        config = QuantizeConfig.model_validate(
            {"activations": activations, "cache": "float32", "parity": bounds}
        )
        return quantize(config, model, exported, tokens, fresh())

    static, head, dynamic = (make(wish) for wish in ("static", "static-head", "dynamic"))
    assert [form.stats["static_matmuls"] for form in (static, head, dynamic)] == [5, 1, 0]
    assert [form.stats["matmuls"] for form in (static, head, dynamic)] == [9, 9, 9]
    kl = [form.stats["kl_mean"] for form in (static, head, dynamic)]
    assert kl[0] > kl[1] > kl[2]
    for bound, expected in (
        (0.05, static),
        ((kl[0] + kl[1]) / 2, head),
        (sum(kl[1:]) / 2, dynamic),
    ):
        graph, same = (
            (fresh().artifact_folder(form) / "model.onnx").read_bytes()
            for form in (make("auto", bound), expected)
        )
        assert graph == same
    refused = make("auto", kl[2] / 2)
    assert refused.stats["static_matmuls"] == refused.stats["passes"] == 0
    assert make("static", (kl[0] + kl[1]) / 2).stats["passes"] == 0


def test_what_drifts_beyond_its_bounds_does_not_pass(
    model: Checkpoint, tokens: Tokens, exported: Export, fresh: New
) -> None:
    strict = LOOSE.model_copy(update={"kl_max": 1e-12})
    made = quantize(QuantizeConfig(parity=strict), model, exported, tokens, fresh())
    assert made.stats["passes"] == 0


def test_blocks_come_back_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(48, 10)).astype(np.float32)
    weight[:32, 3] = 0
    values, scales = quantize_blocks(weight, 32)
    assert values.shape == (10, 2, 32)
    back = ((values.astype(np.float32) - 128) * scales[..., None]).reshape(10, 64)[:, :48].T
    steps = np.repeat(scales, 32, axis=1)[:, :48].T
    assert np.all(np.abs(back - weight) <= steps / 2 + 1e-7)
    assert not back[:32, 3].any()


def test_a_matmul_that_would_be_passed_over_is_an_error(decoder: Decoder) -> None:
    graph = served_graph(weights_of(decoder))
    head = next(node for node in graph.graph.node if node.name.startswith("lm_head"))
    transpose = onnx.helper.make_node("Transpose", [head.input[1]], ["turned"])
    graph.graph.node.append(transpose)
    head.input[1] = "turned"
    with pytest.raises(MillError, match=r"lm_head.*turned, which is no weight"):
        quantize_matmuls(graph, QuantizeConfig())


def test_a_damaged_graph_is_one_clear_line(exported: Export, fresh: New) -> None:
    damaged = fresh().folder / "model.onnx"
    damaged.write_bytes(b"not a graph")
    with pytest.raises(DataError, match=r"model\.onnx cannot be read"):
        read_onnx_graph(damaged)
