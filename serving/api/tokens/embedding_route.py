"""Route of embeddings, in OpenAI's form; ``text_embedder`` says what the vectors are."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema, field_validator

from components.core.log import get_logger
from serving.api.error_responses import ApiError, model_failed_error, queue_full_error
from serving.api.limits import EndpointLimits
from serving.api.prompt_forms import PROMPT_SCHEMA, Prompt, read_prompts
from serving.api.request_body import array_too_long
from serving.api.tokens.token_requests import ModelRequest
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.text_embedder import TextEmbedder, Vector
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
    *,
    adapter: int = 0,
) -> dict[str, Any]:
    """Vectors of all inputs, in their order.

    Args:
        request: of its schema.
        embedder: the model's; None where its graph gives no states.
        prompts: the model's.
        limits: of the endpoint.
        adapter: number of the adapter that the request names; 0 is none.

    Raises:
        ApiError: 400 with the field, 429 where too many wait.
    """
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
    if len(request.input) > limits.choices:
        raise array_too_long("input", f"at most {limits.choices} texts")
    texts = [
        await _encode(prompts, text, at, len(request.input))
        for at, text in enumerate(request.input)
    ]
    try:
        vectors = await embedder.embed(texts, adapter)
    except QueueFull:
        raise queue_full_error() from None
    except Exception as error:
        log.exception("the model failed")
        raise model_failed_error() from error
    tokens = sum(map(len, texts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": _encode_vector(request, vector)}
            for at, vector in enumerate(vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


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
