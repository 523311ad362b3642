"""Route of embeddings, in OpenAI's form; ``text_embedder`` says what the vectors are."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema, field_validator
from starlette.responses import Response
from starlette.types import Receive

from components.core.log import get_logger
from serving.api.disconnect import DisconnectWatch
from serving.api.error_responses import ApiError, model_failed_error, queue_full_error
from serving.api.limits import EndpointLimits
from serving.api.prompt_forms import PROMPT_SCHEMA, Prompt, read_prompts
from serving.api.request_body import array_too_long
from serving.api.response_format import encode_json
from serving.api.tokens.token_requests import ModelRequest
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.text_embedder import EmbeddingGivenUp, TextEmbedder, Vector
from serving.engine.waiting_queue import QueueFull

log = get_logger(__name__)


class EmbeddingRequest(ModelRequest):
    """POST /embeddings."""

    input: Annotated[list[Any], WithJsonSchema(PROMPT_SCHEMA)]
    encoding_format: Literal["float", "base64"] | None = None
    """base64: of the numbers as little-endian float32."""
    dimensions: int | None = None
    """The vectors' own, if anything: they are not shortened."""

    @field_validator("input", mode="before")
    @classmethod
    def _read_input(cls, value: Any) -> list[Prompt]:
        return read_prompts(value, "input")


async def create_embeddings(
    request: EmbeddingRequest,
    embedder: TextEmbedder | None,
    prompts: PromptEncoder,
    limits: EndpointLimits,
    receive: Receive,
    *,
    adapter: int = 0,
) -> Response:
    """Vectors of all inputs, in their order.

    Args:
        request: of its schema.
        embedder: the model's; None where its graph gives no states.
        prompts: the model's.
        limits: of the endpoint.
        receive: tells when the client has gone.
        adapter: number of the adapter that the request names; 0 is none.

    Raises:
        ApiError: 400 with the field, 429 where too many wait.
    """
    embedder = _checked_embedder(request, embedder)
    texts = await _encode_inputs(prompts, request.input, limits)
    gone = asyncio.Event()
    try:
        with DisconnectWatch(receive, gone.set):
            vectors = await embedder.embed(texts, adapter, gone.is_set)
    except EmbeddingGivenUp:
        return Response(status_code=499)
    except QueueFull:
        raise queue_full_error() from None
    except Exception as error:
        log.exception("the model failed")
        raise model_failed_error() from error
    return await _write_vectors(request, vectors, sum(map(len, texts)))


def _checked_embedder(request: EmbeddingRequest, embedder: TextEmbedder | None) -> TextEmbedder:
    """The model's embedder, which gives vectors of the width that the request asks for."""
    if embedder is None:
        raise ApiError(
            400,
            f"The model '{request.model}' gives no embeddings.",
            param="model",
            code="unsupported_model",
        )
    if request.dimensions not in (None, embedder.width):
        raise ApiError(
            400,
            f"Invalid 'dimensions': the vectors of this model have {embedder.width} numbers and "
            "are not shortened.",
            param="dimensions",
            code="invalid_value",
        )
    return embedder


async def _write_vectors(
    request: EmbeddingRequest, vectors: Sequence[Vector], tokens: int
) -> Response:
    """The answer's JSON, item by item.

    Two thousand vectors encoded at once would hold running streams up.
    """
    items = list[str]()
    for at, vector in enumerate(vectors):
        item = {"object": "embedding", "index": at, "embedding": _encode_vector(request, vector)}
        items.append(encode_json(item))
        await asyncio.sleep(0)
    rest = {
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    body = f'{{"object":"list","data":[{",".join(items)}],{encode_json(rest)[1:]}'
    return Response(body, media_type="application/json")


async def _encode_inputs(
    prompts: PromptEncoder, inputs: Sequence[Prompt], limits: EndpointLimits
) -> list[Sequence[int]]:
    """Token ids of all inputs.

    Args:
        prompts: the model's.
        inputs: of the request.
        limits: of the endpoint.

    Raises:
        ApiError: 400, with the field.
    """
    if len(inputs) > limits.embedding_inputs:
        raise array_too_long("input", f"at most {limits.embedding_inputs} texts")
    texts, total = list[Sequence[int]](), 0
    for at, text in enumerate(inputs):
        texts.append(await _encode(prompts, text, at, len(inputs)))
        total += len(texts[-1])
        if total > limits.embedding_tokens:
            raise ApiError(
                400,
                f"Invalid 'input': its texts have more than {limits.embedding_tokens} tokens "
                "together; send them in several requests.",
                param="input",
                code="max_tokens_per_request",
            )
    return texts


async def _encode(prompts: PromptEncoder, text: Prompt, at: int, count: int) -> Sequence[int]:
    """Token ids of one input, without what opens a prompt."""
    place = "input" if count == 1 else f"input[{at}]"
    if isinstance(text, list):
        prompts.check_ids(text, place, answers=False)
        return text
    if not text:
        raise ApiError(
            400,
            f"Invalid '{place}': an empty text has no vector.",
            param=place,
            code="empty_string",
        )
    ids = (await prompts.encode_text(text, place, must_fit=False))[1:]
    return prompts.require_room(ids, place, answers=False)


def _encode_vector(request: EmbeddingRequest, vector: Vector) -> list[float] | str:
    if request.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]
