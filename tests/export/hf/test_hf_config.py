"""Every class of transformers on random shapes: equal logits, there and back, and what is refused.

The bound of 1e-10 nats is far below what a wrong rotary layout does to these weights.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import ConfigError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.export.hf.export_hf import measure_hf_parity, save_hf
from components.export.hf.hf_config import hf_config, read_hf_config
from components.export.hf.import_hf import read_hf_model
from components.export.parity import ParityConfig
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape, HfClass, RopeScaling, ShapeExtras
from models.shape_presets import GROK1, PRESETS

CLASSES: tuple[HfClass, ...] = (
    "Qwen3ForCausalLM",
    "LlamaForCausalLM",
    "Qwen3MoeForCausalLM",
    "MixtralForCausalLM",
)
SCALINGS = {
    "none": RopeScaling(),
    "linear": RopeScaling(kind="linear", factor=3.0),
    "yarn": RopeScaling(kind="yarn", factor=4.0, original=1024),
    "llama3": RopeScaling(kind="llama3", factor=8.0, original=32),
}
BOUND = 1e-10


def random_shape(name: HfClass, scaling: str, seed: int) -> DecoderShape:
    """A small shape of a class; heads, widths, window and experts are drawn."""
    draw = random.Random(f"{name} {scaling} {seed}")
    kv_heads = draw.choice((1, 2))
    heads = kv_heads * draw.choice((1, 2, 3))
    layers = draw.choice((1, 2, 3))
    mixture = name in ("Qwen3MoeForCausalLM", "MixtralForCausalLM")
    window = None if name == "LlamaForCausalLM" else draw.choice((None, 5, 9))
    full = (0,) if window and name == "Qwen3ForCausalLM" and draw.random() < 0.5 else ()
    count = draw.choice((2, 4, 7))
    experts = ExpertsShape(
        count=count,
        active=draw.randint(1, 2),
        hidden=draw.choice((16, 40)),
        norm_topk=name == "MixtralForCausalLM" or draw.random() < 0.5,
    )
    return DecoderShape(
        vocabulary=draw.choice((67, 128)),
        width=heads * draw.choice((8, 12)),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=draw.choice((8, 16)),
        hidden=experts.hidden if mixture else draw.choice((24, 56)),
        context=96,
        rope_base=draw.choice((1e3, 1e4, 5e5)),
        norm_eps=draw.choice((1e-5, 1e-6)),
        tied=draw.random() < 0.5,
        qk_norm=name.startswith("Qwen3"),
        rope=SCALINGS[scaling],
        window=window,
        full_layers=full,
        experts=experts if mixture else None,
    )


def strong(shape: DecoderShape, seed: int = 0) -> Decoder:
    """Weights far from their first values, so that a wrong permutation shows."""
    torch.manual_seed(seed)
    model = Decoder(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
            else:
                parameter.uniform_(0.5, 1.5)
        model.embed_tokens.weight.normal_()
    return model


def their_model(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype="float32"
    )
    return model.eval()


def divergence(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Mean KL(ours || theirs) in nats, float64."""
    p, q = (logits.double().log_softmax(-1) for logits in (ours, theirs))
    return float((p.exp() * (p - q)).sum(-1).mean())


def some_ids(shape: DecoderShape, length: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, shape.vocabulary, (2, length), generator=generator)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", CLASSES)
def test_transformers_computes_the_same(name: HfClass, scaling: str, tmp_path: Path) -> None:
    for seed in range(2):
        shape = random_shape(name, scaling, seed)
        model, ids = strong(shape, seed), some_ids(shape)
        save_hf(tmp_path, model)
        theirs = their_model(tmp_path)
        assert type(theirs).__name__ == shape.hf_class == name
        with torch.no_grad():
            ours = model(ids)
            assert ours.softmax(-1).max() > 0.1  # far from uniform
            found = divergence(ours, theirs(ids).logits)
        assert abs(found) < BOUND, shape


@pytest.mark.parametrize("name", CLASSES)
def test_an_interleaved_rotary_layout_fails_the_bound(name: HfClass, tmp_path: Path) -> None:
    shape = replace(random_shape(name, "none", 0), window=None, full_layers=())
    model, ids = strong(shape), some_ids(shape)
    save_hf(tmp_path, model)
    state = load_file(tmp_path / "model.safetensors")
    half = shape.head_width // 2
    for key, tensor in state.items():
        if key.endswith(("q_proj.weight", "k_proj.weight")):
            halves = tensor.view(-1, 2, half, tensor.shape[1])
            state[key] = halves.transpose(1, 2).reshape(tensor.shape).contiguous()
        if key.endswith(("q_norm.weight", "k_norm.weight")):
            state[key] = tensor.view(2, half).T.reshape(-1).contiguous()
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with torch.no_grad():
        found = divergence(model(ids), their_model(tmp_path)(ids).logits)
    assert found > 1e3 * BOUND


@pytest.mark.parametrize("scaling", ["none", "yarn"])
@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_far_positions_agree_to_the_bound(name: HfClass, scaling: str, tmp_path: Path) -> None:
    """Rounding one frequency otherwise than transformers costs 1e-5 nats out there."""
    shape = replace(random_shape(name, scaling, 3), window=None, full_layers=())
    shape = replace(shape, context=131_072, head_width=64)
    model = strong(shape)
    save_hf(tmp_path, model)
    theirs, ids = their_model(tmp_path), some_ids(shape, 64)
    places = (torch.arange(64) * 2048).expand_as(ids)
    with torch.no_grad():
        ours = model.logits(model.hidden(ids, positions_bt=places))
        found = divergence(ours, theirs(ids, position_ids=places).logits)
    assert abs(found) < BOUND


@pytest.mark.parametrize("name", CLASSES)
def test_what_transformers_decodes_with_its_cache_is_what_we_decode(
    name: HfClass, tmp_path: Path
) -> None:
    from models.generate import generate_answers

    shape = replace(random_shape(name, "yarn", 1), context=96)
    model = strong(shape)
    save_hf(tmp_path, model)
    prompt = [5, 9, 20, 3, 11, 8, 2]
    ours = generate_answers(model, [prompt, [1, 2]], max_new=20, stop_ids=(-1,), temperature=0)[
        0
    ].tokens
    said = their_model(tmp_path).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
    )
    assert said[0, len(prompt) :].tolist() == ours


@pytest.mark.parametrize("name", CLASSES)
def test_there_and_back_is_the_same_model(name: HfClass, tmp_path: Path) -> None:
    for scaling in SCALINGS:
        shape = random_shape(name, scaling, 5)
        model = strong(shape)
        save_hf(tmp_path, model)
        back = read_hf_model(tmp_path)
        assert back.shape == shape
        for key, parameter in model.named_parameters():
            assert torch.equal(parameter, back.get_parameter(key)), key


def test_presets_there_and_back() -> None:
    for name, shape in PRESETS.items():
        if shape is not GROK1:
            config = hf_config(shape, "bfloat16")
            assert config["architectures"] == [shape.hf_class], name


def test_research_is_refused_by_the_names_of_what_would_be_dropped() -> None:
    with pytest.raises(ConfigError, match="MixtralForCausalLM has no place for") as told:
        hf_config(GROK1, "float32")
    for field in ("post_norms", "attention_cap", "embedding_scale", "output_scale", "router_cap"):
        assert field in str(told.value)
    held = DecoderShape(mode="research")
    assert hf_config(held, "float32")["model_type"] == "qwen3"
    with pytest.raises(ConfigError, match="logit_cap 15"):
        hf_config(replace(held, extras=ShapeExtras(logit_cap=15.0)), "float32")
    windowed = DecoderShape(mode="research", qk_norm=False, window=8)
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no place for window 8"):
        hf_config(windowed, "float32")


def test_a_refused_shape_writes_nothing(tmp_path: Path) -> None:
    shape = replace(random_shape("Qwen3ForCausalLM", "none", 0), mode="research", window=None)
    shape = replace(shape, full_layers=(), extras=ShapeExtras(value_embeddings=True))
    with pytest.raises(ConfigError, match="value_embeddings"):
        save_hf(tmp_path, Decoder(shape))
    assert not list(tmp_path.iterdir())


def test_their_config_of_every_class_reads_as_the_shape(tmp_path: Path) -> None:
    for name in CLASSES:
        shape = random_shape(name, "llama3", 2)
        save_hf(tmp_path, strong(shape))
        theirs = their_model(tmp_path)
        theirs.config.save_pretrained(tmp_path / name)
        assert read_hf_config(tmp_path / name) == shape


@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "MixtralForCausalLM"])
def test_parity_of_a_window_is_measured_row_by_row(
    name: HfClass, work: Workdir, tokens: Tokens, tmp_path: Path
) -> None:
    """In a padded batch transformers counts padding into the window."""
    pytest.importorskip("transformers", reason="a development dependency")
    shape = random_shape(name, "none", 0)
    model = strong(replace(shape, vocabulary=320, context=40, window=6, full_layers=()))
    save_hf(tmp_path, model)
    bounds = ParityConfig(positions=120, batch=3, steps=6, kl_max=BOUND)
    parity = measure_hf_parity(tmp_path, model, work.artifact_folder(tokens), bounds)
    assert parity.measured_on.startswith("transformers")
    assert parity.passes, str(parity)
