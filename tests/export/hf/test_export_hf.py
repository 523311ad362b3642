"""The transformers folder: what transformers computes and how it writes a conversation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.store.artifact import Checkpoint, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.hf.export_hf import HfConfig, export_hf, measure_hf_parity, save_hf
from components.export.parity import ParityConfig, read_parity
from components.text.chat.chat_tokenizer import open_tokenizer
from models.decoder import Decoder
from models.shape import DecoderShape

SMALL = ParityConfig(positions=200, batch=3, steps=4, kl_max=1e-10)
New = Callable[[], Workdir]


def test_the_folder_is_the_same_model(
    model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, fresh: New
) -> None:
    made = export_hf(HfConfig(parity=SMALL), model, tokenizer, tokens, fresh())
    assert made.stats["passes"] == 1
    assert made.stats["kl_mean"] < 1e-10
    folder = fresh().artifact_folder(made)
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "parity.json",
    }
    names = load_file(folder / "model.safetensors").keys()
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_transformers_loads_it_and_agrees_on_the_chat_template(
    model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, fresh: New
) -> None:
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    made = export_hf(HfConfig(parity=SMALL), model, tokenizer, tokens, fresh())
    folder = fresh().artifact_folder(made)
    assert read_parity(folder).measured_on.startswith("transformers")
    fast = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    turns = [("user", "What does dumps do?"), ("assistant", "It dumps."), ("user", "Why?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = fast(text, add_special_tokens=False)["input_ids"]
    assert ids == open_tokenizer(folder).encode_prompt(messages)
    assert fast.eos_token_id == 4


def test_a_wrong_rotary_layout_fails_parity(
    work: Workdir, decoder: Decoder, tokens: Tokens, tmp_path: Path
) -> None:
    save_hf(tmp_path, decoder)
    assert measure_hf_parity(tmp_path, decoder, work.artifact_folder(tokens), SMALL).passes
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    for name, tensor in state.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            halves = tensor.view(-1, 2, 8, tensor.shape[1])
            state[name] = halves.transpose(1, 2).reshape(tensor.shape).contiguous()
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            state[name] = tensor.view(2, 8).T.reshape(-1).contiguous()
    save_file(state, path, {"format": "pt"})
    assert not measure_hf_parity(tmp_path, decoder, work.artifact_folder(tokens), SMALL).passes


def test_without_transformers_the_tensors_are_compared_and_it_says_so(
    work: Workdir,
    decoder: Decoder,
    tokens: Tokens,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    save_hf(tmp_path, decoder)
    parity = measure_hf_parity(tmp_path, decoder, work.artifact_folder(tokens), SMALL)
    assert parity.passes
    assert "transformers is not installed" in parity.measured_on


def test_bfloat16_halves_the_file_and_has_bounds_of_its_own(
    model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, fresh: New
) -> None:
    made = export_hf(HfConfig(precision="bfloat16"), model, tokenizer, tokens, fresh())
    state = load_file(fresh().artifact_folder(made) / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert read_parity(fresh().artifact_folder(made)).bounds["kl_max"] == 1e-2
    assert made.stats["kl_mean"] > 1e-10


def test_an_untied_head_is_written(work: Workdir, tokens: Tokens, tmp_path: Path) -> None:
    other = Decoder(DecoderShape(320, 32, 1, 2, 1, 8, 40, 24, tied=False)).eval()
    save_hf(tmp_path, other)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert measure_hf_parity(tmp_path, other, work.artifact_folder(tokens), SMALL).passes
