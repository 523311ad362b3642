"""Vectors of texts by OpenAI's client, beside the states of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from components.export.onnx.ragged_runtime import OnnxModel, RaggedBatch
from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.engine.served_folder import open_endpoint

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
        ({"input": ["x"] * 17}, "input"),
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
