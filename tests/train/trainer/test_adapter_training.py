"""Adapters on disk: what PEFT reads, what comes back, and what is of another model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Adapter, Checkpoint
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.train.merge import MergeConfig, merge
from components.train.trainer.adapter_training import (
    LoraConfig,
    add_adapters,
    load_adapter,
    save_adapter,
)
from models.decoder import Decoder
from models.lora import lora_layers
from models.shape import DecoderShape
from tests.train.conftest import NANO, sealed_model

IDS = torch.randint(0, NANO.vocabulary, (2, 12), generator=torch.Generator().manual_seed(0))


def learnt(model: Decoder, config: LoraConfig) -> Decoder:
    add_adapters(model, config, 0, "adapt.lora")
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.weight.normal_(std=0.1)
    return model


@pytest.fixture
def model(store: Path) -> Checkpoint:
    return sealed_model(store)


@pytest.fixture
def saved(store: Path, model: Checkpoint) -> Path:
    """A learnt adapter's folder."""
    config = LoraConfig(rank=4, rslora=True, targets=("q_proj", "down_proj"))
    folder = store.parent / "adapter"
    save_adapter(folder, learnt(load_model(store / model.name), config), config, model.digest)
    return folder


def adopted(store: Path, folder: Path) -> Adapter:
    work = Workdir.temporary(store)
    for path in folder.iterdir():
        (work.folder / path.name).write_bytes(path.read_bytes())
    return work.seal(Adapter)


def test_names_and_config_are_peft_s(saved: Path) -> None:
    state = load_file(saved / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.down_proj"
    assert state[f"{name}.lora_A.weight"].shape == (4, 64)
    assert state[f"{name}.lora_B.weight"].shape == (32, 4)
    assert len(state) == 2 * 2 * NANO.layers
    told = json.loads((saved / "adapter_config.json").read_text())
    assert (told["peft_type"], told["r"], told["use_rslora"]) == ("LORA", 4, True)
    assert "model.layers.0.self_attn.q_proj" in told["target_modules"]


def test_peft_computes_the_same(saved: Path, store: Path, model: Checkpoint) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from components.export.hf.export_hf import save_hf

    folder = store.parent / "hf"
    folder.mkdir()
    save_hf(folder, load_model(store / model.name))
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = peft.PeftModel.from_pretrained(base, str(saved)).eval()
    ours = load_model(store / model.name)
    load_adapter(saved, ours, model.digest)
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, ours(IDS), rtol=1e-5, atol=1e-5)


def test_a_saved_adapter_merges_into_what_was_learnt(
    saved: Path, store: Path, model: Checkpoint
) -> None:
    config = LoraConfig(rank=4, rslora=True, targets=("q_proj", "down_proj"))
    plain = load_model(store / model.name)
    torch.manual_seed(0)
    apart = load_model(store / model.name)
    load_adapter(saved, apart)
    made = merge(MergeConfig(), model, adopted(store, saved), Workdir.temporary(store))
    together = load_model(store / made.name)
    assert made.stats["adapted_layers"] == 2 * NANO.layers
    assert not torch.allclose(apart(IDS), plain(IDS), atol=1e-3)
    torch.testing.assert_close(together(IDS), apart(IDS), rtol=1e-5, atol=1e-5)
    assert config.rank == next(iter(lora_layers(apart).values())).lora_A.weight.shape[0]


def test_an_adapter_of_another_checkpoint_is_refused_unless_told(saved: Path, store: Path) -> None:
    work = Workdir.temporary(store)
    (work.folder / "note").write_text("another digest")
    for path in (store / sealed_model(store).name).iterdir():
        if path.name != "artifact.json":
            (work.folder / path.name).write_bytes(path.read_bytes())
    other, adapter = work.seal(Checkpoint), adopted(store, saved)
    with pytest.raises(ConfigError, match="another model: it was learnt on the checkpoint"):
        merge(MergeConfig(), other, adapter, Workdir.temporary(store))
    merge(MergeConfig(same_base=False), other, adapter, Workdir.temporary(store))


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"hidden": 96}, r"down_proj.lora_A.weight is \(4, 64\), this model needs \(4, 96\)"),
        ({"layers": 1}, "'layers.1.mlp.down_proj' names no linear layer; there are q_proj"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(
    saved: Path, over: dict[str, int], words: str
) -> None:
    model = Decoder(DecoderShape(**{**NANO.__dict__, **over}))
    with pytest.raises(ConfigError, match=f"adapter is of another model: .*{words}"):
        load_adapter(saved, model)


def test_damaged_and_foreign_adapters_are_refused(saved: Path) -> None:
    weights, config = saved / "adapter_model.safetensors", saved / "adapter_config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "use_dora": True}))
    with pytest.raises(DataError, match="has use_dora; only plain LoRA"):
        load_adapter(saved, Decoder(NANO))
    config.write_text("[]")
    with pytest.raises(DataError, match="is no JSON object"):
        load_adapter(saved, Decoder(NANO))
    save_file({"prompt_embeddings": torch.zeros(2)}, weights)
    with pytest.raises(DataError, match="prompt_embeddings, which is no LoRA"):
        load_adapter(saved, Decoder(NANO))
    weights.write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load_adapter(saved, Decoder(NANO))
