"""Forms of a prompt: a text, token ids, or a list of either, with the place of what is wrong."""

from __future__ import annotations

from typing import Any

from serving.api.error_responses import ApiError
from serving.api.request_body import empty_array, invalid_type

Prompt = str | list[int]
"""A text, which is tokenized, or token ids, which are taken as they are."""

_IDS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 1,
}
PROMPT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1},
    ]
}


def read_prompts(value: Any, field: str) -> list[Prompt]:
    """Prompts of a request, one or many.

    Args:
        value: what the request holds.
        field: its name.

    Raises:
        ApiError: 400, with the place.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise invalid_type(field, "a string or an array", value)
    if not value:
        raise empty_array(field)
    if isinstance(value[0], str):
        return [_require_text(item, f"{field}[{at}]") for at, item in enumerate(value)]
    if isinstance(value[0], list):
        return [_read_ids(item, f"{field}[{at}]") for at, item in enumerate(value)]
    return [_read_ids(value, field)]


def _require_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise invalid_type(place, "a string", value)
    return value


def _read_ids(value: Any, place: str) -> list[int]:
    if not isinstance(value, list):
        raise invalid_type(place, "an array", value)
    if not value:
        raise empty_array(place)
    for at, item in enumerate(value):
        if type(item) is not int:  # true is no number
            raise invalid_type(f"{place}[{at}]", "an integer", item)
        if item < 0:
            raise ApiError(
                400,
                f"Invalid '{place}[{at}]': a token id is 0 or more, but got {item} instead.",
                param=f"{place}[{at}]",
                code="integer_below_min_value",
            )
    return value
