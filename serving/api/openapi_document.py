"""OpenAPI 3.1 document of the routes below ``/v1``: what is taken, and what is answered.

Request schemas are those that requests are checked by, with the fields that are taken and have no
effect, and those that may hold a neutral value alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.api.request_fields import NEUTRAL_VALUES, NO_EFFECT
from serving.api.request_schema import ChatRequest, CompletionRequest, StrictModel
from serving.api.responses.responses_request import NEUTRAL_RESPONSES_FIELDS, ResponsesRequest
from serving.api.tokens.embedding_route import EmbeddingRequest
from serving.api.tokens.token_requests import DetokenizeRequest, TokenizeRequest

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_STREAMED = {"Response": "ResponseEvent"}
"""Answers whose stream has no chunks."""
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FINISH: Schema = {"enum": ["stop", "length"]}
_CHAT_FINISH: Schema = {"enum": ["stop", "length", "tool_calls"]}


def describe_api(model: str, *, has_key: bool) -> Schema:
    """The document of an endpoint.

    Args:
        model: name of the model that is served.
        has_key: callers must send the endpoint's key.
    """
    requests: dict[str, Schema] = {}
    for request in (
        ChatRequest,
        CompletionRequest,
        TokenizeRequest,
        DetokenizeRequest,
        EmbeddingRequest,
    ):
        requests |= _describe_request(request)
    requests |= _describe_request(ResponsesRequest, NEUTRAL_RESPONSES_FIELDS)
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": f"{model}, served by modelmill", "version": "1"},
        "servers": [{"url": "/v1"}],
        "paths": {
            "/models": {"get": _operation("list_models", _answers("ModelList"))},
            "/models/{model}": {
                "get": {
                    **_operation("retrieve_model", _answers("Model")),
                    "parameters": [
                        {"name": "model", "in": "path", "required": True, "schema": _TEXT}
                    ],
                }
            },
            "/chat/completions": _generation("create_chat_completion", "ChatRequest", "Chat"),
            "/completions": _generation("create_completion", "CompletionRequest", "Completion"),
            "/responses": _generation("create_response", "ResponsesRequest", "Response"),
            "/embeddings": _call("create_embedding", "EmbeddingRequest", "EmbeddingList"),
            "/tokenize": _call("tokenize", "TokenizeRequest", "TokenList"),
            "/detokenize": _call("detokenize", "DetokenizeRequest", "TokenText"),
            "/openapi.json": {
                "get": _operation("describe_api", {"200": _json_content({"type": "object"})})
            },
        },
        "components": {"schemas": {**requests, **_RESPONSES}},
    }
    if has_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _describe_request(
    request: type[StrictModel], more: Mapping[str, tuple[Any, ...]] | None = None
) -> dict[str, Schema]:
    """Schemas of a request and of what it refers to, by name.

    Args:
        request: its model.
        more: further fields that are not served, with the values that ask for nothing.
    """
    schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
    inner: dict[str, Schema] = schema.pop("$defs", {})
    ignored: dict[str, Schema] = {
        name: {"description": "taken, without effect"} for name in sorted(NO_EFFECT)
    }
    neutral: dict[str, Schema] = {
        name: {"enum": list(values), "description": "not served: these values ask for nothing"}
        for name, values in sorted({**NEUTRAL_VALUES, **(more or {})}.items())
    }
    schema["properties"] = {**neutral, **ignored, **schema["properties"]}
    return {request.__name__: schema, **inner}


def _generation(name: str, request: str, answer: str) -> Schema:
    described = _call(name, request, answer)
    content = described["post"]["responses"]["200"]["content"]
    content["text/event-stream"] = {
        "schema": _describe_events(_STREAMED.get(answer, f"{answer}Chunk"))
    }
    return described


def _describe_events(chunk: str) -> Schema:
    """A server-sent event: before 3.2 OpenAPI has a stream's schema stand for each event."""
    payloads: list[Schema] = [
        {"contentMediaType": "application/json", "contentSchema": _refer_to(schema)}
        for schema in (chunk, "Error")
    ]
    return {
        "type": "object",
        "properties": {"data": {**_TEXT, "anyOf": [{"const": "[DONE]"}, *payloads]}},
        "required": ["data"],
        "description": "chunks, then [DONE]; an error where the model fails",
    }


def _call(name: str, request: str, answer: str) -> Schema:
    """A route that takes one schema and answers with another."""
    body = {"required": True, **_json_content(_refer_to(request))}
    return {"post": {**_operation(name, _answers(answer)), "requestBody": body}}


def _operation(name: str, answers: Mapping[str, Schema]) -> Schema:
    error = {"description": "error", **_json_content(_refer_to("Error"))}
    described = {status: {"description": "answer", **answer} for status, answer in answers.items()}
    return {"operationId": name, "responses": {**described, "default": error}}


def _answers(schema: str) -> dict[str, Schema]:
    return {"200": _json_content(_refer_to(schema))}


def _json_content(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _refer_to(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(**properties: Schema) -> Schema:
    """An object that has exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _envelope(kind: str, finish: Schema, **content: Schema) -> Schema:
    """An answer or a chunk of one, without its usage."""
    choice = _object(index=_COUNT, finish_reason=finish, **content)
    return _object(
        id=_TEXT,
        object={"const": kind},
        created=_COUNT,
        model=_TEXT,
        system_fingerprint=_TEXT,
        choices=_list_of(choice),
    )


def _with_usage(answer: Schema, *, required: bool) -> Schema:
    properties = {**answer["properties"], "usage": _refer_to("Usage")}
    names = [*answer["required"], *(["usage"] if required else [])]
    return {**answer, "properties": properties, "required": names}


_MESSAGE = _object(role={"const": "assistant"}, content=_nullable(_TEXT), refusal={"type": "null"})
_CALL = _object(id=_TEXT, type={"const": "function"}, function=_object(name=_TEXT, arguments=_TEXT))
_MESSAGE["properties"]["tool_calls"] = _list_of(_CALL)
_LOGPROB: Schema = {"type": "number", "maximum": 0}
_TOKEN: Schema = {
    "token": _TEXT,
    "logprob": _LOGPROB,
    "bytes": _nullable(_list_of({"type": "integer", "minimum": 0, "maximum": 255})),
}
_CHAT_LOGPROBS = _nullable(
    _object(
        content=_list_of(_object(**_TOKEN, top_logprobs=_list_of(_object(**_TOKEN)))),
        refusal={"type": "null"},
    )
)
_COMPLETION_LOGPROBS = _nullable(
    _object(
        tokens=_list_of(_TEXT),
        token_logprobs=_list_of(_LOGPROB),
        top_logprobs=_list_of({"type": "object", "additionalProperties": _LOGPROB}),
        text_offset=_list_of(_COUNT),
    )
)
_CHAT = {"logprobs": _CHAT_LOGPROBS}
_COMPLETION = {"logprobs": _COMPLETION_LOGPROBS, "text": _TEXT}
_DELTA: Schema = {
    "type": "object",
    "properties": {
        "role": _TEXT,
        "content": _TEXT,
        "tool_calls": _list_of({"type": "object", "required": ["index", "function"]}),
    },
}
_RESPONSES: dict[str, Schema] = {
    "Model": _object(
        id=_TEXT,
        object={"const": "model"},
        created=_COUNT,
        owned_by=_TEXT,
        context_length=_COUNT,
        parent=_nullable(_TEXT),
        embedding_dimensions=_nullable(_COUNT),
        tools={"type": "boolean"},
    ),
    "ModelList": _object(object={"const": "list"}, data=_list_of(_refer_to("Model"))),
    "Usage": _object(
        prompt_tokens=_COUNT,
        completion_tokens=_COUNT,
        total_tokens=_COUNT,
        prompt_tokens_details=_object(cached_tokens=_COUNT),
    ),
    "Chat": _with_usage(
        _envelope("chat.completion", _CHAT_FINISH, message=_MESSAGE, **_CHAT), required=True
    ),
    "ChatChunk": _with_usage(
        _envelope("chat.completion.chunk", _nullable(_CHAT_FINISH), delta=_DELTA, **_CHAT),
        required=False,
    ),
    "Completion": _with_usage(_envelope("text_completion", _FINISH, **_COMPLETION), required=True),
    "CompletionChunk": _with_usage(
        _envelope("text_completion", _nullable(_FINISH), **_COMPLETION), required=False
    ),
    "EmbeddingList": _object(
        object={"const": "list"},
        data=_list_of(
            _object(
                object={"const": "embedding"},
                index=_COUNT,
                embedding={"anyOf": [_list_of({"type": "number"}), _TEXT]},
            )
        ),
        model=_TEXT,
        usage=_object(prompt_tokens=_COUNT, total_tokens=_COUNT),
    ),
    "TokenList": _object(
        count=_COUNT,
        max_model_len=_COUNT,
        tokens=_list_of(_COUNT),
        token_strs=_nullable(_list_of(_TEXT)),
    ),
    "TokenText": _object(prompt=_TEXT),
    "ResponseEvent": {"type": "object", "required": ["type", "sequence_number"]},
    "Response": {
        "type": "object",
        "required": ["id", "object", "created_at", "status", "model", "output", "usage"],
        "properties": {
            "object": {"const": "response"},
            "status": {"enum": ["completed", "incomplete"]},
            "output": _list_of({"type": "object", "required": ["type", "id"]}),
        },
    },
    "Error": _object(
        error=_object(message=_TEXT, type=_TEXT, param=_nullable(_TEXT), code=_nullable(_TEXT))
    ),
}
