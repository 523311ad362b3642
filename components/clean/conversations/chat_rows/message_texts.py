"""Texts of a conversation: all of them as one document, and each of them edited in its place.

The document's text is what scorers read: contents a blank line apart, tool calls as their name and
a line an argument. A span of it is found again in the message it came from, so that what is
redacted in one is redacted in the other, under the same placeholder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from components.clean.conversations.chat_rows.chat_messages import Message
from components.text.pii.redact import Redactor
from components.text.spans import Span

Edit = Callable[[str, str], str]
"""(text of a place, what stands before it in the document) -> the new text of the place."""
_BETWEEN = "\n\n"


def document_text(messages: Sequence[Message]) -> str:
    """Text of all turns as one document."""
    return "".join(before + text for before, text in _places(messages))


def redact_messages(
    messages: Sequence[Message], spans: Iterable[Span], redactor: Redactor
) -> list[Message]:
    """Messages whose personal data is replaced, in contents, reasoning and tool arguments.

    Args:
        messages: in the one form.
        spans: of their ``document_text``, sorted and apart.
        redactor: gives a value its placeholder, the same all over the conversation.
    """
    waiting = list(spans)
    end = -len(_BETWEEN)  # nothing stands before the first text

    def edit(text: str, before: str) -> str:
        nonlocal end
        start = end + len(before)
        end = start + len(text)
        inside = [
            Span(max(span.start, start) - start, min(span.end, end) - start, span.kind)
            for span in waiting
            if span.start < end and span.end > start
        ]
        while waiting and waiting[0].end <= end:
            waiting.pop(0)
        return redactor.replace(text, inside)

    return _edit_messages(messages, edit)


def redact_strings(value: Any, redactor: Redactor) -> Any:
    """Value of JSON whose texts are redacted, names of fields left as they are."""
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, Mapping):
        return {name: redact_strings(inner, redactor) for name, inner in value.items()}
    return [redact_strings(i, redactor) for i in value] if isinstance(value, list) else value


def _places(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """(what stands before a text, the text) of every text of a conversation, in order."""
    places: list[tuple[str, str]] = []

    def collect(text: str, before: str) -> str:
        places.append((before if places else "", text))
        return text

    _edit_messages(messages, collect)
    return iter(places)


def _edit_messages(messages: Sequence[Message], edit: Edit) -> list[Message]:
    edited: list[Message] = []
    for message in messages:
        turn = dict(message)
        for name in ("reasoning_content", "content"):
            if turn.get(name):
                turn[name] = edit(turn[name], _BETWEEN)
        if "tool_calls" in turn:
            turn["tool_calls"] = [_edit_call(call, edit) for call in turn["tool_calls"]]
        edited.append(turn)
    return edited


def _edit_call(call: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    function = call["function"]
    name = edit(function["name"], _BETWEEN)
    arguments = _edit_value(function["arguments"], edit, "\n")
    return {**call, "function": {"name": name, "arguments": arguments}}


def _edit_value(value: Any, edit: Edit, before: str) -> Any:
    if isinstance(value, str):
        return edit(value, before)
    if isinstance(value, Mapping):
        return {edit(name, "\n"): _edit_value(inner, edit, ": ") for name, inner in value.items()}
    if isinstance(value, list):
        return [_edit_value(inner, edit, ", " if at else before) for at, inner in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    text = str(value)  # a number: as text where it was personal data
    edited = edit(text, before)
    return value if edited == text else edited
