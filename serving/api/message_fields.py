"""Fields of chat messages: read by the model's template, of no effect, or refused by name.

A template leaves out a field that it does not know without a word, so the answer would be one to
another conversation than the client sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.api.error_responses import ApiError
from serving.api.request_body import unknown_parameter

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
    """Refuse fields of messages that would not be heard.

    Args:
        messages: the conversation.
        template_fields: those that the chat template reads; None where it writes whole messages.

    Raises:
        ApiError: 400, with the field's place.
    """
    for at, message in enumerate(messages):
        if template_fields is not None:
            for name, value in message.items():
                if not _is_heard(message, name, value, template_fields):
                    raise _unheard_field(f"messages[{at}].{name}", name)
        _check_parts(message.get("content"), f"messages[{at}].content")


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
