"""Tool calls and results written as tags in the text, as Hermes' and Qwen's data sets have them.

``<tool_call>{"name": …, "arguments": …}</tool_call>`` in an assistant's text that a tool's turn
follows is a call; ``<tool_response>…</tool_response>`` in that turn is the result of one. A text
that only speaks of the tags, or is cut, stays what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from components.clean.conversations.chat_rows.chat_messages import Message, read_calls
from components.clean.conversations.chat_rows.refused_row import RefusedRow

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def open_tagged_calls(messages: Sequence[Message]) -> list[Message]:
    """Messages whose tagged calls and results are calls and results."""
    opened: list[Message] = []
    for at, message in enumerate(messages):
        is_called = at + 1 < len(messages) and messages[at + 1]["role"] == "tool"
        if message["role"] == "assistant" and is_called and "tool_calls" not in message:
            opened.append(_open_calls(message))
        elif message["role"] == "tool":
            results = _RESULT.findall(message["content"]) or [message["content"]]
            is_tagged = _RESULT.search(message["content"]) is not None
            opened += [
                {**message, "content": result.strip() if is_tagged else result}
                for result in results
            ]
        else:
            opened.append(message)
    return opened


def _open_calls(message: Message) -> Message:
    blocks = _CALL.findall(message["content"])
    try:
        calls: list[Any] = [json.loads(block) for block in blocks]
        read = read_calls(calls, "messages") if calls else []
    except (ValueError, RecursionError, RefusedRow):
        return message
    if not read:
        return message
    return {**message, "content": _CALL.sub("", message["content"]).strip(), "tool_calls": read}
