"""OpenAI-compatible endpoint: models, chat completions and completions, streamed or whole."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from serving.api.answers.answer_choice import AnswerChoice
from serving.api.answers.answer_writer import AnswerWriter
from serving.api.answers.chat_socket import StreamSockets
from serving.api.answers.loaded_model import LoadedModel
from serving.api.api_router import ApiRouter
from serving.api.auth import RequestGuard
from serving.api.disconnect import DisconnectWatch, EventStream
from serving.api.error_responses import ApiError, queue_full_error, stopping_error
from serving.api.message_fields import check_messages
from serving.api.openapi_document import describe_api
from serving.api.request_body import parse_request
from serving.api.request_checks import check_constrained, check_generation
from serving.api.request_schema import ChatRequest, CompletionRequest, GenerationRequest
from serving.api.response_format import CHAT_FORMAT, COMPLETION_FORMAT, ResponseEnvelope
from serving.api.responses.responses_request import ResponsesRequest
from serving.api.responses.responses_route import name_own_fields, parse_responses_request
from serving.api.responses.responses_writer import ResponsesWriter
from serving.api.tokens.embedding_route import EmbeddingRequest, create_embeddings
from serving.api.tokens.token_requests import DetokenizeRequest, TokenizeRequest
from serving.api.tokens.token_routes import detokenize, tokenize
from serving.constrain.answer_grammar import choose_source, compile_grammar, offer_tools
from serving.constrain.constraint_factory import CompiledGrammar
from serving.constrain.tool_call_reader import ToolCallReader
from serving.engine.detokenize import TextStream
from serving.engine.generation import Generation
from serving.engine.prompt_encoder import encode_prompts
from serving.engine.waiting_queue import QueueFull

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def create_app(served: LoadedModel, api_key: str | None) -> ASGIApp:
    """The routes below ``/v1``, behind the request guard."""
    app = ApiRouter()
    _add_answer_routes(app, served)
    _add_model_routes(app, served)
    _add_token_routes(app, served)
    document = describe_api(served.model, has_key=bool(api_key))

    @app.get("/openapi.json")
    async def openapi(_: HttpRequest) -> dict[str, Any]:
        return document

    return RequestGuard(app, served.limits, api_key)


def _add_answer_routes(app: ApiRouter, served: LoadedModel) -> None:
    """Chat, over a WebSocket too, completions and responses."""
    template_fields = served.prompts.tokenizer.template.message_fields

    @app.post("/chat/completions")
    async def chat(http: HttpRequest) -> Response:
        request = parse_request(ChatRequest, await http.body())
        _check_request(served, request)
        check_messages(request.messages, template_fields)
        _check_queue(served, request, http)
        tools = offer_tools(request, served.tool_call_form)
        prompt = await served.prompts.encode_chat(request.messages, tools)
        return await _answer(served, request, [prompt], http)

    @app.post("/completions")
    async def complete(http: HttpRequest) -> Response:
        request = parse_request(CompletionRequest, await http.body())
        _check_request(served, request)
        _check_queue(served, request, http)
        prompts = await encode_prompts(served.prompts, request.prompt, "prompt")
        return await _answer(served, request, prompts, http)

    @app.post("/responses")
    async def respond(http: HttpRequest) -> Response:
        request = parse_responses_request(await http.body())
        with name_own_fields():
            return await _respond(served, request, http)

    app.websocket("/chat/completions")(StreamSockets(chat, served.limits).serve)


def _add_model_routes(app: ApiRouter, served: LoadedModel) -> None:
    """Cards of the model and of its adapters."""

    @app.get("/models")
    async def models(_: HttpRequest) -> dict[str, Any]:
        names = [served.model, *served.adapter_numbers]
        return {"object": "list", "data": [_card(served, name) for name in names]}

    @app.get("/models/{name}")
    async def model(http: HttpRequest) -> dict[str, Any]:
        name = http.path_params["name"]
        _check_model(served, name)
        return _card(served, name)


def _add_token_routes(app: ApiRouter, served: LoadedModel) -> None:
    """Token ids of texts, texts of token ids, and vectors."""

    @app.post("/tokenize")
    async def tokenize_prompt(http: HttpRequest) -> dict[str, object]:
        request = parse_request(TokenizeRequest, await http.body())
        _check_model(served, request.model)
        return await tokenize(request, served.prompts, served.texts)

    @app.post("/detokenize")
    async def detokenize_tokens(http: HttpRequest) -> dict[str, object]:
        request = parse_request(DetokenizeRequest, await http.body())
        _check_model(served, request.model)
        return detokenize(request, served.texts)

    @app.post("/embeddings")
    async def embed(http: HttpRequest) -> Response:
        request = parse_request(EmbeddingRequest, await http.body())
        _check_model(served, request.model)
        adapter = served.adapter_numbers.get(request.model, 0)
        return await create_embeddings(
            request, served.embedder, served.prompts, served.limits, http.receive, adapter=adapter
        )


def _card(served: LoadedModel, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "modelmill",
        "context_length": served.engine.context,
        "parent": None if name == served.model else served.model,
        "embedding_dimensions": served.embedder.width if served.embedder else None,
        "tools": served.tool_call_form is not None,
    }


def _check_model(served: LoadedModel, name: str) -> None:
    if name != served.model and name not in served.adapter_numbers:
        names = ", ".join(f"'{known}'" for known in (served.model, *served.adapter_numbers))
        raise ApiError(
            404,
            f"The model '{name}' does not exist; this endpoint serves {names}.",
            code="model_not_found",
            param="model",
        )


def _check_request(served: LoadedModel, request: GenerationRequest) -> None:
    """Refuse what can be refused before the prompt is tokenized.

    Raises:
        ApiError: unknown model, a field beyond the endpoint's limits or the model's vocabulary,
            a server that ends.
    """
    if served.engine.stopping:
        raise stopping_error()
    _check_model(served, request.model)
    check_generation(request, served.limits, served.prompts.tokenizer.vocabulary)


def _check_queue(served: LoadedModel, request: GenerationRequest, http: HttpRequest) -> None:
    """Refuse what the queue would refuse, before the prompt is tokenized.

    Args:
        served: the model.
        request: checked.
        http: the request as it came.

    Raises:
        ApiError: queue full.
    """
    if isinstance(request, ChatRequest) and request.asks_nothing:
        return
    try:
        served.engine.check_queue(request.answer_options(_address(http)).client)
    except QueueFull:
        raise queue_full_error() from None


def _address(http: HttpRequest) -> str:
    return http.client.host if http.client else ""


async def _compile_constraint(
    served: LoadedModel, request: GenerationRequest, prompts: Sequence[Sequence[int]]
) -> CompiledGrammar | None:
    """The grammar that the request asks for, checked against the room that answers have.

    Args:
        served: the model.
        request: checked.
        prompts: token ids of each.

    Raises:
        ApiError: 400, with the field.
    """
    special = served.prompts.tokenizer.special_tokens
    own = request.constraint_source()
    source = choose_source(request, own, served.tool_call_form, special)
    if source is None:
        return None
    check_constrained(request)
    rooms = [served.engine.context - len(prompt) for prompt in prompts]
    limit = (request.limit, request.limit_field)
    return await compile_grammar(served.constraints, source, rooms, limit)


def _start_choices(
    served: LoadedModel,
    request: GenerationRequest,
    prompts: Sequence[Sequence[int]],
    grammar: CompiledGrammar | None,
    address: str,
) -> list[AnswerChoice]:
    """Submit all choices to the engine, those of one prompt side by side, or none of them.

    Args:
        served: the model.
        request: checked.
        prompts: token ids of each.
        grammar: constrains every choice.
        address: the caller's.

    Raises:
        ApiError: queue full.
    """
    choices: list[AnswerChoice] = []
    try:
        for prompt in prompts:
            for place in range(request.drawn_choices):
                generation = _submit(served, request, prompt, place, grammar, address)
                text = _open_text(served, request)
                shows_end = bool(request.include_stop_str_in_output)
                choice = AnswerChoice(len(choices), generation, text, shows_end=shows_end)
                choice.calls = _read_calls(served, request)
                choices.append(choice)
    except QueueFull:
        for choice in choices:
            choice.generation.cancel()
        raise queue_full_error() from None
    return choices


def _submit(
    served: LoadedModel,
    request: GenerationRequest,
    prompt: Sequence[int],
    place: int,
    grammar: CompiledGrammar | None,
    address: str,
) -> Generation:
    """Submit one choice.

    Args:
        served: the model.
        request: checked.
        prompt: token ids.
        place: of the choice among those of its prompt.
        grammar: constrains the choice.
        address: the caller's.

    Raises:
        QueueFull: try again later.
    """
    if grammar is None and isinstance(request, ChatRequest) and request.asks_nothing:
        # A model invents a question then and answers with anything at all.
        return served.engine.answer_nothing(prompt)
    sampling = request.sampling_params(served.limits.temperature, place)
    adapter = served.adapter_numbers.get(request.model, 0)
    options = replace(request.answer_options(address), adapter=adapter)
    if grammar is not None:
        options = replace(options, constraint=grammar.constrain())
    return served.engine.submit(prompt, sampling, request.limit or served.engine.context, options)


def _read_calls(served: LoadedModel, request: GenerationRequest) -> ToolCallReader | None:
    """Reader of an answer's calls; None where it has none."""
    form = served.tool_call_form
    if form is None or not isinstance(request, ChatRequest) or not request.offered_tools:
        return None
    # A constraint of the request's own leaves no room for text beside a call.
    return ToolCallReader(form, speaks_first=request.constraint_source() is None)


def _open_text(served: LoadedModel, request: GenerationRequest) -> TextStream:
    # Calls may be written by special tokens, which a reader of them sees.
    calls = _read_calls(served, request) is not None
    spells = request.skip_special_tokens is False or calls
    return TextStream(
        served.texts.spelled_table if spells else served.table,
        request.stops,
        shows_stop=bool(request.include_stop_str_in_output),
        min_tokens=request.min_tokens or 0,
        unsearched_from=_opening_of_calls(served, request) if calls else None,
    )


def _opening_of_calls(served: LoadedModel, request: GenerationRequest) -> str | None:
    """Text from which on an answer is a call; empty where it is one from its first sign on."""
    if isinstance(request, ChatRequest) and request.forces_call:
        return ""
    return served.tool_call_form.trigger if served.tool_call_form is not None else None


async def _respond(served: LoadedModel, request: ResponsesRequest, http: HttpRequest) -> Response:
    """Answer in the form of the responses interface.

    Args:
        served: the model.
        request: of its schema.
        http: the request as it came.
    """
    chat = request.chat_request()
    _check_request(served, chat)
    check_messages(chat.messages, served.prompts.tokenizer.template.message_fields)
    _check_queue(served, chat, http)
    tools = offer_tools(chat, served.tool_call_form)
    prompt = await served.prompts.encode_chat(chat.messages, tools)
    grammar = await _compile_constraint(served, chat, [prompt])
    (choice,) = _start_choices(served, chat, [prompt], grammar, _address(http))
    writer = ResponsesWriter(request, chat, choice, request.model)
    if request.stream:
        with DisconnectWatch(http.receive, writer.cancel):
            await choice.wait_admitted()
        return EventStream(writer)
    with DisconnectWatch(http.receive, writer.cancel) as client:
        whole = await writer.collect()
    return Response(status_code=499) if client.disconnected else JSONResponse(whole)


async def _answer(
    served: LoadedModel,
    request: GenerationRequest,
    prompts: Sequence[Sequence[int]],
    http: HttpRequest,
) -> Response:
    """Answer whole or as a stream; the engine is told when nobody listens any more.

    Args:
        served: the model.
        request: checked.
        prompts: token ids of each.
        http: the request as it came.
    """
    grammar = await _compile_constraint(served, request, prompts)
    choices = _start_choices(served, request, prompts, grammar, _address(http))
    shape = CHAT_FORMAT if isinstance(request, ChatRequest) else COMPLETION_FORMAT
    envelope = ResponseEnvelope(
        identifier=f"{shape.prefix}-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        fingerprint=served.fingerprint_of(request.model),
        format=shape,
    )
    answer = AnswerWriter(envelope, request, choices, served.texts)
    if request.stream:
        # Refused while it waits: told by the status, which goes out before the first event.
        with DisconnectWatch(http.receive, answer.cancel):
            await answer.wait_admitted()
        return EventStream(answer)
    with DisconnectWatch(http.receive, answer.cancel) as client:
        whole = await answer.collect()
    return Response(status_code=499) if client.disconnected else JSONResponse(whole)
