"""The endpoint over HTTP as OpenAI answers: plain curl, methods, routes, texts, empty questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.api.answers.loaded_model import LoadedModel
from serving.api.auth import RequestGuard
from serving.api.limits import EndpointLimits

MakeServed = Callable[..., LoadedModel]
Listen = Callable[..., AbstractContextManager[str]]
ASK = [{"role": "user", "content": "What does json.dumps do?"}]


@pytest.fixture
def address(make_served: MakeServed, listening: Listen) -> Iterator[str]:
    with listening(make_served()) as listens:
        yield listens


@pytest.mark.parametrize("told", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
def test_a_body_is_json_whatever_its_type_says(address: str, told: dict[str, str]) -> None:
    """As ``curl -d`` sends it."""
    body = json.dumps(
        {"model": "tiny", "messages": ASK, "max_tokens": 3, "ignore_eos": True}
    ).encode()
    answer = httpx.post(f"{address}/chat/completions", content=body, headers=told)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/chat/completions", "POST"),
        ("DELETE", "/completions", "POST"),
        ("POST", "/models", "GET, HEAD"),
        ("PUT", "/models/tiny", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_is_allowed(
    address: str, method: str, path: str, allowed: str
) -> None:
    answer = httpx.request(method, address + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "method_not_supported")
    assert error["message"].startswith(f"Not allowed to {method} on /v1{path} ")


@pytest.mark.parametrize("path", ["/nothing", "/chat/completions/", "/", "/chat"])
def test_an_unknown_address_is_named(address: str, path: str) -> None:
    answer = httpx.post(address + path, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"Invalid URL (POST /v1{path})"
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/completions", rb'{"model":"tiny","prompt":"\ud800"}', "prompt"),
        ("/completions", rb'{"model":"\ud800","prompt":"x"}', "model"),
        ("/completions", b'{"model":"tiny","prompt":"x","max_tokens":true}', "max_tokens"),
        ("/completions", b'{"model":"tiny","prompt":"x","mirostat":2}', "mirostat"),
        (
            "/chat/completions",
            rb'{"model":"tiny","messages":[{"role":"user","content":"\ud800"}]}',
            "messages[0].content",
        ),
        (
            "/chat/completions",
            b'{"model":"tiny","messages":[{"role":"robot","content":"x"}]}',
            "messages[0].role",
        ),
    ],
)
def test_the_field_that_is_wrong_is_named(address: str, path: str, body: bytes, param: str) -> None:
    answer = httpx.post(address + path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("content", ["", " \n", [], [{"type": "text", "text": " "}]])
@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_question_ends_at_once(address: str, content: Any, stream: bool) -> None:
    message = {"role": "user", "content": content}
    body = {"model": "tiny", "messages": [message], "max_tokens": 9, "stream": stream}
    answer = httpx.post(f"{address}/chat/completions", json=body)
    assert answer.status_code == 200
    if stream:
        *chunks, done = [line[6:] for line in answer.text.split("\n\n") if line]
        assert done == "[DONE]"
        choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
        assert [choice["delta"].get("content", "") for choice in choices] == ["", ""]
        assert choices[-1]["finish_reason"] == "stop"
    else:
        assert answer.json()["choices"][0]["message"]["content"] == ""
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
        assert answer.json()["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "user", "content": None}])
def test_a_question_without_content_is_refused(address: str, message: dict[str, Any]) -> None:
    body = {"model": "tiny", "messages": [message]}
    answer = httpx.post(f"{address}/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content"


NOTHING: list[dict[str, Any]] = [{"content": None}, {}, {"content": []}, {"content": ""}]


def test_equal_readings_are_one_prompt(listening: Listen, make_served: MakeServed) -> None:
    """The system and the developer are one role; null, no parts and no content are no text.

    What the model's twin says next hangs on every token of the prompt.
    """
    with listening(make_served(context=200)) as address:

        def answer(message: dict[str, Any]) -> Any:
            body = {"model": "tiny", "messages": [message, *ASK], "temperature": 0, "max_tokens": 9}
            reply = httpx.post(f"{address}/chat/completions", json=body).json()
            return reply["choices"][0]["message"]["content"], reply["usage"]

        told = [answer({"role": role, "content": "x"}) for role in ("system", "developer")]
        empty = [answer({"role": "assistant", **content}) for content in NOTHING]
    assert told[0] == told[1] != empty[0]
    assert empty == [empty[0]] * len(NOTHING)


def test_half_a_body_is_no_request() -> None:
    """A client that ends within its body asked nothing, though the half may be valid JSON."""
    reached: list[Scope] = []

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    messages: list[Message] = [
        {"type": "http.request", "body": b"{}", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError("nobody hears it")

    scope = {"type": "http", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1)}
    asyncio.run(RequestGuard(never, EndpointLimits(), None)(scope, receive, send))
    assert not reached
