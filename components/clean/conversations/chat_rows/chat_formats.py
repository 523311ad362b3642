"""Formats of conversations, recognised row by row by their fields.

OpenAI's ``messages``, ShareGPT's ``conversations``, Alpaca's ``instruction`` and ``output``, and
pairs of a question and an answer, as trl, axolotl and LLaMA-Factory read them: an Alpaca ``input``
follows its instruction on a new line, ``history`` holds earlier pairs, a prompt and its completion
may be lists of messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.clean.conversations.chat_rows.refused_row import RefusedRow, show_short

MESSAGE_FIELDS = ("messages", "conversations", "conversation")
QUESTION_FIELDS = ("question", "prompt", "query", "input")
ANSWER_FIELDS = ("answer", "completion", "response", "output")
_INPUT_FIELDS = ("input", "context")
_SYSTEM_FIELDS = ("system", "system_prompt")
_TOOL_FIELDS = ("tools", "functions")
KNOWN_FIELDS = (
    "messages; conversations; instruction and output; question, prompt, query or input with "
    "answer, completion, response or output"
)
"""Fields of a row that are looked for, as errors name them."""
_SHOWN_FIELDS = 8

Fields = Mapping[str, Any]
"""Values of a row by name in lower case, without those that are null."""


def read_turns(row: Any) -> tuple[list[Any], Any]:
    """(messages as they are written, tools) of a row in any of the formats.

    Raises:
        RefusedRow: it is of none of them.
    """
    if not isinstance(row, Mapping):
        raise RefusedRow(f"is no object, but {show_short(row)}")
    fields = {str(name).lower(): value for name, value in row.items() if value is not None}
    turns = _find_turns(fields, row)
    system = _text_field(fields, _SYSTEM_FIELDS)
    if system.strip():
        turns = [{"role": "system", "content": system}, *turns]
    tools = next((fields[name] for name in _TOOL_FIELDS if name in fields), None)
    return turns, _decode(tools, "tools") if isinstance(tools, str) else tools


def _find_turns(fields: Fields, row: Mapping[Any, Any]) -> list[Any]:
    for name in MESSAGE_FIELDS:
        if name in fields:
            return _list_of(fields[name], name)
    answer = next((name for name in ANSWER_FIELDS if name in fields), None)
    if answer is not None and "instruction" in fields:
        parts = [_text_field(fields, ("instruction",)), _text_field(fields, _INPUT_FIELDS)]
        question = "\n".join(part for part in parts if part)
        return [*_earlier_pairs(fields), *_pair(question, _text_field(fields, (answer,)))]
    asked = next((name for name in QUESTION_FIELDS if name in fields), None)
    if answer is not None and asked is not None:
        if isinstance(fields[asked], Sequence) and not isinstance(fields[asked], str):
            return [*_list_of(fields[asked], asked), *_turns_of_answer(fields[answer], answer)]
        return [
            *_earlier_pairs(fields),
            *_pair(_text_field(fields, (asked,)), _text_field(fields, (answer,))),
        ]
    raise RefusedRow(_explain_unknown(row))


def _explain_unknown(row: Mapping[Any, Any]) -> str:
    names = [str(name)[:40] for name in row]
    shown = ", ".join(names[:_SHOWN_FIELDS]) + (", …" if len(names) > _SHOWN_FIELDS else "")
    nulls = [str(name) for name in row if row[name] is None and str(name).lower() in MESSAGE_FIELDS]
    if nulls:
        return f"its field {nulls[0]!r} is null"
    return f"its fields ({shown}) are of no known format" if names else "has no fields"


def _list_of(value: Any, name: str) -> list[Any]:
    turns = _decode(value, name) if isinstance(value, str) else value
    if not isinstance(turns, list):
        raise RefusedRow(f"{name}: is no list of messages, but {show_short(turns)}")
    if not turns:
        raise RefusedRow(f"{name}: holds no message")
    return turns


def _turns_of_answer(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [{"role": "assistant", "content": value}]
    return _list_of(value, name)


def _text_field(fields: Fields, names: Sequence[str]) -> str:
    """Text of the first of the fields that there is; empty where there is none."""
    for name in names:
        if name in fields:
            if not isinstance(fields[name], str):
                raise RefusedRow(f"{name}: is no text, but {show_short(fields[name])}")
            return str(fields[name])
    return ""


def _pair(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _earlier_pairs(fields: Fields) -> list[dict[str, str]]:
    """Turns of Alpaca's ``history``: pairs of a question and its answer, oldest first."""
    history = fields.get("history", [])
    if isinstance(history, str):
        history = _decode(history, "history") if history.strip() else []
    turns: list[dict[str, str]] = []
    for pair in history if isinstance(history, list) else [history]:
        texts = [text for text in pair if isinstance(text, str)] if isinstance(pair, list) else []
        if len(texts) != 2 or len(pair) != 2:
            raise RefusedRow(f"history: holds no pair of texts, but {show_short(pair)}")
        turns += _pair(*texts)
    return turns


def _decode(text: str, name: str) -> Any:
    """Value of JSON text in a field, as tables hold lists.

    Raises:
        RefusedRow: it is no JSON.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedRow(f"{name}: is no list, but text that is no JSON") from error
