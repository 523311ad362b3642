"""Formats of judged answers, recognised row by row by their fields.

Pairs have ``chosen`` and ``rejected``, as trl takes them: with a prompt of their own (explicit) or
as two whole conversations that part at the last answer (implicit); as messages, plain text, or
Anthropic's dialogue in one text; or OpenAI's ``preferred_output`` and ``non_preferred_output``.
Rated rows have one answer and a number, several, or KTO's yes or no.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from components.clean.conversations.chat_rows.chat_formats import (
    ANSWER_FIELDS,
    INPUT_FIELDS,
    MESSAGE_FIELDS,
    QUESTION_FIELDS,
    read_turns,
    read_turns_text,
)
from components.clean.conversations.chat_rows.chat_messages import Message, read_message
from components.clean.conversations.chat_rows.conversation import read_tools
from components.clean.conversations.chat_rows.refused_row import RefusedRow, show_short
from components.clean.preferences.dialogue_text import is_dialogue_text, split_dialogue

RATING_FIELDS = ("rating", "score", "label")
"""Fields of a rating that are looked for where none is named."""
KNOWN_FIELDS = (
    "chosen and rejected, or preferred_output and non_preferred_output, with prompt, question, "
    "instruction, messages or conversations; or one answer (response, completion, answer, output, "
    "or the last of messages) with rating, score, label or the fields of preferences.ratings"
)
"""Fields of a row that are looked for, as errors name them."""
_PAIR_FIELDS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
)
_SHOWN_FIELDS = 8
Fields = Mapping[str, Any]
"""Values of a row by name in lower case, without those that are null."""


@dataclass(frozen=True)
class JudgedTurns:
    """Turns of a prompt and the answers to it, as read from a row."""

    prompt: list[Message]
    tools: list[Any] | None
    answers: list[Message]
    judgements: list[dict[str, float]]
    """Of each answer: ``judgement``, 1 or 0 in a pair, or ``rating`` as it was given."""


def read_judged_turns(row: Any, ratings: Sequence[str]) -> JudgedTurns:
    """Read a decoded row of any format.

    Args:
        row: the row's value.
        ratings: fields whose mean is the rating; none takes the first of ``RATING_FIELDS``.

    Raises:
        RefusedRow: it is of no known format, or its parts do not fit together.
    """
    if not isinstance(row, Mapping):
        raise RefusedRow(f"is no object, but {show_short(row)}")
    fields = {str(name).lower(): value for name, value in row.items() if value is not None}
    if isinstance(fields.get("input"), Mapping):  # OpenAI's preference data
        inner = fields.pop("input")
        fields = {**{str(k).lower(): v for k, v in inner.items() if v is not None}, **fields}
    for better, worse in _PAIR_FIELDS:
        if better in fields or worse in fields:
            return _read_pair(fields, better, worse)
    rating = _find_rating(fields, ratings)
    if rating is None:
        raise RefusedRow(_explain_unknown(row))
    return _read_rated(fields, rating)


def _read_pair(fields: Fields, better: str, worse: str) -> JudgedTurns:
    sides = [_read_side(fields, name) for name in (better, worse)]
    beside = {k: v for k, v in fields.items() if k not in (better, worse)}
    prompt, tools = _read_prompt_alone(beside, [turns[-1] for turns in sides])
    for name, turns in zip((better, worse), sides, strict=True):
        if turns[-1]["role"] != "assistant":
            raise RefusedRow(f"{name}: its last turn is no answer, but the {turns[-1]['role']}'s")
    begun = sides[0][:-1]
    if begun != sides[1][:-1]:
        raise RefusedRow(f"{better} and {worse} part before their last turn")
    return JudgedTurns(
        _merge_prompts(prompt, begun, better),
        tools,
        [turns[-1] for turns in sides],
        [{"judgement": 1.0}, {"judgement": 0.0}],
    )


def _read_rated(fields: Fields, rating: float) -> JudgedTurns:
    name = next((name for name in ANSWER_FIELDS if name in fields), None)
    beside = {k: v for k, v in fields.items() if k not in ANSWER_FIELDS}
    if name is not None:
        turns = _read_side(fields, name)
        prompt, tools = _read_prompt_alone(beside, turns[-1:])
        prompt = _merge_prompts(prompt, turns[:-1], name)
    else:
        prompt, tools = _read_prompt(beside)
        prompt, turns = prompt[:-1], prompt[-1:]
    if not turns:
        raise RefusedRow("has a rating, and no answer that it is of")
    if turns[-1]["role"] != "assistant":
        raise RefusedRow(f"its last turn is no answer, but the {turns[-1]['role']}'s")
    return JudgedTurns(prompt, tools, turns[-1:], [{"rating": rating}])


def _read_prompt_alone(
    fields: Fields, answers: Sequence[Message]
) -> tuple[list[Message], list[Any] | None]:
    """(turns, tools) of the fields of a prompt, beside which the answers have fields of their own.

    A conversation there may end with one of the answers, which is cut, or with another one: then
    the prompt is that of a question's field, as in UltraFeedback.
    """
    prompt, tools = _read_prompt(fields)
    if not prompt or prompt[-1]["role"] != "assistant":
        return prompt, tools
    if len(prompt) > 1 and any(_is_same_answer(prompt[-1], answer) for answer in answers):
        return prompt[:-1], tools
    asked, _ = _read_prompt({k: v for k, v in fields.items() if k not in MESSAGE_FIELDS})
    return asked or prompt, tools


def _is_same_answer(first: Message, second: Message) -> bool:
    texts = [str(answer["content"]).strip() for answer in (first, second)]
    return texts[0] == texts[1] and first.get("tool_calls") == second.get("tool_calls")


def _read_prompt(fields: Fields) -> tuple[list[Message], list[Any] | None]:
    """(turns, tools) of the fields of a prompt; none where a row has none."""
    names = (*MESSAGE_FIELDS, "instruction", *QUESTION_FIELDS)
    asked = next((name for name in names if name in fields), None)
    if asked is None:
        return [], read_tools(fields.get("tools"))
    written = _read_text_turns(fields[asked])
    if written is not None:  # as messages, beside what else the prompt has
        others = [name for name in names if name == asked or name not in INPUT_FIELDS]
        fields = {k: v for k, v in fields.items() if k not in others}
        fields["messages" if asked in MESSAGE_FIELDS else "prompt"] = written
    if asked in MESSAGE_FIELDS:
        turns, tools = read_turns(fields)
    else:  # a question's reader wants an answer too
        turns, tools = read_turns({**fields, "completion": ""})
        turns = turns[:-1]
    messages = [read_message(turn, f"{asked}.{at}") for at, turn in enumerate(turns)]
    return [_without_weight(message) for message in messages], read_tools(tools)


def _read_side(fields: Fields, name: str) -> list[Message]:
    """Turns of an answer's field: those of a whole conversation, or the answer alone."""
    if name not in fields:
        raise RefusedRow(f"{name}: is missing")
    value = fields[name]
    if isinstance(value, str):
        written = _read_text_turns(value)
        value = [{"role": "assistant", "content": value}] if written is None else written
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not turns:
        raise RefusedRow(f"{name}: is no answer, but {show_short(value)}")
    return [_without_weight(read_message(t, f"{name}.{at}")) for at, t in enumerate(turns)]


def _merge_prompts(prompt: list[Message], begun: list[Message], name: str) -> list[Message]:
    """The prompt of its field, or of the conversation that ends with the answer.

    Raises:
        RefusedRow: there is none, or both are there and differ.
    """
    if not prompt and not begun:
        raise RefusedRow("has no prompt")
    if not prompt or not begun:
        return prompt or begun
    if begun[-len(prompt) :] == prompt:
        return begun
    if prompt[-len(begun) :] == begun:  # the system's turn in the prompt's field alone
        return prompt
    raise RefusedRow(f"its prompt is not what stands before the answer in {name}")


def _read_text_turns(text: Any) -> list[Any] | None:
    """Turns of a dialogue's text, or messages that a table holds as JSON; else None."""
    if not isinstance(text, str):
        return None
    if is_dialogue_text(text):
        return [*split_dialogue(text)]
    return read_turns_text(text)


def _find_rating(fields: Fields, ratings: Sequence[str]) -> float | None:
    """Mean of the named fields, else the first that there is; None where there is none.

    Raises:
        RefusedRow: a named field is missing, or is no number.
    """
    names = [name.lower() for name in ratings]
    if not names:
        names = [name for name in RATING_FIELDS if name in fields][:1]
    elif not any(name in fields for name in names):
        return None
    values = []
    for name in names:
        if name not in fields:
            raise RefusedRow(f"{name}: is missing")
        values.append(_read_number(fields[name], name))
    return math.fsum(values) / len(values) if values else None


def _read_number(value: Any, name: str) -> float:
    """A rating: a number, in digits or as text, or yes or no."""
    text = str(value).strip().lower() if isinstance(value, str | Decimal) else value
    if text in ("true", "false"):
        return float(text == "true")
    try:
        number = float(text) if isinstance(text, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RefusedRow(f"{name}: is no number, but {show_short(value)}")
    return number


def _without_weight(message: Message) -> Message:
    """The message without the weight of a conversation's training."""
    return {name: value for name, value in message.items() if name != "weight"}


def _explain_unknown(row: Mapping[Any, Any]) -> str:
    names = [str(name)[:40] for name in row]
    shown = ", ".join(names[:_SHOWN_FIELDS]) + (", …" if len(names) > _SHOWN_FIELDS else "")
    return f"its fields ({shown}) are of no known format" if names else "has no fields"
