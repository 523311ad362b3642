"""Messages in one form, whatever the format: OpenAI's, with texts and decoded tool arguments.

``developer`` is ``system``; text parts are joined, null is empty text; ShareGPT's ``function_call``
is an assistant's tool call and ``observation`` its result; arguments written as JSON text are
objects, as chat templates expect them. What a model cannot learn from as it stands is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from components.clean.conversations.chat_rows.refused_row import RefusedRow, show_short

Message = dict[str, Any]
"""``role``, ``content`` and, where there are, ``reasoning_content``, ``tool_calls``,
``tool_call_id``, ``name`` and ``weight``, in this order."""
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Role as it is written -> role of the form."""
_ROLE_FIELDS = ("role", "from")
_CONTENT_FIELDS = ("content", "value", "text")
_CALL_FIELDS = ("tool_calls", "function_call")
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names of a turn's reasoning: DeepSeek's, OpenRouter's and vLLM's, gpt-oss's and Ollama's."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_UNDECODED_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that was no UTF-8, as ``surrogateescape`` has it."""


def read_message(value: Any, place: str) -> Message:
    """Read one message of any format.

    Args:
        value: the message as it is written.
        place: where it stands in its row, for reasons.

    Raises:
        RefusedRow: an unknown role, a content that is no text, a tool call that is none.
    """
    if not isinstance(value, Mapping):
        raise RefusedRow(f"{place}: is no message, but {show_short(value)}")
    value = _by_lower_name(value)
    written = _first(value, _ROLE_FIELDS)
    role = ROLES.get(written.strip().lower()) if isinstance(written, str) else None
    if role is None:
        raise RefusedRow(
            f"{place}: its role is {show_short(written)}; roles: {', '.join(dict.fromkeys(ROLES))}"
        )
    content = _first(value, _CONTENT_FIELDS)
    if isinstance(written, str) and written.strip().lower() == "function_call":
        calls = _decode_json(content, f"{place}: its function call")
        return _message(role, "", tool_calls=read_calls(calls, place))
    message = _message(role, _read_content(content, place, is_result=role == "tool"))
    if role == "assistant":
        _add_answer_fields(message, value, place)
    if role == "tool":
        for name in ("tool_call_id", "name"):
            if isinstance(value.get(name), str):
                message[name] = value[name]
    return message


def is_message(value: Any) -> bool:
    """True for an object with a speaker and what it says; OpenAI's names may have any speaker."""
    if not isinstance(value, Mapping):
        return False
    fields = _by_lower_name(value)
    written = _first(fields, _ROLE_FIELDS)
    if not isinstance(written, str) or written.strip().lower() not in ROLES:
        return "role" in fields and "content" in fields
    return _first(fields, (*_CONTENT_FIELDS, *_CALL_FIELDS)) is not None


def check_characters(text: str) -> None:
    """Refuse JSON text that holds a byte which is no UTF-8, or half a character.

    Raises:
        RefusedRow: it does.
    """
    if _UNDECODED_BYTE.search(text):
        raise RefusedRow("a byte of it is no UTF-8")
    if _HALF_CHARACTER.search(text):
        raise RefusedRow("holds half of a character (a lone surrogate)")


def _message(role: str, content: str, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


def _by_lower_name(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Fields of a message by their names in lower case, without those that are null."""
    return {str(name).lower(): inner for name, inner in value.items() if inner is not None}


def _first(value: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _add_answer_fields(message: Message, value: Mapping[Any, Any], place: str) -> None:
    """Add to an assistant's turn its reasoning, refusal, calls and weight."""
    if isinstance(value.get("refusal"), str) and not message["content"]:
        message["content"] = value["refusal"]
    thoughts = [value.get(name) for name in _REASONING_FIELDS]
    reasoning = next((text for text in thoughts if isinstance(text, str) and text.strip()), None)
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    calls = value.get("tool_calls") or value.get("function_call")
    if isinstance(calls, str):
        calls = _decode_json(calls, f"{place}.tool_calls")
    if calls:
        message["tool_calls"] = read_calls(calls, place)
    weight = value.get("weight")
    if weight is None:
        return
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RefusedRow(f"{place}.weight: must be 0 or 1, is {show_short(weight)}")
    if weight == 0:
        message["weight"] = 0


def _read_content(value: Any, place: str, *, is_result: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str | Mapping) for part in value):
        is_parts = all(isinstance(part, str) or "type" in part for part in value)
        if is_parts or not is_result:
            return "".join(
                _read_part(part, f"{place}.content.{number}") for number, part in enumerate(value)
            )
    if is_result and not isinstance(value, bytes):
        return json.dumps(value, ensure_ascii=False)  # what a tool gave, as it would be shown
    raise RefusedRow(f"{place}.content: is no text, but {show_short(value)}")


def _read_part(part: str | Mapping[Any, Any], place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type")
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return str(part["refusal"])
    raise RefusedRow(f"{place}: is a part of type {show_short(kind)}; only text is read")


def read_calls(value: Any, place: str) -> list[dict[str, Any]]:
    """Tool calls of a turn: OpenAI's, or bare pairs of ``name`` and ``arguments``.

    Raises:
        RefusedRow: one names no function, or its arguments are no object.
    """
    calls = [value] if isinstance(value, Mapping) else value
    if not isinstance(calls, list) or not calls:
        raise RefusedRow(f"{place}.tool_calls: is no list of calls, but {show_short(value)}")
    return [_read_call(call, f"{place}.tool_calls.{at}") for at, call in enumerate(calls)]


def _read_call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name.strip():
        raise RefusedRow(f"{place}: names no function")
    arguments = _first(function, ("arguments", "parameters"))
    if isinstance(arguments, str):
        arguments = _decode_json(arguments, f"{place}: its arguments") if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise RefusedRow(f"{place}: its arguments are no object, but {show_short(arguments)}")
    identifier = call.get("id")
    known = {"id": identifier} if isinstance(identifier, str) and identifier else {}
    return {**known, "type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def _decode_json(value: Any, thing: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RefusedRow(f"{thing} is no JSON") from error
