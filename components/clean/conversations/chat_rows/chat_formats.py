"""Formats of conversations, recognised row by row by their fields.

OpenAI's ``messages``, ShareGPT's ``conversations``, Alpaca's ``instruction`` and ``output``, and
pairs of a question and an answer, as trl, axolotl and LLaMA-Factory read them: an ``input`` or
``context`` follows its instruction or question on a new line, ``history`` holds earlier pairs, a
prompt and its completion may be lists of messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.clean.conversations.chat_rows.chat_messages import is_message, read_message
from components.clean.conversations.chat_rows.refused_row import RefusedRow, show_short

MESSAGE_FIELDS = ("messages", "conversations", "conversation")
QUESTION_FIELDS = ("question", "prompt", "query", "input")
ANSWER_FIELDS = ("answer", "completion", "response", "output")
INPUT_FIELDS = ("input", "context")
"""Fields of a text that a question is about."""
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
    systems = [_text_field(fields, name) for name in _SYSTEM_FIELDS]
    system = next((text for text in systems if text.strip()), "")
    if system and not (turns and _is_system_text(turns[0], system)):
        turns = [{"role": "system", "content": system}, *turns]
    tools = next((fields[name] for name in _TOOL_FIELDS if name in fields), None)
    return turns, _decode(tools, "tools") if isinstance(tools, str) else tools


def _is_system_text(turn: Any, text: str) -> bool:
    """True for a system's turn that says the text."""
    try:
        message = read_message(turn, "messages.0")
    except RefusedRow:
        return False  # it is refused when its turn comes, by its place
    return message["role"] == "system" and str(message["content"]).strip() == text.strip()


def _find_turns(fields: Fields, row: Mapping[Any, Any]) -> list[Any]:
    for name in MESSAGE_FIELDS:
        if name in fields:
            return _list_of(fields[name], name)
    answer = next((name for name in ANSWER_FIELDS if name in fields), None)
    names = ("instruction", *QUESTION_FIELDS)
    asked = next((name for name in names if name in fields), None)
    if answer is None or asked is None:
        raise RefusedRow(_explain_unknown(row))
    turns = _read_turns_field(fields, asked)
    if turns is not None:
        turns = _add_inputs(turns, _read_inputs(fields, asked))
        return [*turns, *(_read_turns_field(fields, answer) or [_answer(fields, answer)])]
    question = _join_lines([_text_field(fields, asked), *_read_inputs(fields, asked)])
    turns = None if isinstance(fields[answer], str) else _read_turns_field(fields, answer)
    asking = {"role": "user", "content": question}
    return [*_earlier_pairs(fields), asking, *(turns or [_answer(fields, answer)])]


def _answer(fields: Fields, name: str) -> dict[str, str]:
    return {"role": "assistant", "content": _text_field(fields, name)}


def _read_turns_field(fields: Fields, name: str) -> list[Any] | None:
    """Messages of a field, which a table may hold as JSON; None where it is something else."""
    value = fields[name]
    if isinstance(value, str):
        return read_turns_text(value)
    return _list_of(value, name) if isinstance(value, list) and not _are_texts(value) else None


def _are_texts(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def read_turns_text(text: str) -> list[Any] | None:
    """Messages of a text that is their JSON; None of any other text, lists of other things too."""
    if not text.lstrip().startswith("["):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if values and all(is_message(value) for value in values) else None


def _read_inputs(fields: Fields, asked: str) -> list[str]:
    """Texts beside a question, lists of texts line by line."""
    texts = []
    for name in INPUT_FIELDS:
        if name in fields and name != asked:
            value = fields[name]
            is_list = isinstance(value, list) and (not value or _are_texts(value))
            texts.append(_join_lines(value) if is_list else _text_field(fields, name))
    return texts


def _join_lines(texts: Sequence[str]) -> str:
    """Texts line by line, without the empty ones and those that stand there already."""
    return "\n".join(dict.fromkeys(text for text in texts if text.strip()))


def _add_inputs(turns: list[Any], texts: Sequence[str]) -> list[Any]:
    """Turns of a prompt whose last one is followed by the texts beside it.

    Raises:
        RefusedRow: the last one is no user's text.
    """
    if not _join_lines(texts):
        return turns
    asked = read_message(turns[-1], f"messages.{len(turns) - 1}")
    if asked["role"] != "user":
        raise RefusedRow(
            f"has a text in {' or '.join(INPUT_FIELDS)} and no question before it, but the turn of "
            f"the {asked['role']}"
        )
    return [*turns[:-1], {**asked, "content": _join_lines([asked["content"], *texts])}]


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


def _text_field(fields: Fields, name: str) -> str:
    """Text of a field; empty where there is none."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise RefusedRow(f"{name}: is no text, but {show_short(value)}")
    return value


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
