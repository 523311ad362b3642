"""Rows of several adapters in one batch: each as its merged model, those without as the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.core.errors import ConfigError
from components.export.onnx.adapter_files import read_adapter
from components.export.onnx.adapter_graph import MAX_ADAPTERS, add_served_adapters
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.onnx.served_graph import served_graph
from components.export.onnx.static_activations import measure_ranges, quantize_normed_products
from components.export.quantize import QuantizeConfig, quantize_matmuls, read_onnx_graph
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape
from tests.export.onnx.adapter_folders import edit_config, edit_weights, write_adapter

Logits = NDArray[np.float32]
TARGETS = (("all-linear",), ("q_proj", "down_proj"), ("layers.1.self_attn.v_proj", "up_proj"))
RANKS = (4, 7, 2)


def save_base(decoder: Decoder, path: Path, *, int8: bool, static: bool = False) -> None:
    graph = served_graph(weights_of(decoder))
    if int8:
        if static:
            windows = [np.array(text) for text in texts(6)]
            quantize_normed_products(graph, measure_ranges(graph, windows))
        quantize_matmuls(graph, QuantizeConfig())
    save_graph(graph, path)


def open_adapted(base: Path, folders: Sequence[Path]) -> OnnxModel:
    graph = read_onnx_graph(base)
    add_served_adapters(graph, [read_adapter(folder.name, folder) for folder in folders])
    path = base.with_name("adapted.onnx")
    save_graph(graph, path)
    return OnnxModel(path, threads=1)


def texts(count: int) -> list[list[int]]:
    draw = np.random.default_rng(5)
    return [draw.integers(0, 320, size=20 + 3 * row).tolist() for row in range(count)]


def decode(model: OnnxModel, rows: Sequence[tuple[int, list[int]]]) -> list[Logits]:
    """Logits after the prompt and each of its last four tokens, fed one by one together."""
    batch = RaggedBatch(model, slots=len(rows))
    for adapter, text in rows:
        row = batch.join(adapter) if adapter else batch.join()
        batch.feed(row, [text[:-4]])
    steps = [batch.step([text[at] for _, text in rows]).copy() for at in range(-4, 0)]
    return [np.stack([step[row] for step in steps]) for row in range(len(rows))]


def expected(model: Decoder, text: list[int]) -> Logits:
    with torch.inference_mode():
        logits: Logits = model(torch.tensor([text]))[0, -4:].numpy()
    return logits


@pytest.fixture
def merged(tmp_path: Path, decoder: Decoder) -> list[Decoder]:
    """Models with the adapters ``a1``, ``a2`` and ``a3`` of ``tmp_path`` merged."""
    return [
        write_adapter(tmp_path / f"a{n}", decoder, rank=rank, seed=n, targets=targets)
        for n, (rank, targets) in enumerate(zip(RANKS, TARGETS, strict=True), start=1)
    ]


@pytest.fixture
def folders(tmp_path: Path, merged: list[Decoder]) -> list[Path]:
    return [tmp_path / f"a{n}" for n in range(1, len(merged) + 1)]


def test_three_adapters_and_the_base_in_one_batch_are_their_merged_models(
    tmp_path: Path, decoder: Decoder, merged: list[Decoder], folders: list[Path]
) -> None:
    save_base(decoder, tmp_path / "model.onnx", int8=False)
    model = open_adapted(tmp_path / "model.onnx", folders)
    rows = list(zip((2, 0, 3, 1), texts(4), strict=True))
    logits = decode(model, rows)
    for (adapter, text), found in zip(rows, logits, strict=True):
        reference = expected([decoder, *merged][adapter], text)
        assert np.abs(found - reference).max() < 1e-4, adapter
    assert np.abs(logits[0] - expected(decoder, rows[0][1])).max() > 0.1


@pytest.mark.parametrize(("int8", "static"), [(False, False), (True, False), (True, True)])
def test_a_batch_answers_as_single_rows_and_as_the_base_without_adapters(
    tmp_path: Path, decoder: Decoder, folders: list[Path], int8: bool, static: bool
) -> None:
    path = tmp_path / "model.onnx"
    save_base(decoder, path, int8=int8, static=static)
    model = open_adapted(path, folders)
    rows = list(zip((0, 1, 2, 3, 0), texts(5), strict=True))
    for row, found in zip(rows, decode(model, rows), strict=True):
        single = decode(model, [row])[0]
        assert np.abs(found - single).max() < 1e-4
        assert (found.argmax(-1) == single.argmax(-1)).all()
        if row[0] == 0:
            plain = decode(OnnxModel(path, threads=1), [(0, row[1])])[0]
            assert (single == plain).all()


@pytest.mark.parametrize("static", [False, True])
def test_over_int8_an_adapter_mostly_answers_as_the_merged_model(
    tmp_path: Path, decoder: Decoder, merged: list[Decoder], folders: list[Path], static: bool
) -> None:
    save_base(decoder, tmp_path / "model.onnx", int8=True, static=static)
    model = open_adapted(tmp_path / "model.onnx", folders)
    agreed = total = 0
    for text in texts(8):
        for adapter in (1, 2, 3):
            found = decode(model, [(adapter, text)])[0].argmax(-1)
            agreed += int((found == expected(merged[adapter - 1], text).argmax(-1)).sum())
            total += len(found)
    assert agreed / total > 0.9


def test_a_row_takes_its_adapter_along_when_it_moves(
    tmp_path: Path, decoder: Decoder, merged: list[Decoder], folders: list[Path]
) -> None:
    save_base(decoder, tmp_path / "model.onnx", int8=False)
    batch = RaggedBatch(open_adapted(tmp_path / "model.onnx", folders), slots=3)
    text = texts(1)[0]
    for adapter in (1, 0, 2):
        batch.feed(batch.join(adapter), [text[:-1]])
    assert batch.leave(0) == 2
    moved = batch.step([text[-1], text[-1]])
    assert np.abs(moved[0] - expected(merged[1], text)[-1]).max() < 1e-4
    row = batch.join()  # in the slot that adapter 2 had
    logits = batch.feed(row, [text])[0]
    assert np.abs(logits[-1] - expected(decoder, text)[-1]).max() < 1e-4


def test_a_mixture_of_experts_takes_an_adapter_on_its_attention(tmp_path: Path) -> None:
    torch.manual_seed(3)
    shape = DecoderShape(
        vocabulary=320, width=48, layers=1, heads=4, kv_heads=2, head_width=16, hidden=96,
        context=48, experts=ExpertsShape(count=4, active=2, hidden=32),
    )  # fmt: skip
    model = Decoder(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    merged = write_adapter(tmp_path / "a", model, targets=("q_proj", "o_proj"))
    save_base(model, tmp_path / "model.onnx", int8=False)
    text = texts(1)[0]
    found = decode(open_adapted(tmp_path / "model.onnx", [tmp_path / "a"]), [(1, text)])[0]
    assert np.abs(found - expected(merged, text)).max() < 1e-4


def test_rslora_scales_by_the_root_of_the_rank(tmp_path: Path, decoder: Decoder) -> None:
    write_adapter(tmp_path / "a", decoder, rank=4)
    plain = read_adapter("a", tmp_path / "a").layers["layers.0.self_attn.q_proj"]
    edit_config(tmp_path / "a", use_rslora=True)
    root = read_adapter("a", tmp_path / "a").layers["layers.0.self_attn.q_proj"]
    assert np.allclose(root.up, 2 * plain.up)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, decoder: Decoder) -> None:
    save_base(decoder, tmp_path / "model.onnx", int8=True)
    torch.manual_seed(1)
    wide = Decoder(DecoderShape(vocabulary=320, width=64, layers=2, hidden=96, context=48))
    write_adapter(tmp_path / "wide", wide, targets=("down_proj",))
    with pytest.raises(
        ConfigError, match=r"--adapter wide is of another base: \S+down_proj is 96 x 64, .* 96 x 48"
    ):
        open_adapted(tmp_path / "model.onnx", [tmp_path / "wide"])
    deep = Decoder(
        DecoderShape(
            vocabulary=320, width=48, layers=3, heads=4, kv_heads=2, head_width=16, hidden=96,
            context=48,
        )
    )  # fmt: skip
    write_adapter(tmp_path / "deep", deep, targets=("layers.2.self_attn.o_proj",))
    with pytest.raises(ConfigError, match=r"has no layer layers\.2\.self_attn\.o_proj to adapt"):
        open_adapted(tmp_path / "model.onnx", [tmp_path / "deep"])
    with pytest.raises(ConfigError, match=f"65 adapters; 1 to {MAX_ADAPTERS}"):
        open_adapted(tmp_path / "model.onnx", [tmp_path / "deep"] * 65)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3 is not served"),
        ({"use_dora": True}, "has use_dora; only plain LoRA"),
        ({"alpha_pattern": {"q_proj": 3}}, "has alpha_pattern"),
        ({"modules_to_save": ["embed_tokens"]}, "has modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "has init_lora_weights pissa_niter_4"),
        ({"bias": "lora_only"}, "has bias"),
        ({"r": 0}, "has r 0"),
        ({"r": "4"}, "has r 4"),
        ({"lora_alpha": None}, "lora_alpha None"),
        ({"r": 8}, "which are not of rank 8"),
    ],
)
def test_what_is_no_plain_lora_is_refused(
    tmp_path: Path, decoder: Decoder, fields: dict[str, object], says: str
) -> None:
    write_adapter(tmp_path / "a", decoder)
    edit_config(tmp_path / "a", **fields)
    with pytest.raises(ConfigError, match=says) as refused:
        read_adapter("a", tmp_path / "a")
    assert str(refused.value).startswith("--adapter a: ")
    assert "\n" not in str(refused.value)


def test_damaged_and_other_weights_are_refused(tmp_path: Path, decoder: Decoder) -> None:
    folder = tmp_path / "a"
    write_adapter(folder, decoder)
    whole = (folder / "adapter_model.safetensors").read_bytes()

    def refusal() -> str:
        with pytest.raises(ConfigError) as refused:
            read_adapter("a", folder)
        (folder / "adapter_model.safetensors").write_bytes(whole)
        return str(refused.value)

    place = "base_model.model.model.layers.0.self_attn.q_proj"
    head = "base_model.model.lm_head"
    edit_weights(
        folder, lambda t: {**t, f"{head}.lora_A.weight": t[f"{place}.lora_A.weight"].clone()}
    )
    assert "it adapts lm_head; embeddings and heads" in refusal()
    edit_weights(folder, lambda t: {**t, f"{place}.lora_magnitude_vector": torch.zeros(3)})
    assert "lora_magnitude_vector, which is no LoRA" in refusal()
    edit_weights(folder, lambda t: {k: v for k, v in t.items() if not k.endswith("B.weight")})
    assert "has no lora_B" in refusal()
    edit_weights(folder, lambda t: {k: v * float("nan") for k, v in t.items()})
    assert "holds a value that is no number" in refusal()
    edit_weights(folder, lambda t: {})
    assert "is empty" in refusal()
    (folder / "adapter_model.safetensors").write_bytes(whole[:100])
    assert "adapter_model.safetensors cannot be read" in refusal()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "a pickle (adapter_model.bin) is never opened" in refusal()
    with pytest.raises(ConfigError, match=r"holds no adapter_config\.json"):
        read_adapter("a", tmp_path)


def test_a_checkpoints_folder_stands_for_the_adapter_in_it(
    tmp_path: Path, decoder: Decoder
) -> None:
    write_adapter(tmp_path / "checkpoint" / "adapter", decoder, digest="f00d")
    adapter = read_adapter("a", tmp_path / "checkpoint")
    assert (adapter.base_digest, adapter.rank) == ("f00d", 4)
