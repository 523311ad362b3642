"""The served graph: parity, equal bytes, and that parity sees a wrong rotary layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.onnx import graph_builder
from components.export.onnx.export_onnx import OnnxConfig, export_onnx
from components.export.onnx.graph_builder import Weights, save_graph, weights_of
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.plain_graph import plain_graph
from components.export.onnx.served_graph import served_graph
from components.export.parity import ParityConfig, measure_parity, parity_cases, read_parity
from components.export.parity_forms import plain_form, served_form
from models.decoder import Decoder
from models.shape import DecoderShape

SMALL = ParityConfig(positions=200, batch=3, steps=4)
New = Callable[[], Workdir]


def interleaved(weights: Weights) -> Weights:
    """The weights for a rotary that turns neighbours instead of halves: wrong here."""
    width = weights.shape.head_width
    order = [part * (width // 2) + pair for pair in range(width // 2) for part in (0, 1)]
    arrays = dict(weights.arrays)
    for name, array in weights.arrays.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            split = array.reshape(-1, width, array.shape[1])
            arrays[name] = split[:, order].reshape(array.shape)
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            arrays[name] = array[order]
    return replace(weights, arrays=arrays)


def test_the_export_passes_and_two_are_equal_to_the_byte(
    model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, fresh: New
) -> None:
    config = OnnxConfig(parity=SMALL)
    first, second = (export_onnx(config, model, tokens, tokenizer, fresh()) for _ in range(2))
    assert first.stats["passes"] == 1
    assert first.stats["kl_mean"] < 1e-10
    assert first.digest == second.digest
    folder = fresh().artifact_folder(first)
    assert read_parity(folder).form == "onnx"
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "tokenizer.json"}
    names = [value.name for value in onnx.load(folder / "model.onnx").graph.input]
    assert names[:6] == [
        "input_ids",
        "seqlens_k",
        "total_sequence_length",
        "query_seqlens",
        "logit_positions",
        "past_key_values.0.key",
    ]
    assert OnnxModel(folder / "model.onnx").context == 48


@pytest.mark.parametrize("kind", ["served", "plain"])
def test_a_wrong_rotary_layout_fails_parity(
    kind: str, work: Workdir, decoder: Decoder, tokens: Tokens, tmp_path: Path
) -> None:
    right = weights_of(decoder)
    cases = parity_cases(decoder, work.artifact_folder(tokens), SMALL)
    verdicts = []
    for weights in (right, interleaved(right)):
        path = tmp_path / "graph.onnx"
        if kind == "served":
            save_graph(served_graph(weights), path)
            form = served_form(path, threads=1)
        else:
            save_graph(plain_graph(weights, half=False), path)
            form = plain_form(path, threads=1)
        verdicts.append(measure_parity(form, cases, SMALL, name=kind, measured_on="here").passes)
    assert verdicts == [True, False]


def test_an_untied_head_and_a_single_kv_head(work: Workdir, tokens: Tokens, tmp_path: Path) -> None:
    shape = DecoderShape(320, 32, 1, 3, 1, 16, 40, 24, tied=False)
    other = Decoder(shape).eval()
    cases = parity_cases(other, work.artifact_folder(tokens), SMALL)
    weights = weights_of(other)
    save_graph(served_graph(weights), tmp_path / "served.onnx")
    save_graph(plain_graph(weights, half=False), tmp_path / "plain.onnx")
    for form in (served_form(tmp_path / "served.onnx", 1), plain_form(tmp_path / "plain.onnx", 1)):
        assert measure_parity(form, cases, SMALL, name="untied", measured_on="here").passes


def test_large_weights_go_to_a_file_beside_the_graph(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_builder, "_INLINE_BYTES", 1000)
    path = tmp_path / "model.onnx"
    size = save_graph(served_graph(weights_of(decoder)), path)
    data = tmp_path / "model.onnx.data"
    assert path.stat().st_size < data.stat().st_size
    assert size == path.stat().st_size + data.stat().st_size
    assert OnnxModel(path).context == 48


def test_a_head_that_the_operator_cannot_take_is_refused_before_anything_is_written(
    work: Workdir,
) -> None:
    odd = Decoder(DecoderShape(64, 16, 1, 2, 1, 8, 16, 16))
    with pytest.raises(ConfigError, match=r"head_width of 8.*multiple of 16"):
        served_graph(weights_of(odd))
