"""A transformers folder as a checkpoint: shards, dtypes, the tokenizer, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Checkpoint, Export, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.hf.export_hf import HfConfig, export_hf, save_hf
from components.export.hf.import_hf import ImportConfig, import_hf, read_hf_model
from components.export.parity import ParityConfig
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.decoder_files import load_model
from models.decoder import Decoder

New = Callable[[], Workdir]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(decoder: Decoder, tmp_path: Path) -> Path:
    """The small model as transformers has it."""
    made = tmp_path / "given"
    made.mkdir()
    save_hf(made, decoder)
    return made


def change(folder: Path, **fields: Any) -> Path:
    """``config.json`` with other fields; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def rewrite(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = load_file(folder / WEIGHTS)
    edit(state)
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    return folder


def cut(folder: Path) -> None:
    """The weights in two files with an index."""
    state = load_file(folder / WEIGHTS)
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2]}
    parts["model-00002-of-00002.safetensors"] = names[1::2]
    for part, held in parts.items():
        save_file({name: state[name] for name in held}, folder / part, {"format": "pt"})
    where = {name: part for part, held in parts.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / WEIGHTS).unlink()


def test_an_export_is_imported_with_its_tokenizer(
    model: Checkpoint, decoder: Decoder, tokens: Tokens, tokenizer: Tokenizer, fresh: New
) -> None:
    bounds = ParityConfig(positions=60, batch=2, steps=2)
    given = export_hf(HfConfig(parity=bounds), model, tokenizer, tokens, fresh())
    made = import_hf(ImportConfig(), given, fresh())
    assert made.stats["tokenizer"] == 1
    back = load_model(fresh().artifact_folder(made))
    assert back.shape == decoder.shape
    for name, parameter in decoder.named_parameters():
        assert torch.equal(parameter, back.get_parameter(name)), name
    assert open_tokenizer(fresh().artifact_folder(made)).vocabulary == 320


def test_shards_are_read_through_their_index(decoder: Decoder, folder: Path) -> None:
    cut(folder)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(read_hf_model(folder)(ids), decoder(ids))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match="names model-00002-of-00002"):
        read_hf_model(folder)


def test_an_index_cannot_point_out_of_its_folder(folder: Path) -> None:
    cut(folder)
    (folder.parent / "other.safetensors").write_bytes(b"")
    index = {"weight_map": {"model.norm.weight": "../other.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"names \.\./other"):
        read_hf_model(folder)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(decoder: Decoder, folder: Path, kind: torch.dtype) -> None:
    rewrite(folder, lambda state: state.update({n: t.to(kind) for n, t in state.items()}))
    back = read_hf_model(folder)
    name = "layers.0.mlp.up_proj.weight"
    weight, wanted = back.get_parameter(name), decoder.get_parameter(name).to(kind).float()
    assert weight.dtype == torch.float32
    assert torch.equal(weight, wanted)


def test_older_spellings_are_read(decoder: Decoder, folder: Path) -> None:
    scaling = {"type": "linear", "factor": 2.0}
    change(folder, rope_parameters=None, rope_scaling=scaling, rope_theta=5e4, head_dim=16)
    shape = read_hf_model(folder).shape
    assert (shape.rope.kind, shape.rope.factor, shape.rope_base) == ("linear", 2.0, 5e4)


def test_a_written_tied_head_must_be_the_embeddings(folder: Path) -> None:
    table = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]
    rewrite(folder, lambda state: state.update({"lm_head.weight": table.clone()}))
    read_hf_model(folder)
    rewrite(folder, lambda state: state.update({"lm_head.weight": table + 1}))
    with pytest.raises(ConfigError, match=r"lm_head\.weight differs"):
        read_hf_model(folder)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2': known are qwen3, llama"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_attention_heads": 3}, r"heads \(3\) must be a multiple of kv_heads \(2\)"),
        ({"hidden_size": "48"}, "hidden_size is '48': it must be a whole number"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type is 'longrope'"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            r"partial_rotary_factor is 0\.5",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"use_sliding_window": True, "sliding_window": 8, "layer_types": ["x", "y"]}, "'x'"),
        ({"hidden_size": 40}, r"is \(320, 48\), config.json asks for \(320, 40\)"),
    ],
)
def test_a_config_that_the_decoder_cannot_hold(
    folder: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        read_hf_model(change(folder, **fields))


def test_tensors_that_are_missing_unknown_or_no_floats(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    kept = load_file(folder / WEIGHTS)

    def refused(told: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
        save_file(kept, folder / WEIGHTS, {"format": "pt"})
        with pytest.raises(ConfigError, match=told):
            read_hf_model(rewrite(folder, edit))

    refused(f"tensor {name} is missing, 1 of", lambda state: state.pop(name))
    extra = torch.zeros(4)
    refused(
        "tensor model.layers.0.ve has no place", lambda s: s.update({"model.layers.0.ve": extra})
    )
    refused(f"{name} is int8", lambda state: state.update({name: state[name].to(torch.int8)}))


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="a pickle, which is never opened"):
        read_hf_model(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_damaged_files_are_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_hf_model(folder)


def test_a_foreign_tokenizer_is_left_out_or_refused(
    work: Workdir, folder: Path, fresh: New
) -> None:
    given = Export(
        name=str(folder.relative_to(work.root))
        if folder.is_relative_to(work.root)
        else str(folder),
        digest="0" * 64,
        lineage={"component": "tests", "code": "", "config": ""},  # type: ignore[arg-type]
    )
    made = import_hf(ImportConfig(), given, fresh())
    assert made.stats["tokenizer"] == 0
    assert not (fresh().artifact_folder(made) / "tokenizer.json").exists()
    with pytest.raises(ConfigError, match="the tokenizer does not fit"):
        import_hf(ImportConfig(tokenizer=True), given, fresh())
