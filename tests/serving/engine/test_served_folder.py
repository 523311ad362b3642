from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from components.core.errors import ConfigError, DataError
from components.export.onnx import cache_memory
from components.export.onnx.ragged_runtime import RaggedBatch
from components.text.chat.tokenizer_files import tokenizer_digest
from serving.engine.generation import EngineFailed, Generation
from serving.engine.sampling import SamplingParams
from serving.engine.served_folder import open_endpoint

GREEDY = SamplingParams(temperature=0)


async def all_of(generation: Generation) -> list[int]:
    while not generation.finished:
        await generation.wait_beyond(len(generation.tokens))
    return generation.tokens


def test_the_real_graph_gives_a_ragged_joining_batch_what_each_gets_alone(served: Path) -> None:
    random.seed(1)
    prompts = [[random.randrange(5, 300) for _ in range(n)] for n in (1, 17, 40, 3, 9, 30, 2, 12)]

    async def run() -> None:
        engine = open_endpoint(served).engine
        alone = [await all_of(engine.submit(prompt, GREEDY, 12)) for prompt in prompts]

        async def late(number: int, prompt: list[int]) -> list[int]:
            await asyncio.sleep(number * 0.004)
            return await all_of(engine.submit(prompt, GREEDY, 12))

        together = await asyncio.gather(*(late(n, p) for n, p in enumerate(prompts)))
        assert together == alone
        assert any(alone)

    asyncio.run(run())


def test_the_engine_agrees_with_the_torch_model(served: Path, decoder_folder: Path) -> None:
    from components.text.decoder_files import load_model
    from models.generate import generate_answers

    prompt = list(range(20, 40))
    sampled = generate_answers(
        load_model(decoder_folder), [prompt], max_new=10, stop_ids=(4,), temperature=0
    )
    expected = [token for token in sampled[0].tokens if token > 4]

    async def run() -> list[int]:
        return await all_of(open_endpoint(served).engine.submit(prompt, GREEDY, 10))

    assert asyncio.run(run()) == expected[:10]


def test_a_tokenizer_of_another_model_is_not_served(served: Path) -> None:
    path = served / "endpoint.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "tokenizer": tokenizer_digest(served / "bundle")}))
    assert open_endpoint(served).model == "tiny"
    path.write_text(json.dumps({**told, "tokenizer": "f00d" * 16}))
    with pytest.raises(DataError, match="is not the tokenizer f00df00df00d that tiny version 1"):
        open_endpoint(served)


def test_the_context_is_the_limits_or_what_the_memory_holds(
    served: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = served / "endpoint.json"
    told = json.loads(path.read_text())
    assert open_endpoint(served).engine.context == 96
    path.write_text(json.dumps({**told, "limits": {"slots": 4, "context": 40}}))
    assert open_endpoint(served).engine.context == 40
    path.write_text(json.dumps({**told, "limits": {"slots": 4, "context": 97}}))
    with pytest.raises(ConfigError, match="97 tokens is longer than the model's 96"):
        open_endpoint(served)
    path.write_text(json.dumps(told))
    monkeypatch.setattr(cache_memory, "usable_memory", lambda: 500_000)
    caplog.clear()
    with caplog.at_level("WARNING"):
        context = open_endpoint(served).engine.context
    assert 2 < context < 96
    assert f"a context of {context} tokens for 4 slots, not the model's 96" in caplog.text


def test_an_engine_whose_model_failed_goes_on_without_memory_for_a_second_cache(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = list(range(20, 40))

    async def run() -> None:
        engine = open_endpoint(served).engine
        expected = await all_of(engine.submit(prompt, GREEDY, 6))
        monkeypatch.setattr(cache_memory, "usable_memory", lambda: 0)
        with monkeypatch.context() as broken:
            broken.setattr(RaggedBatch, "_run", fail)
            failing = [engine.submit(prompt, GREEDY, 6) for _ in range(3)]
            for generation in failing:
                with pytest.raises(EngineFailed, match="out of luck"):
                    await generation.wait_beyond(0)
        assert await all_of(engine.submit(prompt, GREEDY, 6)) == expected

    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    asyncio.run(run())


def test_a_folder_that_is_no_endpoint_is_one_line(tmp_path: Path, served: Path) -> None:
    with pytest.raises(DataError, match=r"endpoint.json cannot be read"):
        open_endpoint(tmp_path)
    (served / "bundle" / "onnx" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(DataError, match=r"model.onnx: onnxruntime cannot load it"):
        open_endpoint(served)
