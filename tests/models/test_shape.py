"""Shapes: counted exactly, kept as JSON, refused with both numbers; the presets by name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import pytest
import torch

from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape, RopeScaling, ShapeExtras, shape_from_json
from models.shape_presets import PRESETS
from tests.models.variants import EXPERTS, VARIANTS


@dataclass(frozen=True)
class PublishedSize:
    """Number of parameters that its publisher states."""

    parameters: int
    within: float
    """Relative deviation allowed to the preset: 0 where the shape is the published one."""
    source: str


PUBLISHED = {
    "124m": PublishedSize(
        124_439_808, 0.02, "gpt2 (learnt positions, biases, 50,257 tokens): ours is as large"
    ),
    "350m": PublishedSize(354_823_168, 0.02, "gpt2-medium: ours is as large"),
    "1b": PublishedSize(1_235_814_400, 0.0, "the checkpoint of Llama-3.2-1B"),
    "7b": PublishedSize(6_738_415_616, 0.0, "the checkpoint of Llama-2-7b-hf"),
    "13b": PublishedSize(13_015_864_320, 0.0, "the checkpoint of Llama-2-13b-hf"),
    "70b": PublishedSize(68_976_648_192, 0.0, "the checkpoint of Llama-2-70b-hf"),
    "8x7b": PublishedSize(46_702_792_704, 0.0, "the checkpoint of Mixtral-8x7B-v0.1"),
    "grok-1": PublishedSize(
        314_000_000_000, 0.01, "its README; 314.9 B in the layers, 0.8 B in the embeddings"
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_counted_exactly(name: str) -> None:
    shape = VARIANTS[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in Decoder(shape).parameters()) == shape.parameters


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_that_are_published(name: str) -> None:
    shape = PRESETS[name]
    with torch.device("meta"):
        model = Decoder(shape)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    counted = sum(p.numel() for p in model.parameters())
    assert counted == shape.parameters
    if name in PUBLISHED:
        known = PUBLISHED[name]
        assert abs(counted / known.parameters - 1) <= known.within, known.source


def test_tokens_meet_their_own_experts_alone() -> None:
    shape = PRESETS["8x7b"]
    assert round(shape.active_parameters / 1e9, 1) == 12.9  # what Mistral states
    assert PRESETS["7b"].active_parameters == PRESETS["7b"].parameters


@pytest.mark.parametrize("shape", [*VARIANTS.values(), *PRESETS.values()])
def test_json_and_back(shape: DecoderShape) -> None:
    assert shape_from_json(json.loads(json.dumps(asdict(shape)))) == shape


def test_json_of_before_reads_as_the_same_decoder() -> None:
    before = {"vocabulary": 300, "width": 48, "layers": 2, "heads": 4, "kv_heads": 2}
    before |= {"head_width": 16, "hidden": 96, "context": 64, "tied": True}
    shape = shape_from_json({**before, "rope_base": 10_000.0, "norm_eps": 1e-6})
    assert shape == DecoderShape(300, 48, 2, 4, 2, 16, 96, 64)
    assert (shape.qk_norm, shape.experts, shape.window) == (True, None, None)
    with pytest.raises(TypeError, match="colour"):
        shape_from_json({"colour": 3})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"heads": 3, "kv_heads": 2}, r"heads \(3\) must be a multiple of kv_heads \(2\)"),
        ({"kv_heads": 0}, r"kv_heads \(0\) must be at least 1"),
        ({"head_width": 7}, r"head_width \(7\) must be even"),
        ({"window": 0}, r"window \(0\)"),
        ({"window": 4, "full_layers": (6,)}, r"6 is no layer, there are layers \(6\)"),
        (
            {"extras": ShapeExtras(logit_cap=15.0)},
            r"Qwen3ForCausalLM cannot hold extras.logit_cap 15",
        ),
        (
            {"extras": ShapeExtras(activation="relu2")},
            "mode exportable: .* relu2; set mode: research",
        ),
        ({"qk_norm": False, "window": 8}, "LlamaForCausalLM cannot hold window 8"),
        ({"experts": replace(EXPERTS, balance="bias")}, "experts.balance bias"),
        ({"experts": replace(EXPERTS, shared=8)}, "experts.shared 8"),
    ],
)
def test_a_shape_that_cannot_be(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DecoderShape(**fields)  # type: ignore[arg-type]


def test_experts_and_scaling_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"active \(3\) must be within 1 and experts.count \(2\)"):
        ExpertsShape(count=2, active=3)
    with pytest.raises(ValueError, match=r"rope.original \(0\) must say .* yarn"):
        RopeScaling(kind="yarn", factor=4.0)
    with pytest.raises(ValueError, match=r"rope.factor \(0.5\)"):
        RopeScaling(kind="linear", factor=0.5)


def test_research_says_what_no_class_holds() -> None:
    left = VARIANTS["research"].unexportable
    assert [name.split()[0] for name in left] == [
        "extras.value_embeddings",
        "extras.post_norms",
        "extras.attention_cap",
        "extras.logit_cap",
        "extras.embedding_scale",
        "extras.output_scale",
    ]
    assert replace(VARIANTS["dense"], mode="research").unexportable == ()
