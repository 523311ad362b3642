"""Request schema of the tokenizing routes, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from serving.api.message_fields import read_refusals
from serving.api.request_schema import StrictModel, TokenId


class ModelRequest(StrictModel):
    """Fields that all requests share."""

    model: str
    """The name that ``/models`` lists."""
    user: str | None = None
    """The application's own user."""


class TokenizeRequest(ModelRequest):
    """POST /tokenize: a text, or messages."""

    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    """Written by the chat template, up to and with what opens the answer."""
    add_special_tokens: bool | None = None
    """A text begins with the token that a completion's prompt begins with; true if left out."""
    return_token_strs: bool | None = None
    """The text of each token too."""

    @field_validator("messages")
    @classmethod
    def _read_refusals(cls, messages: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        return None if messages is None else read_refusals(messages)


class DetokenizeRequest(ModelRequest):
    """POST /detokenize."""

    tokens: list[TokenId]
