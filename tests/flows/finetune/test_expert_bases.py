"""Bases of experts, Qwen3-MoE and Mixtral, through the fine-tuning pipeline to a registered version."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.text.decoder_files import load_model
from tests.base_models import write_base
from tests.flows.finetune.finetuning import run_finetune, write_chats

pytest.importorskip("transformers", reason="a development dependency")
pytestmark = pytest.mark.slow  # half a minute each


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_experts_go_the_way_of_dense_bases(kind: str, tmp_path: Path) -> None:
    write_base(tmp_path / kind, kind, experts=True)
    write_chats(tmp_path / "chats.jsonl")
    run = run_finetune(tmp_path, kind, "registry")
    shape = load_model(run.folder("sft")).shape
    assert shape.experts is not None
    assert (shape.experts.count, shape.experts.active) == (4, 2)
    assert run.stats("bundle")["passes.hf"] == run.stats("bundle")["passes.onnx"] == 1
