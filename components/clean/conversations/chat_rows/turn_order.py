"""Order of the turns of a conversation: neighbours of one role joined, calls met by results.

Two turns of one role in a row are one turn, their texts a blank line apart, since templates
alternate roles. Turns after the last answer teach nothing and are cut. A system message stands
first, and every tool result follows the call it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.clean.conversations.chat_rows.chat_messages import Message
from components.clean.conversations.chat_rows.refused_row import RefusedRow


def order_turns(messages: Sequence[Message]) -> tuple[list[Message], int]:
    """(turns from the first to the last answer, number of turns cut behind it).

    Raises:
        RefusedRow: an empty turn, a system message behind the first turn, a tool result without a
            call or a call without a result, no user's turn, or no answer to learn from.
    """
    turns: list[Message] = []
    pending: list[dict[str, Any]] = []  # calls without a result yet
    for number, message in enumerate(messages):
        place, role = f"messages.{number}", message["role"]
        if role == "system":
            _add_system(turns, message, place)
            continue
        if role == "tool":
            _take_result(pending, message, place)
            turns.append(message)
            continue
        if pending:
            raise RefusedRow(f"{place}: follows a tool call without a result")
        if not message["content"].strip() and not message.get("tool_calls"):
            raise RefusedRow(f"{place}: an empty turn of the {role}")
        pending = list(message.get("tool_calls", ()))
        if turns and turns[-1]["role"] == role and _weight(turns[-1]) == _weight(message):
            turns[-1] = _join(turns[-1], message)
        else:
            turns.append(message)
    return _cut_behind_answer(turns)


def _add_system(turns: list[Message], message: Message, place: str) -> None:
    if any(turn["role"] != "system" for turn in turns):
        raise RefusedRow(f"{place}: a system message behind the first turn")
    if not message["content"].strip():
        return  # says nothing
    if turns:
        turns[-1] = _join(turns[-1], message)
    else:
        turns.append(message)


def _take_result(pending: list[dict[str, Any]], message: Message, place: str) -> None:
    """Take the call that a result answers off the pending ones: by its id, else the oldest."""
    identifier = message.get("tool_call_id")
    matching = [call for call in pending if identifier and call.get("id") == identifier]
    if not pending or (identifier and not matching and all(call.get("id") for call in pending)):
        raise RefusedRow(f"{place}: a tool result without a call")
    pending.remove((matching or pending)[0])


def _join(first: Message, second: Message) -> Message:
    """One turn of two: their texts a blank line apart; calls are those of the second."""
    joined = {**first, **second}
    for name in ("content", "reasoning_content"):
        texts = [turn[name] for turn in (first, second) if turn.get(name)]
        if name in joined:
            joined[name] = "\n\n".join(texts)
    return joined


def _weight(message: Message) -> int:
    return int(message.get("weight", 1))


def _cut_behind_answer(turns: list[Message]) -> tuple[list[Message], int]:
    last = max((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1)
    if last < 0:
        raise RefusedRow("has no turn of the assistant")
    if not any(turn["role"] == "user" for turn in turns[:last]):
        raise RefusedRow("has no turn of the user before the last answer")
    if not any(turn["role"] == "assistant" and _weight(turn) for turn in turns):
        raise RefusedRow("has no answer to learn from: every weight is 0")
    return turns[: last + 1], len(turns) - last - 1
