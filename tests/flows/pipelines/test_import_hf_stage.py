"""A transformers folder through ``modelmill stage import_hf``, and shapes as a user writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError
from components.export.hf.export_hf import save_hf
from components.text.decoder_files import load_model
from components.train.pretrain_config import PretrainConfig
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape
from tests.flows.conftest import CommandLine


def test_a_folder_becomes_a_checkpoint(tmp_path: Path) -> None:
    experts = ExpertsShape(count=3, active=2, hidden=24)
    model = Decoder(DecoderShape(64, 32, 2, 2, 1, 16, 24, 32, experts=experts))
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    save_hf(given, model)
    modelmill = CommandLine(tmp_path / "home")
    done = modelmill("stage", "import_hf", "--input", str(given), "--output", str(out))
    assert done.returncode == 0, done.stderr
    back = load_model(out)
    assert back.shape == model.shape
    assert torch.equal(back.lm_head.weight, model.lm_head.weight)


def test_a_shape_is_written_field_by_field() -> None:
    base = PretrainConfig(sequence_length=64, short_sequence_length=64, batch=64)
    sets = [
        "shape.experts={count: 4, active: 2, hidden: 64}",
        "shape.rope={kind: yarn, factor: 4, original: 512}",
        "shape.context=2048",
        "shape.window=256",
        "shape.experts.norm_topk=false",
    ]
    shape = overlay_config(base, {}, sets).shape
    assert shape.experts == ExpertsShape(count=4, active=2, hidden=64, norm_topk=False)
    assert (shape.rope.kind, shape.rope.factor, shape.window) == ("yarn", 4.0, 256)
    nested = overlay_config(
        base, {"shape": {"mode": "research", "extras": {"logit_cap": 15}}}
    ).shape
    assert nested.extras.logit_cap == 15.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("shape.extras.logit_cap=15", "Qwen3ForCausalLM cannot hold extras.logit_cap 15.0"),
        ("shape.experts={count: 2, active: 3}", "experts.active (3) must be within 1 and"),
        ("shape.rope={kind: ntk}", "shape.rope.kind"),
        ("shape.experts={cuont: 2}", "unknown field; did you mean 'count'?"),
        ("shape.window=true", "shape.window: given true or false: must be a number"),
    ],
)
def test_a_wrong_shape_is_one_line(given: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        overlay_config(PretrainConfig(), {}, [given])
    assert told in str(error.value)
    assert "\n" not in str(error.value)
