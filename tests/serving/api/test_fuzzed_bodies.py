"""Bodies that are nearly requests: whatever is sent, the answer is below 500 and in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.api.answers.loaded_model import LoadedModel
from serving.api.openapi_document import describe_api

SCHEMAS = describe_api("tiny", has_key=False)["components"]["schemas"]
ERROR = jsonschema.Draft202012Validator(SCHEMAS["Error"])
MODEL = {"model": "tiny"}
VALID: list[tuple[str, dict[str, Any]]] = [
    (
        "/chat/completions",
        {**MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 3},
    ),
    (
        "/chat/completions",
        {
            **MODEL,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 3,
            "logprobs": True,
            "top_logprobs": 2,
        },
    ),
    ("/completions", {**MODEL, "prompt": ["x", "y"], "n": 2, "max_tokens": 3, "logprobs": 1}),
    ("/completions", {**MODEL, "prompt": [5, 6], "logit_bias": {"7": 1}, "stop": ["a"]}),
    ("/tokenize", {**MODEL, "prompt": "x"}),
    ("/tokenize", {**MODEL, "messages": [{"role": "user", "content": "x"}]}),
    ("/detokenize", {**MODEL, "tokens": [1, 2]}),
    ("/embeddings", {**MODEL, "input": ["x", "yz"], "encoding_format": "float"}),
    ("/embeddings", {**MODEL, "input": [[5, 6], [7]], "encoding_format": "base64"}),
    ("/responses", {**MODEL, "input": "x", "max_output_tokens": 3, "store": False}),
    (
        "/responses",
        {
            **MODEL,
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
            "instructions": "short",
            "stream": True,
            "max_output_tokens": 3,
        },
    ),
]
ODD_TEXTS = (
    *("<|end|>", "\ud800", "\x00", "\ufdd0", "\u202e", "a\u0301" * 9, "{{ 7 * 7 }}", "../../etc"),
    *("9" * 400, "x" * 20_000, "[" * 500, "日" * 3_000),
)
ODD_NUMBERS = (10**400, -(10**400), 2**63, 2**64, -1, 0, 1e308, 5e-324, -0.0, float("nan"), 1e-9)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*ODD_TEXTS, *ODD_NUMBERS])
)
KEYS = st.sampled_from(["role", "content", "type", "text", "name", "7", "include_usage"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    sorted({name for schema in SCHEMAS.values() for name in schema.get("properties", {})})
)


def truncate(body: bytes, at: int) -> bytes:
    return body[: at % (len(body) + 1)]


def insert(piece: bytes) -> Callable[[bytes, int], bytes]:
    def change(body: bytes, at: int) -> bytes:
        place = at % (len(body) + 1)
        return body[:place] + piece + body[place:]

    return change


def nest(body: bytes, at: int) -> bytes:
    depth = at * 40
    return body[:-1] + b',"messages":' + b"[" * depth + b"]" * depth + b"}"


def keep(body: bytes, at: int) -> bytes:
    return body


SPOILERS = (
    *[keep] * 9,
    truncate,
    nest,
    *map(insert, [b"\xff", b"\x00", rb"\ud83e", b"1e999", b"\xed\xa0\x80", b"{", b'"', b"NaN"]),
    lambda body, at: b'{"model":3,"max_tokens":-1,' + body[1:],
    lambda body, at: body[:-1] + b',"model":"tiny","max_tokens":1}',
    lambda body, at: b"\xef\xbb\xbf" + body,
    lambda body, at: body.decode("utf-8", "replace").encode("utf-16"),
)


@st.composite
def fuzzed_requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: a valid one with fields changed or left out, then bytes spoiled."""
    path, valid = draw(st.sampled_from(VALID))
    changes = draw(st.dictionaries(st.sampled_from(sorted(valid)) | NAMES, VALUES, max_size=3))
    left_out = draw(st.sets(st.sampled_from(sorted(valid)), max_size=1))
    fields = {**{name: valid[name] for name in valid if name not in left_out}, **changes}
    spoil = draw(st.sampled_from(SPOILERS))
    return path, spoil(json.dumps(fields).encode(), draw(st.integers(0, 400)))


@pytest.fixture(scope="module")
def client(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[httpx.Client]:
    with listening(make_served()) as address, httpx.Client(base_url=address) as client:
        yield client


def check_answer(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        ERROR.validate(answer.json())
        assert answer.json()["error"]["message"]
    elif not answer.headers["content-type"].startswith("text/event-stream"):
        answer.json()
    elif path == "/responses":
        *events, end = answer.text.split("\n\n")
        kinds = [json.loads(event.partition("\ndata: ")[2])["type"] for event in events]
        assert kinds[-1] in ("response.completed", "response.incomplete")
        assert end == ""
    else:
        *events, done, end = answer.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        assert not any("error" in json.loads(event.removeprefix("data: ")) for event in events)


_SETTINGS: Any = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=200, **_SETTINGS)
@given(request=fuzzed_requests())
def test_a_body_never_breaks_the_endpoint(client: httpx.Client, request: tuple[str, bytes]) -> None:
    check_answer(client, *request)


@pytest.mark.slow
@settings(max_examples=5000, **_SETTINGS)
@given(request=fuzzed_requests())
def test_many_bodies_never_break_the_endpoint(
    client: httpx.Client, request: tuple[str, bytes]
) -> None:
    check_answer(client, *request)
