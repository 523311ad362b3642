"""OpenAI's client, unmodified: the usage of a stream, and the class and fields of each error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import openai
import pytest

from serving.api.answers.loaded_model import LoadedModel

ASK: Any = [{"role": "user", "content": "What does json.dumps do?"}]


@pytest.fixture
def client(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[openai.OpenAI]:
    with listening(make_served(), api_key="s3cret") as address:
        yield openai.OpenAI(base_url=address, api_key="s3cret", max_retries=0)


def test_a_stream_of_choices_ends_with_one_usage(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": ASK, "n": 2, "seed": 1, "max_tokens": 5}
    whole = client.chat.completions.create(**asked)
    *chunks, last = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage == whole.usage
    assert not last.choices
    assert all(chunk.usage is None for chunk in chunks)
    assert whole.usage.prompt_tokens_details.cached_tokens == 0
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


@pytest.mark.parametrize(
    ("change", "kind", "code", "param"),
    [
        ({"temperature": 9}, openai.BadRequestError, "decimal_above_max_value", "temperature"),
        ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found", "model"),
        ({"messages": [{"role": "user", "content": "x", "name": "ada"}]},
         openai.BadRequestError, "unsupported_parameter", "messages[0].name"),
        ({"messages": [{"role": "user", "content": "word " * 99}]},
         openai.BadRequestError, "context_length_exceeded", "messages"),
    ],
)  # fmt: skip
def test_an_error_has_its_class_and_its_fields(
    client: openai.OpenAI,
    change: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{"model": "tiny", "messages": ASK, **change})
    error = refused.value
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")


def test_a_wrong_key_is_an_authentication_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="other").models.list()
    assert refused.value.code == "invalid_api_key"
