"""TensorRT: an engine for GPUs that are not here, and a refusal that leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import MillError
from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.plain_graph import plain_graph
from components.export.onnx.served_graph import served_graph
from components.export.parity import ParityConfig, read_parity
from components.export.tensorrt import export_engine as stage
from components.export.tensorrt.build_engine import build_engine
from components.export.tensorrt.export_engine import EngineConfig, export_engine
from models.decoder import Decoder

SMALL = ParityConfig(
    positions=200, batch=3, steps=4, kl_max=1e-4, top1_min=0.98, difference_max=0.2
)
ABSENT = not any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))
needs_tensorrt = pytest.mark.skipif(ABSENT, reason="neither tensorrt nor tensorrt-rtx installed")
New = Callable[[], Workdir]


@needs_tensorrt
def test_an_engine_is_built_and_its_graph_measured(
    model: Checkpoint, tokens: Tokens, fresh: New, capfd: pytest.CaptureFixture[str]
) -> None:
    config = EngineConfig(batch=2, capabilities=("SM86",), parity=SMALL)
    first, second = (export_engine(config, model, tokens, fresh()) for _ in range(2))
    assert first.stats["passes"] == 1
    assert first.digest == second.digest  # the engine's own bytes differ, and are volatile
    folder = fresh().artifact_folder(first)
    assert (folder / "volatile/model.engine").stat().st_size == first.stats["bytes"] > 10_000
    assert json.loads((folder / "engine.json").read_text())["precision"] == "float16"
    assert json.loads((folder / "volatile/builder.json").read_text())["targets"]
    assert "engine" in read_parity(folder).measured_on
    out = capfd.readouterr()
    assert out.out == ""


@needs_tensorrt
def test_a_build_that_fails_is_one_line_and_seals_nothing(
    model: Checkpoint, tokens: Tokens, fresh: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The served graph's operators are onnxruntime's own, which TensorRT does not know.
    monkeypatch.setattr(stage, "plain_graph", lambda weights, half: served_graph(weights))
    work = fresh()
    sealed = set((work.root / "sealed").iterdir())
    with pytest.raises(MillError, match=r"TensorRT engine not built: .* says: \S+") as caught:
        export_engine(EngineConfig(batch=2, capabilities=("SM86",)), model, tokens, work)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert set((work.root / "sealed").iterdir()) == sealed


@needs_tensorrt
def test_a_graph_that_is_none_names_the_parsers_reason(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(MillError, match="not built") as caught:
        build_engine(path, decoder.shape, batch=2, capabilities=("SM86",))
    assert "\n" not in str(caught.value)


def test_without_tensorrt_the_line_says_what_to_install(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "model.onnx"
    save_graph(plain_graph(weights_of(decoder), half=True), path)
    with pytest.raises(MillError, match="pip install tensorrt-rtx"):
        build_engine(path, decoder.shape, batch=2, capabilities=("SM86",))
