"""Vectors of texts by OpenAI's client, beside the states of the same graph."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import openai
import pytest

from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.engine.served_folder import open_endpoint
from serving.engine.text_embedder import EmbeddingGivenUp, TextEmbedder

TEXTS = ["import json", "日本語", "a longer text of many words " * 3]


@pytest.fixture
def client(
    served: Path, listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[openai.OpenAI]:
    with listening(open_endpoint(served)) as address:
        yield openai.OpenAI(base_url=address, api_key="none", max_retries=0)


def test_a_vector_is_the_mean_of_the_states(
    client: openai.OpenAI, served: Path, tokenizer: ChatTokenizer
) -> None:
    """The client asks for base64 by itself; the longest text is read in two pieces."""
    answer = client.embeddings.create(model="tiny", input=TEXTS)
    plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    ids = [tokenizer.encode_text(text) for text in TEXTS]
    assert max(map(len, ids)) > 64
    batch = RaggedBatch(OnnxModel(served / "bundle/onnx/model.onnx", 1), 1, 96)
    for at, tokens in enumerate(ids):
        row = batch.join()
        mean = batch.hidden_states(row, [tokens])[0].mean(axis=0)
        batch.leave(row)
        vector = np.array(answer.data[at].embedding)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
        np.testing.assert_array_equal(vector, np.array(plain.data[at].embedding))
        assert answer.data[at].index == at
    assert answer.usage.prompt_tokens == sum(map(len, ids))
    by_ids: Any = client.embeddings.create(model="tiny", input=ids)
    assert by_ids.data == answer.data
    card: Any = client.models.retrieve("tiny")
    assert card.embedding_dimensions == len(answer.data[0].embedding)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["x", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": [[1], [5000]]}, "input[1][0]"),
        ({"input": "word " * 100}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x", "dimensions": 3}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "temperature": 1}, "temperature"),
    ],
)
def test_what_is_wrong_is_named(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/embeddings", body={"model": "tiny", **fields}, cast_to=object)
    assert refused.value.param == param


def test_a_text_may_fill_the_context(client: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    """No answer follows, so none needs room."""
    token = tokenizer.encode_text("x")[0]
    for fits in ("x" * 96, [token] * 96):
        answer = client.embeddings.create(model="tiny", input=fits)
        assert answer.usage.prompt_tokens == 96
    for long in ("x" * 97, [token] * 97):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model="tiny", input=long)
        assert refused.value.code == "context_length_exceeded"
        assert "97 tokens." in refused.value.message


def test_texts_of_one_request_are_bounded_in_number_and_in_tokens(
    served: Path, listening: Callable[..., AbstractContextManager[str]]
) -> None:
    loaded = open_endpoint(served)
    limits = loaded.limits.model_copy(update={"embedding_inputs": 3, "embedding_tokens": 20})
    with (
        listening(replace(loaded, limits=limits)) as address,
        openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client,
    ):
        for texts, says in (
            (["a"] * 4, "at most 3 texts"),
            ([[5] * 11, [5] * 10], "more than 20 tokens together"),
        ):
            with pytest.raises(openai.BadRequestError, match=says) as refused:
                client.embeddings.create(model="tiny", input=cast("Any", texts))
            assert refused.value.param == "input"
        inputs = cast("Any", [[5] * 10, [5] * 10])
        assert len(client.embeddings.create(model="tiny", input=inputs).data) == 2


def test_hundreds_of_texts_are_one_request(client: openai.OpenAI) -> None:
    texts = [f"{number} names" for number in range(300)]
    answer = client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    assert [item.index for item in answer.data] == list(range(300))
    again = client.embeddings.create(model="tiny", input=texts[299])
    np.testing.assert_allclose(answer.data[299].embedding, again.data[0].embedding, atol=1e-6)


class CountingBatch:
    """One row whose states say which text is read, and in which thread."""

    def __init__(self, before_read: Callable[[], None] = lambda: None) -> None:
        self.read: list[int] = []
        self.priorities: set[int] = set()
        self._before_read = before_read

    def join(self, adapter: int = 0) -> int:
        return 0

    def leave(self, row: int) -> int | None:
        return None

    def hidden_states(self, first: int, pieces: Sequence[Sequence[int]]) -> list[Any]:
        self._before_read()
        self.read.append(pieces[0][0])
        self.priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return [np.ones((len(pieces[0]), 2), dtype=np.float32)]


def test_requests_take_turns_text_by_text_in_a_thread_that_goes_last() -> None:
    batch = CountingBatch()

    async def run() -> None:
        embedder = TextEmbedder(lambda: batch, 2, 9)
        await asyncio.gather(embedder.embed([[1]] * 40), embedder.embed([[2]] * 2))

    asyncio.run(run())
    assert batch.read[:4] == [1, 2, 1, 2]
    if sys.platform == "linux":
        assert batch.priorities == {19}
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 19


def test_nothing_is_read_for_a_client_that_left() -> None:
    gone = threading.Event()
    batch = CountingBatch(gone.set)

    async def run() -> None:
        embedder = TextEmbedder(lambda: batch, 2, 0)
        with pytest.raises(EmbeddingGivenUp):
            await embedder.embed([[1] * 200, [2]], given_up=gone.is_set)
        await embedder.embed([[3]])  # its place in the queue is free

    asyncio.run(run())
    assert batch.read == [1, 3]
