from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from components.core.errors import ConfigError
from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel
from serving.api.auth import check_host
from serving.engine.decoding_batch import SavedPrefix
from serving.engine.sampling import Logits
from tests.serving.memory_batch import MemoryBatch

MakeServed = Callable[..., LoadedModel]
Listen = Callable[..., AbstractContextManager[str]]
ASK = [{"role": "user", "content": "What does json.dumps do?"}]
SPOKEN = "naïve 日本語 🦊, then"


class Reciting(MemoryBatch):
    """Answers every prompt with the same tokens, one each ``pause`` seconds."""

    def __init__(self, slots: int, vocabulary: int, tokens: Sequence[int], pause: float) -> None:
        super().__init__(vocabulary, slots)
        self.tokens, self.pause = tokens, pause

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        return np.stack([self._next(0)] * len(pieces))

    def read_prefix(self, row: int, length: int) -> SavedPrefix:
        return np.zeros(length)

    def write_prefix(self, row: int, prefix: SavedPrefix, length: int) -> None:
        """The prompt changes nothing in the answer."""

    def step(self, tokens: Sequence[int]) -> Logits:
        time.sleep(self.pause)
        for said, token in zip(self.rows, tokens, strict=True):
            said += [token] if token >= 0 else []
        return np.stack([self._next(len(said)) for said in self.rows])

    def _next(self, at: int) -> Logits:
        logits = np.zeros(self.vocabulary, dtype=np.float32)
        logits[self.tokens[at] if at < len(self.tokens) else 4] = 9
        return logits


@pytest.fixture
def reciting(make_served: MakeServed, tokenizer: ChatTokenizer) -> MakeServed:
    tokens = tokenizer.encode_text(SPOKEN)
    size = tokenizer.vocabulary

    def make(pause: float = 0.0, **limits: float) -> LoadedModel:
        return make_served(batch=lambda n: Reciting(n, size, tokens, pause), **limits)

    return make


@pytest.fixture
def client(make_served: MakeServed, listening: Listen) -> Iterator[openai.OpenAI]:
    with listening(make_served()) as address:
        yield openai.OpenAI(base_url=address, api_key="none", max_retries=0)


def test_models_lists_the_one_that_is_served(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "modelmill"
    with pytest.raises(openai.NotFoundError, match="serves 'tiny'"):
        client.models.retrieve("gpt-4o")


def test_streaming_gives_what_a_whole_answer_gives(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 20}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_a_stream_never_cuts_a_character(reciting: MakeServed, listening: Listen) -> None:
    with listening(reciting()) as address:
        client = openai.OpenAI(base_url=address, api_key="none")
        stream = client.chat.completions.create(
            model="tiny", messages=ASK, temperature=0, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == SPOKEN
    assert not any("\ufffd" in piece for piece in pieces)


def test_stop_strings_and_plain_completions(reciting: MakeServed, listening: Listen) -> None:
    with listening(reciting()) as address:
        client = openai.OpenAI(base_url=address, api_key="none")
        stopped = client.chat.completions.create(
            model="tiny", messages=ASK, temperature=0, stop=["語", "zz"]
        )
        assert stopped.choices[0].message.content == "naïve 日本"
        assert stopped.choices[0].finish_reason == "stop"
        plain = client.completions.create(model="tiny", prompt="import json", temperature=0)
        assert plain.choices[0].text == SPOKEN
        streamed = client.completions.create(
            model="tiny", prompt="import json", temperature=0, stream=True
        )
        assert "".join(chunk.choices[0].text for chunk in streamed) == SPOKEN


def test_equal_seeds_answer_equally(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model="tiny", messages=ASK, temperature=1.5, seed=seed, max_tokens=20
        )
        return answer.choices[0].message.content

    assert ask(1) == ask(1) != ask(2)


@pytest.mark.parametrize(
    ("change", "says", "param"),
    [
        ({"messages": []}, "at least one item", "messages"),
        ({"messages": "hello"}, "expected an array, but got a string", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "'user'", "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'is "tool"', "messages[0].role"),
        ({"messages": [*ASK, {"content": "x"}]}, "Missing required", "messages[1].role"),
        ({"messages": ["x"]}, "expected an object, but got a string", "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "must be a text part",
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": 1}]},
            "expected a string or an array",
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
            "trained without them",
            "messages[0].tool_calls",
        ),
        ({"temperature": 3}, "a value <= 2, but got 3", "temperature"),
        ({"top_p": 0}, "a value > 0, but got 0", "top_p"),
        ({"max_tokens": 0}, "a value >= 1, but got 0", "max_tokens"),
        ({"n": 17}, "a value <= 16, but got 17", "n"),
        ({"prediction": {}}, "'prediction' is not served here", "prediction"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "'tools' is not served here",
            "tools",
        ),
        ({"tools": [{"type": "function"}]}, "Missing required", "tools[0].function"),
        ({"tools": [{"type": "x"}]}, "Invalid", "tools[0].type"),
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            "is 5 and contradicts 'max_completion_tokens', its newer name, which is 6",
            "max_tokens",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}},
                    "schema": {"type": "string"},
                }
            },
            "contradicts 'response_format.json_schema.schema'",
            "response_format.schema",
        ),
        ({"top_logprobs": 2}, "only allowed when 'logprobs' is true", "top_logprobs"),
        ({"stop": list("abcde")}, "at most 4 strings", "stop"),
    ],
)
def test_bad_input_is_a_400_that_names_it(
    client: openai.OpenAI, change: dict[str, Any], says: str, param: str | None
) -> None:
    body = {"model": "tiny", "messages": ASK, **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body=body, cast_to=object)
    assert says in refused.value.message
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_what_is_no_json_and_no_route(client: openai.OpenAI) -> None:
    address = str(client.base_url)
    told = {"Content-Type": "application/json"}
    broken = httpx.post(f"{address}chat/completions", content=b"{", headers=told)
    assert broken.status_code == 400
    assert broken.json()["error"]["code"] == "invalid_json"
    lost = httpx.get(f"{address}../v1/nothing")
    assert lost.status_code == 404
    assert lost.json()["error"]["type"] == "invalid_request_error"


def test_a_prompt_beyond_the_context_and_an_unknown_model(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": "word " * 100}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body={"model": "tiny", "messages": long}, cast_to=object)
    assert refused.value.code == "context_length_exceeded"
    assert "maximum context length is 64 tokens" in refused.value.message
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=ASK)  # type: ignore[arg-type]


def test_a_request_too_large_is_refused_unread(make_served: MakeServed, listening: Listen) -> None:
    with listening(make_served(body_bytes=2048)) as address:
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
        large = [{"role": "user", "content": "x" * 300_000}]
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="tiny", messages=large)  # type: ignore[arg-type]
        assert refused.value.status_code == 413
        assert client.models.list().data[0].id == "tiny"


def test_a_full_queue_is_429_with_retry_after(reciting: MakeServed, listening: Listen) -> None:
    served = reciting(pause=0.05, slots=1, queue=0)
    with listening(served) as address:
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
        first = client.chat.completions.create(model="tiny", messages=ASK, stream=True)
        next(iter(first))
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="tiny", messages=ASK)
        assert refused.value.response.headers["retry-after"] == "1"
        assert refused.value.code == "rate_limit_exceeded"
        first.close()


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_frees_the_slot(reciting: MakeServed, stream: bool, listening: Listen) -> None:
    served = reciting(pause=0.2, slots=1)
    body = {"model": "tiny", "messages": ASK, "stream": stream}
    with listening(served) as address:
        url = f"{address}/chat/completions"
        if stream:
            with httpx.stream("POST", url, json=body) as answer:
                lines = answer.iter_lines()
                while '"content":"' not in next(lines):
                    """The first piece of text: the answer has a row."""
                assert served.engine.busy[0] == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body, timeout=0.3)
        deadline = time.monotonic() + 2
        while served.engine.busy != (0, 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert served.engine.busy == (0, 0)
        assert served.engine.counts.completion_tokens < len(SPOKEN)


def test_a_key_is_asked_for_and_never_shown(make_served: MakeServed, listening: Listen) -> None:
    with listening(make_served(), api_key="s3cret") as address:
        good = openai.OpenAI(base_url=address, api_key="s3cret")
        assert good.models.list().data[0].id == "tiny"
        for wrong in ("s3cre", "s3cret2", "S3CRET", "ключ"):
            headers = {"Authorization": f"Bearer {wrong}".encode()}
            answer = httpx.get(f"{address}/models", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert "s3cret" not in answer.text.lower()
        assert httpx.get(f"{address}/models").status_code == 401
        basic = httpx.get(f"{address}/models", headers={"Authorization": "Basic s3cret"})
        assert basic.status_code == 401


def test_without_a_key_a_foreign_name_is_refused(
    make_served: MakeServed, listening: Listen
) -> None:
    with listening(make_served()) as address:
        rebound = httpx.get(f"{address}/models", headers={"Host": "evil.example"})
        assert rebound.status_code == 403
        assert httpx.get(f"{address}/models", headers={"Host": "localhost:80"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "key", "fine"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("0.0.0.0", None, False),
        ("192.168.0.7", "", False),
        ("0.0.0.0", "key", True),
        ("localhost", None, False),
    ],
)
def test_without_a_key_only_loopback_may_be_bound(host: str, key: str | None, fine: bool) -> None:
    if fine:
        check_host(host, key)
    else:
        with pytest.raises(ConfigError, match=f"--host {host}"):
            check_host(host, key)


def test_many_at_once_get_what_each_alone_gets(client: openai.OpenAI) -> None:
    def ask(number: int) -> str | None:
        answer = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": f"{number} " * (number % 5 + 1)}],
            temperature=0,
            max_tokens=12,
        )
        return answer.choices[0].message.content

    alone = [ask(number) for number in range(12)]
    together: dict[int, str | None] = {}
    threads = [
        threading.Thread(target=lambda n=number: together.update({n: ask(n)}))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(12)] == alone


def test_messages_of_parts_are_joined(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "What does "}, {"type": "text", "text": "json.dumps do?"}]
    answers = {
        json.dumps(content): client.post(
            "/chat/completions",
            body={
                "model": "tiny",
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
            },
            cast_to=object,
        )
        for content in (ASK[0]["content"], parts)
    }
    texts = {answer["choices"][0]["message"]["content"] for answer in answers.values()}  # type: ignore[index]
    assert len(texts) == 1
