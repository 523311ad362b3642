"""Limits of an endpoint on itself and on its callers."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, ValidationError

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.text.chat.chat_tokenizer import TEMPERATURE


class EndpointLimits(StageConfig):
    """Limits of one endpoint; a Bento carries its own."""

    slots: int = Field(default=16, ge=1, le=1024, description="sequences decoded together")
    queue: int = Field(
        default=64, ge=0, le=100_000, description="requests that may wait for a slot"
    )
    context: int | None = Field(
        default=None,
        ge=2,
        description="most tokens of a prompt with its answer; if left out, the model's context, or "
        "as much of it as the memory holds for all slots",
    )
    prefill_tokens: int = Field(
        default=256,
        ge=1,
        description="most prompt tokens read between two decoding steps; while answers are being "
        "decoded, fewer, by measured time",
    )
    prefix_bytes: int = Field(
        default=64 << 20,
        ge=0,
        description="memory for prompts read before, so that one which begins like them is not "
        "read again; 0 reads each whole",
    )
    guesses: bool = Field(
        default=True,
        description="guess the next tokens of a single greedy answer from its text so far, and "
        "check them in one step; its text stays the same",
    )
    queue_seconds: float = Field(
        default=30.0, gt=0, description="longest a request waits for a slot before it is refused"
    )
    wait_seconds: float = Field(
        default=1.5,
        gt=0,
        description="longest wait for a slot that a request may expect, in seconds, by the pace at "
        "which slots became free lately; beyond it requests are refused at once, but as many as "
        "there are slots (or choices in a request) may always wait",
    )
    answer_seconds: float = Field(
        default=600.0, gt=0, description="longest an answer grows before it ends where it is"
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="cores; if left out, as many as are measured to be quickest",
    )
    body_bytes: int = Field(
        default=1 << 20, ge=1024, le=1 << 30, description="largest request that is read"
    )
    body_seconds: float = Field(
        default=30.0, gt=0, description="time limit for a request to arrive, in seconds"
    )
    send_seconds: float = Field(
        default=30.0,
        gt=0,
        description="time limit for a client to read its waiting answer, in seconds; one that is "
        "slower is disconnected and its slot is free",
    )
    idle_seconds: float = Field(
        default=120.0,
        gt=0,
        description="time that a WebSocket may stay without a request, in seconds",
    )
    stop_strings: int = Field(default=4, ge=0, le=64, description="most stop strings in a request")
    choices: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="most answers to one request: its prompts times its choices (n)",
    )
    embedding_inputs: int = Field(
        default=2048, ge=1, le=100_000, description="most texts in a request for embeddings"
    )
    embedding_tokens: int = Field(
        default=300_000,
        ge=1,
        description="most tokens of all texts in a request for embeddings together",
    )
    temperature: float = Field(
        default=TEMPERATURE,
        ge=0,
        le=2,
        description="sampling temperature of requests that set none",
    )


def override_limits(limits: EndpointLimits, overrides: Mapping[str, object]) -> EndpointLimits:
    """Limits with some replaced, as ``modelmill serve`` is asked to.

    Raises:
        ConfigError: a value is out of its bounds, or there is no such limit.
    """
    try:
        return EndpointLimits.model_validate({**limits.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name} {first['input']}: {first['msg'].lower()}") from None


def check_context(limits: EndpointLimits, most: int) -> int:
    """Tokens that a row may have: the limit's, or those of the model's cache.

    Args:
        limits: the endpoint's.
        most: tokens that the model's cache holds.

    Raises:
        ConfigError: the limit is beyond the cache.
    """
    if limits.context is not None and limits.context > most:
        raise ConfigError(
            f"context {limits.context}: the model's cache holds {most} tokens; give at most that"
        )
    return limits.context or most
