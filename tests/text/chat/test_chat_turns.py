"""Last question, last answer and subject of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from components.text.chat.chat_turns import (
    conversation_subject,
    last_answer,
    last_question,
    text_before_question,
    turns_before_answer,
)

CALL = {"function": {"name": "find", "arguments": {"what": "café"}}}


def turns(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_the_last_question_may_stand_before_calls_and_results() -> None:
    messages = turns(("user", "a"), ("assistant", "b"), ("user", "c"))
    messages.append({"role": "assistant", "content": "", "tool_calls": [CALL]})
    assert last_answer(messages) == 'find({"what": "café"})'
    assert turns_before_answer(messages) == messages[:3]
    messages += turns(("tool", "d"), ("assistant", "e"))
    assert last_question(messages) == "c"
    assert text_before_question(messages) == "a\n\nb\n\nd"
    assert text_before_question(messages[:2]) == ""
    assert last_answer(messages) == "e"
    assert turns_before_answer(messages) == messages[:-1]


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("Where?", "Where?"),
        ("\n  Two  words \nmore", "Two words"),
        ("word " * 30, "word " * 15 + "word…"),
        ("x" * 100, "x" * 80 + "…"),
        ("x" * 80, "x" * 80),
        (f"{'x' * 79} yes", "x" * 79 + "…"),
        (f"{'x' * 80} yes", "x" * 80 + "…"),
    ],
)
def test_a_subject_is_the_first_line_cut_at_a_word(question: str, subject: str) -> None:
    assert conversation_subject(turns(("user", question), ("assistant", "a"))) == subject
