"""The OpenAPI document and the endpoint say the same of requests, routes and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.answers.loaded_model import LoadedModel
from serving.api.error_responses import ApiError
from serving.api.openapi_document import describe_api
from serving.api.request_body import parse_request
from serving.api.request_fields import NEUTRAL_VALUES, NO_EFFECT
from serving.api.request_schema import ChatRequest, CompletionRequest
from serving.api.responses.responses_request import (
    NEUTRAL_RESPONSES_FIELDS,
    ResponsesRequest,
)
from serving.api.responses.responses_route import parse_responses_request
from serving.api.tokens.embedding_route import EmbeddingRequest
from serving.api.tokens.token_requests import DetokenizeRequest, TokenizeRequest

DOCUMENT = describe_api("tiny", has_key=False)
ASK: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "x"}],
    "max_tokens": 3,
    "seed": 1,
}


def validator(name: str) -> jsonschema.Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(root)


@pytest.fixture
def address(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    with listening(make_served()) as listens:
        yield listens


REQUESTS = (
    *(ChatRequest, CompletionRequest, ResponsesRequest),
    *(TokenizeRequest, DetokenizeRequest, EmbeddingRequest),
)
SERVED = sorted({field for request in REQUESTS for field in request.model_fields})
NEUTRAL = {**NEUTRAL_VALUES, **NEUTRAL_RESPONSES_FIELDS}
FIELDS = st.sampled_from(SERVED) | st.sampled_from(sorted({*NEUTRAL, *NO_EFFECT}))
NUMBERS = st.integers(-3, 70) | st.floats(-3, 3).filter(lambda number: not number.is_integer())
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=3) | st.sampled_from("13")
VALUES = st.recursive(
    SCALARS | st.sampled_from([value for values in NEUTRAL.values() for value in values]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["include_usage", "role", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
BODIES = st.dictionaries(FIELDS | st.text(max_size=4), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("request_type", "least"),
    [
        (ChatRequest, {"messages": [{}]}),
        (CompletionRequest, {"prompt": "x"}),
        (TokenizeRequest, {"prompt": "x"}),
        (DetokenizeRequest, {"tokens": [1]}),
        (EmbeddingRequest, {"input": "x"}),
        (ResponsesRequest, {"input": "x"}),
    ],
)
@settings(max_examples=600, deadline=None, database=None, derandomize=True)
@given(fields=BODIES)
def test_a_body_is_taken_where_its_schema_says_so(
    request_type: Any, least: dict[str, Any], fields: dict[str, Any]
) -> None:
    body = {"model": "tiny", **least, **fields}
    try:
        encoded = json.dumps(body).encode()
        if request_type is ResponsesRequest:
            parse_responses_request(encoded)
        else:
            parse_request(request_type, encoded)
        refusal = None
    except ApiError as error:
        refusal = error.body["error"]
    assert validator(request_type.__name__).is_valid(body) == (refusal is None), (body, refusal)
    if refusal is not None:
        assert refusal["param"] is not None, (body, refusal)
        assert refusal["param"].startswith(tuple(fields)), (body, refusal)


def test_every_route_is_described_and_answers_as_described(address: str) -> None:
    published = httpx.get(f"{address}/openapi.json").json()
    assert published == DOCUMENT
    for path, operations in published["paths"].items():
        for method in ("get", "post"):
            answer = httpx.request(method, address + path.replace("{model}", "tiny"), json={})
            allowed = "GET, HEAD" if "get" in operations else "POST"
            if method in operations:
                assert answer.status_code in (200, 400), path
            else:
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
            if answer.status_code != 200:
                validator("Error").validate(answer.json())
    validator("ModelList").validate(httpx.get(f"{address}/models").json())
    validator("Model").validate(httpx.get(f"{address}/models/tiny").json())
    validator("Error").validate(httpx.get(f"{address}/models/other").json())


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/chat/completions", ASK, "Chat"),
        (
            "/completions",
            {"model": "tiny", "prompt": "x", "max_tokens": 3, "seed": 1},
            "Completion",
        ),
    ],
)
def test_answers_and_chunks_are_as_described(
    address: str, path: str, body: dict[str, Any], name: str
) -> None:
    validator(name).validate(httpx.post(address + path, json=body).json())
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    lines = httpx.post(address + path, json=streamed).text.split("\n\n")
    *chunks, done = [line.removeprefix("data: ") for line in lines if line]
    assert done == "[DONE]"
    assert len(chunks) > 3
    for chunk in chunks:
        validator(f"{name}Chunk").validate(json.loads(chunk))


def test_the_document_is_openapi() -> None:
    """Every reference leads somewhere, and every schema is one."""
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(DOCUMENT)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= schemas.keys()
    assert "security" not in DOCUMENT
    assert describe_api("tiny", has_key=True)["security"] == [{"key": []}]
