"""OpenAI-compatible endpoint: models, chat completions and completions, streamed or whole."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from serving.api.api_router import ApiRouter
from serving.api.auth import RequestGuard
from serving.api.disconnect import DisconnectWatch, EventStream
from serving.api.error_responses import ApiError, model_failed_error, queue_full_error
from serving.api.limits import EndpointLimits
from serving.api.openapi_document import describe_api
from serving.api.request_body import parse_request
from serving.api.request_schema import ChatRequest, CompletionRequest, GenerationRequest, Usage
from serving.api.response_format import (
    CHAT_FORMAT,
    COMPLETION_FORMAT,
    DONE,
    ResponseEnvelope,
    ResponseFormat,
    encode_event,
)
from serving.engine.batching_engine import Engine
from serving.engine.detokenize import TextStream
from serving.engine.generation import EngineFailed, Generation
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.scheduler import QueueFull

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(frozen=True)
class LoadedModel:
    """One model, loaded and ready to answer."""

    model: str
    """The name that requests ask for."""
    created: int
    """Unix seconds."""
    fingerprint: str
    """Names the very weights: equal seeds give equal answers under one fingerprint."""
    prompts: PromptEncoder
    table: Sequence[bytes]
    """The bytes of each token."""
    engine: Engine
    limits: EndpointLimits
    version: str = ""
    """Of the registered model."""


def create_app(served: LoadedModel, api_key: str | None) -> ASGIApp:
    """The routes below ``/v1``, behind the request guard."""
    app = ApiRouter()

    @app.get("/models")
    async def models(_: HttpRequest) -> dict[str, Any]:
        return {"object": "list", "data": [_card(served)]}

    @app.get("/models/{name}")
    async def model(http: HttpRequest) -> dict[str, Any]:
        _check_model(served, http.path_params["name"])
        return _card(served)

    @app.post("/chat/completions")
    async def chat(http: HttpRequest) -> Response:
        request = parse_request(ChatRequest, await http.body())
        _check_request(served, request)
        prompt = await served.prompts.encode_chat(request.messages)
        return await _answer(served, request, prompt, CHAT_FORMAT, http)

    @app.post("/completions")
    async def complete(http: HttpRequest) -> Response:
        request = parse_request(CompletionRequest, await http.body())
        _check_request(served, request)
        prompt = await served.prompts.encode_text(request.prompt)
        return await _answer(served, request, prompt, COMPLETION_FORMAT, http)

    document = describe_api(served.model, has_key=bool(api_key))

    @app.get("/openapi.json")
    async def openapi(_: HttpRequest) -> dict[str, Any]:
        return document

    return RequestGuard(app, served.limits, api_key)


def _card(served: LoadedModel) -> dict[str, Any]:
    return {
        "id": served.model,
        "object": "model",
        "created": served.created,
        "owned_by": "modelmill",
        "context_length": served.engine.context,
    }


def _check_model(served: LoadedModel, name: str) -> None:
    if name != served.model:
        raise ApiError(
            404,
            f"The model '{name}' does not exist; this endpoint serves '{served.model}'.",
            code="model_not_found",
            param="model",
        )


def _check_request(served: LoadedModel, request: GenerationRequest) -> None:
    """Refuse what can be refused before the prompt is tokenized.

    Raises:
        ApiError: unknown model, too many stop strings.
    """
    _check_model(served, request.model)
    most = served.limits.stop_strings
    if len(request.stops) > most:
        raise ApiError(
            400,
            f"Invalid 'stop': array too long. Expected an array with at most {most} strings.",
            param="stop",
            code="array_above_max_length",
        )


def _start(served: LoadedModel, request: GenerationRequest, prompt: Sequence[int]) -> Generation:
    """Submit a request to the engine.

    Raises:
        ApiError: queue full.
    """
    if isinstance(request, ChatRequest) and request.asks_nothing:
        # A model invents a question then and answers with anything at all.
        return served.engine.answer_nothing(prompt)
    sampling = request.sampling_params(served.limits.temperature)
    try:
        return served.engine.submit(prompt, sampling, request.limit or served.engine.context)
    except QueueFull:
        raise queue_full_error() from None


async def _answer(
    served: LoadedModel,
    request: GenerationRequest,
    prompt: Sequence[int],
    shape: ResponseFormat,
    http: HttpRequest,
) -> Response:
    """Answer whole or as a stream; the engine is told when nobody listens any more."""
    generation = _start(served, request, prompt)
    answer = ResponseEnvelope(
        identifier=f"{shape.prefix}-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=served.model,
        fingerprint=served.fingerprint,
        format=shape,
    )
    text = TextStream(served.table, request.stops)
    if request.stream:
        events = _events(answer, generation, text, request.wants_usage)
        return EventStream(events, generation.cancel)
    with DisconnectWatch(http.receive, generation.cancel) as client:
        whole = await _collect(generation, text)
    if client.disconnected:
        return Response(status_code=499)
    return JSONResponse(answer.whole_answer(whole, _finish(generation, text), _usage(generation)))


async def _collect(generation: Generation, text: TextStream) -> str:
    try:
        return "".join([piece async for piece in _pieces(generation, text)])
    except EngineFailed:
        raise model_failed_error() from None


async def _pieces(generation: Generation, text: TextStream) -> AsyncGenerator[str, None]:
    """Text as it can be shown, of all new tokens together; frees the engine's row at its end."""
    try:
        tokens, seen = generation.tokens, 0
        while not text.stopped:
            await generation.wait_beyond(seen)
            if seen == len(tokens):
                break
            piece = ""
            while seen < len(tokens) and not text.stopped:
                piece += text.push(tokens[seen])
                seen += 1
            if piece:
                yield piece
        if rest := text.finish():
            yield rest
    finally:
        generation.cancel()


async def _events(
    answer: ResponseEnvelope, generation: Generation, text: TextStream, wants_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of a stream, ``[DONE]`` last."""
    pieces = _pieces(generation, text)
    try:
        if opening := answer.opening_chunk():
            yield encode_event(opening)
        async for piece in pieces:
            yield answer.text_event(piece)
        last = encode_event(answer.closing_chunk(_finish(generation, text)))
        if wants_usage:
            last += encode_event(answer.usage_chunk(_usage(generation)))
        yield last + DONE
    except EngineFailed:
        yield encode_event(model_failed_error().body)
    finally:
        generation.cancel()
        await pieces.aclose()


def _finish(generation: Generation, text: TextStream) -> str:
    return "stop" if text.stopped else generation.finish_reason or "stop"


def _usage(generation: Generation) -> Usage:
    return Usage(prompt_tokens=len(generation.prompt), completion_tokens=len(generation.tokens))
