"""Form in which a chat template writes calls of tools, read off the template itself.

A probe conversation with calls of known names and arguments is rendered; the text around them is
the form: ``<tool_call>`` of Hermes and Qwen, the plain object of Llama 3, the list of Mistral. No
table of models is needed, and a template that nobody has seen works as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.template_sandbox import ChatFormatError

_NAMES = ("probe_first", "probe_second")
_IDS = ("Ab3dEf6hI", "Zy8xWv5uT")
"""Of nine letters and digits, which is what Mistral's templates ask for."""
_ID = re.compile("|".join(_IDS))
_KEYS = ("probe_key", "other_key")
_VALUES = ("probe_value", "other_value")
_ARGUMENTS = re.compile(
    r'\{"probe_key"(?P<key_separator>[: \n]+)"probe_value"(?P<item_separator>[, \n]+)'
    r'"other_key"(?P=key_separator)"other_value"\}'
)
_CONTENT = "Probe of the answer."
_TAG = re.compile(r"[<\[][^<>\[\]\s]{1,40}[>\]]")
_QUESTION = {"role": "user", "content": "Hi."}


@dataclass(frozen=True)
class ToolCallForm:
    """Texts around the names and arguments of calls; ``ID`` stands for a call's identifier."""

    trigger: str
    """Text from which on an answer is a call."""
    opening: str
    """Behind the trigger, up to the first name."""
    between: str
    """Between a name and its arguments."""
    joint: str | None
    """Between the arguments of a call and the next call's name; None for one call alone."""
    closing: str
    """Behind the last arguments."""
    key_separator: str
    item_separator: str


ID = "\0"
"""Place of a call's identifier in a form's text."""
ID_PATTERN = "[a-zA-Z0-9]{9}"


def find_tool_call_form(tokenizer: ChatTokenizer) -> ToolCallForm | None:
    """The form of the model's template; None where it writes no calls, or not their JSON."""
    try:
        prompt = tokenizer.render_prompt([_QUESTION], _probe_tools())
        plain = _render_answer(tokenizer, prompt, content=_CONTENT)
        single = _render_answer(tokenizer, prompt, calls=1)
    except ChatFormatError:
        return None
    if plain is None or single is None or _CONTENT not in plain:
        return None
    before, _, behind = plain.partition(_CONTENT)
    first = _split_call(single.removeprefix(before), _NAMES[0])
    if first is None or not first[2].endswith(behind):
        return None
    opening, between, closing, arguments = first
    closing = closing.removesuffix(behind)
    tag = _TAG.match(opening.lstrip())
    trigger = tag.group() if tag is not None else opening.strip()
    if not trigger:
        return None
    return ToolCallForm(
        trigger=trigger,
        opening=_mark_ids(opening.lstrip()[len(trigger) :] if tag else ""),
        between=between,
        joint=_find_joint(tokenizer, prompt),
        closing=_mark_ids(closing),
        key_separator=arguments["key_separator"],
        item_separator=arguments["item_separator"],
    )


def _find_joint(tokenizer: ChatTokenizer, prompt: str) -> str | None:
    """Text between two calls; None where the template writes one alone."""
    try:
        double = _render_answer(tokenizer, prompt, calls=2)
    except ChatFormatError:
        return None
    first = None if double is None else _split_call(double, _NAMES[0])
    second = None if first is None else _split_call(first[2], _NAMES[1])
    return None if second is None else _mark_ids(second[0])


def _split_call(text: str, name: str) -> tuple[str, str, str, Mapping[str, str]] | None:
    """(before the name, between name and arguments, behind them, their separators)."""
    before, found, rest = text.partition(name)
    arguments = _ARGUMENTS.search(rest)
    if not found or arguments is None:
        return None
    between = rest[: arguments.start()]
    return before, between, rest[arguments.end() :], arguments.groupdict()


def _render_answer(
    tokenizer: ChatTokenizer, prompt: str, *, content: str = "", calls: int = 0
) -> str | None:
    """Text that the template writes for an answer; None where the prompt is no part of it."""
    answer: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        answer["tool_calls"] = [_probe_call(at) for at in range(calls)]
    whole = tokenizer.render_conversation([_QUESTION, answer], _probe_tools())
    return whole[len(prompt) :] if whole.startswith(prompt) else None


def _probe_call(at: int) -> dict[str, Any]:
    arguments = dict(zip(_KEYS, _VALUES, strict=True))
    return {
        "id": _IDS[at],
        "type": "function",
        "function": {"name": _NAMES[at], "arguments": arguments},
    }


def _probe_tools() -> list[dict[str, Any]]:
    text = {"type": "string"}
    parameters = {"type": "object", "properties": dict.fromkeys(_KEYS, text)}
    return [
        {
            "type": "function",
            "function": {"name": name, "description": "A probe.", "parameters": parameters},
        }
        for name in _NAMES
    ]


def _mark_ids(text: str) -> str:
    return _ID.sub(ID, text)
