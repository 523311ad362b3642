"""One conversation of a row: its messages in one form, its tools, and texts to compare it by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.clean.conversations.chat_rows.chat_formats import read_turns
from components.clean.conversations.chat_rows.chat_messages import (
    Message,
    check_characters,
    read_message,
)
from components.clean.conversations.chat_rows.message_texts import document_text
from components.clean.conversations.chat_rows.refused_row import RefusedRow, show_short
from components.clean.conversations.chat_rows.tagged_calls import open_tagged_calls
from components.clean.conversations.chat_rows.turn_order import order_turns
from components.core.store.artifact import digest_value

ADDRESS_DIGITS = 16
"""Hex digits of a conversation's digest in its address: two of a million share them once in
10 ** 7 files."""


@dataclass(frozen=True)
class Conversation:
    """Conversation as a row gave it, before anything is redacted."""

    messages: list[Message]
    tools: list[Any] | None
    """Functions that could be called, as JSON schemas."""
    cut_turns: int
    """Turns behind the last answer, which are cut."""

    @property
    def digest(self) -> str:
        """Identity of the content, whatever the file, the place in it and the format."""
        return digest_value([self.messages, self.tools])[:ADDRESS_DIGITS]

    @property
    def drawn_by(self) -> str:
        """Identity by which it is drawn into a split; those that share it are never parted."""
        return self.digest

    @property
    def text(self) -> str:
        return document_text(self.messages)

    @property
    def turns(self) -> list[Message]:
        """Messages without the system's: many conversations share that, and are no copies."""
        return [message for message in self.messages if message["role"] != "system"]

    @property
    def compared_text(self) -> str:
        """Text without the system's."""
        return document_text(self.turns)

    def side(self, role: str) -> str:
        """Text of the turns of one role."""
        return document_text([turn for turn in self.messages if turn["role"] == role])

    def exchange_digests(self) -> list[bytes]:
        """Digest of the turns up to each answer, the last one's being of all turns."""
        total, digests = hashlib.sha256(), []
        for turn in self.turns:
            total.update(dump_json(turn).encode())
            if turn["role"] == "assistant":
                digests.append(total.digest()[:16])
        return digests


def read_conversation(row: Any, max_characters: int) -> Conversation:
    """Read a decoded row of any format.

    Args:
        row: the row's value.
        max_characters: longest text of a conversation.

    Raises:
        RefusedRow: it holds no conversation to learn from; the message is the reason.
    """
    try:
        written, tools = read_turns(row)
        messages = [read_message(turn, f"messages.{at}") for at, turn in enumerate(written)]
        check_characters(dump_json([messages, tools]))
    except RecursionError:
        raise RefusedRow("is nested too deeply") from None
    turns, cut_turns = order_turns(open_tagged_calls(messages))
    conversation = Conversation(turns, read_tools(tools), cut_turns)
    length = len(conversation.text)
    if length > max_characters:
        raise RefusedRow(
            f"holds {length} characters of text, more than instructions.max_characters "
            f"({max_characters})"
        )
    return conversation


def dump_json(value: Any) -> str:
    """JSON text of messages or tools, in the order in which their fields are written.

    Raises:
        RefusedRow: it holds a number that JSON has no form for, or a value of no JSON type.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RefusedRow(f"holds a value that is no JSON: {error}") from error


def read_tools(tools: Any) -> list[Any] | None:
    """Tools of a row as a list of JSON schemas; None where there are none.

    Raises:
        RefusedRow: they are no such list.
    """
    if not tools:
        return None
    listed: Sequence[Any] = [tools] if isinstance(tools, dict) else tools
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise RefusedRow(f"tools: are no list of JSON schemas, but {show_short(tools)}")
    return listed
