"""An answer to a later turn is that of a fresh engine, to the bit, over either kind of cache."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.int8_cache import measure_cache_scales, quantize_cache
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.onnx.served_graph import served_graph
from components.export.quantize import QuantizeConfig, quantize_matmuls, read_onnx_graph
from models.decoder import Decoder
from models.shape import DecoderShape
from serving.api.limits import EndpointLimits
from serving.engine.batching_engine import Engine
from serving.engine.generation import AnswerOptions
from serving.engine.sampling import SamplingParams

SHAPE = DecoderShape(304, 64, 2, 4, 2, 16, 128, 256)
LIMITS = EndpointLimits(slots=2, threads=1)
WHOLE = AnswerOptions(ignores_end=True)


class NotingBatch(RaggedBatch):
    """Keeps the logits behind each prompt that was read."""

    def __init__(self, model: OnnxModel, slots: int) -> None:
        super().__init__(model, slots)
        self.read: list[NDArray[np.float32]] = []

    def feed_rows(self, *arguments: Any) -> NDArray[np.float32]:
        logits = super().feed_rows(*arguments)
        self.read.append(logits.copy())
        return logits


def make_model(path: Path, cache: str) -> OnnxModel:
    """INT8 weights, whose kernels of one token round otherwise than those of several."""
    torch.manual_seed(7)
    decoder = Decoder(SHAPE).eval()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.15)
    graph = served_graph(weights_of(decoder))
    save_graph(graph, path)
    if cache == "int8":
        text = np.random.default_rng(1).integers(0, 304, size=200)
        scales = measure_cache_scales(path, [text])
        graph = read_onnx_graph(path)
        quantize_cache(graph, scales)
    quantize_matmuls(graph, QuantizeConfig())
    save_graph(graph, path)
    return OnnxModel(path, 1)


def answer_turns(model: OnnxModel, prompts: list[list[int]]) -> tuple[list[Any], list[int], Any]:
    """(answers, tokens of each prompt that were not read again, logits behind the last prompt)."""
    batches: list[NotingBatch] = []

    def make_batch(slots: int) -> NotingBatch:
        batches.append(NotingBatch(model, slots))
        return batches[-1]

    async def run() -> tuple[list[Any], list[int]]:
        engine = Engine(make_batch, SHAPE.context, frozenset(), LIMITS)
        answers, cached = [], []
        for prompt in prompts:
            generation = engine.submit(prompt, SamplingParams(temperature=0), 40, WHOLE)
            while not generation.finished:
                await generation.wait_beyond(len(generation.tokens))
            answers.append(generation.tokens)
            cached.append(generation.cached_prompt_tokens)
        return answers, cached

    answers, cached = asyncio.run(run())
    return answers, cached, batches[-1].read[-1]


@pytest.mark.parametrize("cache", ["float32", "int8"])
def test_a_turn_is_answered_as_by_a_fresh_engine(tmp_path: Path, cache: str) -> None:
    model = make_model(tmp_path / "model.onnx", cache)
    draw = np.random.default_rng(3)
    prompt = draw.integers(0, 304, size=60).tolist()
    (answer,), _, _ = answer_turns(model, [prompt])
    later = [*prompt, *answer, *draw.integers(0, 304, size=50).tolist()]
    answers, cached, logits = answer_turns(model, [prompt, later])
    fresh, nothing, expected = answer_turns(model, [later])
    assert (answers, nothing) == ([answer, *fresh], [0])
    assert np.array_equal(logits, expected)
    # The answer's last token was never fed; of a float32 cache the prompt alone is reused.
    assert cached[1] == (len(prompt) if cache == "float32" else len(prompt) + len(answer) - 1)
