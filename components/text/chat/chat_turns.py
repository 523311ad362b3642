"""Turns of a conversation in OpenAI's messages: its last question, its last answer, its subject."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

MESSAGES_FILE = "messages.parquet"
"""Messages of a corpus of conversations, beside its shards."""
_LONGEST_SUBJECT = 80
"""Characters of a subject: a line of a table."""

Messages = Sequence[Mapping[str, Any]]
"""Messages with texts as contents; the last is an assistant's."""


def turns_before_answer(messages: Messages) -> Messages:
    """All messages before the assistant's last turn."""
    return messages[: _last_answer(messages)]


def last_question(messages: Messages) -> str:
    """Text of the user's last turn before the last answer; empty where there is none."""
    turns = turns_before_answer(messages)
    return next((str(turn["content"]) for turn in reversed(turns) if turn["role"] == "user"), "")


def text_before_question(messages: Messages) -> str:
    """Contents of all other turns before the last answer, a blank line apart."""
    turns = turns_before_answer(messages)
    last = max((at for at, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    others = (str(turn["content"]) for at, turn in enumerate(turns) if at != last)
    return "\n\n".join(text for text in others if text)


def last_answer(messages: Messages) -> str:
    """Text of the assistant's last turn; its tool calls where it has no text."""
    turn = messages[_last_answer(messages)]
    if turn["content"]:
        return str(turn["content"])
    calls = (call["function"] for call in turn.get("tool_calls", ()))
    return "\n".join(
        f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})" for call in calls
    )


def conversation_subject(messages: Messages) -> str:
    """First line of the last question, cut at a word."""
    lines = (line.strip() for line in last_question(messages).splitlines())
    line = " ".join(next((line for line in lines if line), "").split())
    if len(line) <= _LONGEST_SUBJECT:
        return line
    cut = line[: _LONGEST_SUBJECT + 1]
    return f"{cut[: max(cut.rfind(' '), 0) or _LONGEST_SUBJECT].rstrip()}…"


def _last_answer(messages: Messages) -> int:
    return max(at for at, message in enumerate(messages) if message["role"] == "assistant")
