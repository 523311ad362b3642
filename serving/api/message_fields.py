"""Fields of chat messages: read by the model's template, of no effect, or refused by name.

A template leaves out a field that it does not know without a word, so the answer would be one to
another conversation than the client sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.api.error_responses import ApiError
from serving.api.request_body import invalid_type, missing_parameter, unknown_parameter

_ALWAYS = frozenset({"role", "content"})
_REASONING = frozenset({"reasoning_content", "thinking", "reasoning"})
"""Names of one field, given to templates by those that they read."""
_KNOWN: dict[str, tuple[Any, ...]] = {
    "name": ("",),
    "refusal": ("",),
    "audio": (),
    "function_call": (),
    "tool_calls": ([],),
    "tool_call_id": (),
    "annotations": ([],),
    **dict.fromkeys(sorted(_REASONING), ("",)),
}
"""Fields of OpenAI's messages, and of reasoning -> values beside null that say nothing."""
_OF_TOOL_RESULTS = frozenset({"name", "tool_call_id"})
"""Say which call a result belongs to; a template that does not read them goes by the order."""
_PART_FIELDS = frozenset({"type", "text", "cache_control", "prompt_cache_breakpoint"})
"""Fields of a text part: its own, and hints for caches, which change no answer."""


def check_messages(
    messages: Sequence[dict[str, Any]], template_fields: frozenset[str] | None
) -> None:
    """Refuse messages that are none, and fields of theirs that would not be heard.

    Args:
        messages: the conversation.
        template_fields: those that the chat template reads; None where it writes whole messages.

    Raises:
        ApiError: 400, with the field's place.
    """
    for at, message in enumerate(messages):
        _check_form(message, f"messages[{at}]")
        if template_fields is not None:
            for name, value in message.items():
                if not _is_heard(message, name, value, template_fields):
                    raise _unheard_field(f"messages[{at}].{name}", name)
        _check_parts(message.get("content"), f"messages[{at}].content")


def read_refusals(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose refusals, parts of an assistant's turn in OpenAI's history, are its text."""
    return [
        {**message, "content": [_read_refusal(part) for part in message["content"]]}
        if message.get("role") == "assistant" and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _read_refusal(part: Any) -> Any:
    is_refusal = isinstance(part, dict) and part.keys() == {"type", "refusal"}
    if not is_refusal or part["type"] != "refusal" or not isinstance(part["refusal"], str):
        return part
    return {"type": "text", "text": part["refusal"]}


def _check_form(message: dict[str, Any], place: str) -> None:
    """A message has a role, and content unless the assistant says it.

    Raises:
        ApiError: 400, with the field's place.
    """
    if "role" not in message:
        raise missing_parameter(f"{place}.role")
    role, content = message["role"], message.get("content")
    if not isinstance(role, str):
        raise invalid_type(f"{place}.role", "a string", role)
    if content is None and role == "assistant":
        return
    if "content" not in message:
        raise missing_parameter(f"{place}.content")
    if not isinstance(content, str | list):
        raise invalid_type(f"{place}.content", "a string or an array", content)
    for at, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict):
            raise invalid_type(f"{place}.content[{at}]", "an object", part)
        if "type" not in part:
            raise missing_parameter(f"{place}.content[{at}].type")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise _wrong_text(part, f"{place}.content[{at}].text")


def _wrong_text(part: dict[str, Any], place: str) -> ApiError:
    if "text" not in part:
        return missing_parameter(place)
    return invalid_type(place, "a string", part["text"])


def _is_heard(
    message: dict[str, Any], name: str, value: Any, template_fields: frozenset[str]
) -> bool:
    """A field is read by the template, or says nothing."""
    if name in _ALWAYS or name in template_fields:
        return True
    if name in _REASONING and template_fields & _REASONING:
        return True
    if name in _OF_TOOL_RESULTS and message.get("role") == "tool":
        return True
    return name in _KNOWN and (value is None or value in _KNOWN[name])


def _unheard_field(place: str, name: str) -> ApiError:
    if name not in _KNOWN:
        return unknown_parameter(place)
    return ApiError(
        400,
        f"Unsupported parameter: '{place}' is not read by this model's chat template; leave it "
        "out.",
        param=place,
        code="unsupported_parameter",
    )


def _check_parts(content: Any, place: str) -> None:
    for at, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") == "text":
            for name in part:
                if name not in _PART_FIELDS:
                    raise unknown_parameter(f"{place}[{at}].{name}")
