"""Dialogues written as one text, as Anthropic's HH data has them: a speaker begins each turn."""

from __future__ import annotations

import re

from components.clean.conversations.chat_rows.refused_row import RefusedRow

_BEGINNING = re.compile(r"\s*(?:Human|Assistant):")
_SPEAKER = re.compile(r"(?:^|\n\n)\s*(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_dialogue_text(text: str) -> bool:
    """True for a text that begins with a speaker."""
    return _BEGINNING.match(text) is not None


def split_dialogue(text: str) -> list[dict[str, str]]:
    """Turns of a dialogue's text; an assistant's that says nothing opens the answer and is cut.

    Raises:
        RefusedRow: it does not begin with a speaker.
    """
    before, *parts = _SPEAKER.split(text.strip())
    if before.strip() or not parts:
        raise RefusedRow("its dialogue does not begin with Human: or Assistant:")
    turns = [
        {"role": _ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns
