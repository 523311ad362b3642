"""Both ONNX graphs for shapes beyond the first: parity through the cache, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.plain_graph import plain_graph
from components.export.onnx.served_graph import served_graph
from components.export.parity import ParityConfig, measure_parity, parity_cases
from components.export.parity_forms import plain_form, served_form
from models.decoder import Decoder
from models.shape import DecoderShape, ExpertsShape, RopeScaling, ShapeExtras
from models.shape_presets import GROK1

SHAPE = DecoderShape(320, 48, 2, 4, 2, 16, 96, 48)
EXPERTS = ExpertsShape(count=4, active=2, hidden=40)
SHAPES = {
    "llama": replace(SHAPE, qk_norm=False, tied=False),
    "multi-query": replace(SHAPE, kv_heads=1),
    "window": replace(SHAPE, window=9),
    "window in one layer": replace(SHAPE, window=6, full_layers=(1,)),
    "yarn": replace(SHAPE, rope=RopeScaling(kind="yarn", factor=4.0, original=12)),
    "experts": replace(SHAPE, experts=EXPERTS),
    "mixtral": replace(SHAPE, experts=EXPERTS, qk_norm=False, window=11),
    "weights not scaled": replace(SHAPE, experts=replace(EXPERTS, norm_topk=False)),
}
SMALL = ParityConfig(positions=150, batch=3, steps=12, kl_max=1e-10)


@pytest.mark.parametrize("kind", ["served", "plain"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_graph_is_the_decoder(
    name: str, kind: str, work: Workdir, tokens: Tokens, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    model = Decoder(SHAPES[name]).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.uniform_(0.5, 1.5) if "norm" in key else parameter.normal_(std=0.15)
    weights = weights_of(model)
    graph = served_graph(weights) if kind == "served" else plain_graph(weights, half=False)
    save_graph(graph, tmp_path / "model.onnx")
    form = (served_form if kind == "served" else plain_form)(tmp_path / "model.onnx")
    cases = parity_cases(model, work.artifact_folder(tokens), SMALL)
    parity = measure_parity(form, cases, SMALL, name=kind, measured_on="onnxruntime")
    assert parity.passes, str(parity)


def test_what_a_graph_would_leave_out_is_refused() -> None:
    narrow = replace(
        GROK1, vocabulary=64, width=32, layers=1, heads=2, kv_heads=1, head_width=16, hidden=8
    )
    grok = replace(narrow, experts=replace(EXPERTS, router_cap=30.0))
    capped = replace(SHAPE, mode="research", extras=ShapeExtras(logit_cap=15.0))
    shared = replace(SHAPE, mode="research", experts=replace(EXPERTS, shared=8))
    for shape, told in ((grok, "post_norms"), (capped, "logit_cap 15"), (shared, "shared 8")):
        weights = weights_of(Decoder(shape))
        for draw in (served_graph, lambda given: plain_graph(given, half=False)):
            with pytest.raises(ConfigError, match=f"ONNX export: .*{told}"):
                draw(weights)
