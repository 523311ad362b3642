"""Rows of every format become the same prompt and answers; what cannot be judged is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from components.clean.conversations.chat_rows.refused_row import RefusedRow
from components.clean.preferences.judged_row import JudgedRow, read_judged_row

ASKED = {"role": "user", "content": "Hello?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Hi.", "Go away."))
PROMPT = [ASKED]
LONGER = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "Ada."},
    ASKED,
]
PAIR = [{**GOOD, "judgement": 1.0}, {**BAD, "judgement": 0.0}]
HH = "\n\nHuman: Hello?\n\nAssistant:"


def read(row: Any, *ratings: str, longest: int = 10_000) -> JudgedRow:
    return read_judged_row(row, longest, ratings)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hello?", "chosen": "Hi.", "rejected": "Go away."},
        {"Prompt": "Hello?", "Chosen": "Hi.", "Rejected": "Go away.", "label": None},
        {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": json.dumps(PROMPT), "chosen": json.dumps([GOOD]), "rejected": [BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "Hello?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score_chosen": 9},
        {"question": "Hello?", "chosen": "Hi.", "rejected": "Go away."},
        {"instruction": "Hello?", "chosen_response": "Hi.", "rejected_response": "Go away."},
        {"messages": PROMPT, "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [{"from": "human", "value": "Hello?"}],
            "chosen": {"from": "gpt", "value": "Hi."},
            "rejected": {"from": "gpt", "value": "Go away."},
        },
        {
            "prompt": "Hello?",
            "chosen": [ASKED, GOOD],
            "rejected": [ASKED, BAD],
            "messages": [ASKED, GOOD],
            "score_chosen": 8.0,
        },
        {"messages": [ASKED, BAD], "chosen": "Hi.", "rejected": "Go away."},
        {
            "prompt": "Hello?",
            "messages": [ASKED, {"role": "assistant", "content": "Well?"}],
            "chosen": "Hi.",
            "rejected": "Go away.",
        },
        {"chosen": f"{HH} Hi.", "rejected": f"{HH} Go away."},
        {"prompt": HH, "chosen": " Hi.", "rejected": " Go away."},
        {
            "input": {"messages": PROMPT, "tools": [], "parallel_tool_calls": True},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
    ],
)
def test_every_format_of_a_pair_gives_the_same_answers(row: dict[str, Any]) -> None:
    read_row = read(row)
    assert read_row.prompt == PROMPT
    texts = [{**m, "content": m["content"].strip()} for m in read_row.messages[1:]]
    assert texts == PAIR


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [*LONGER, GOOD], "rejected": [*LONGER, BAD]},
        {"prompt": LONGER, "chosen": "Hi.", "rejected": "Go away."},
        {"system": "Be kind.", "prompt": LONGER[1:], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": LONGER, "chosen": [*LONGER[1:], GOOD], "rejected": [*LONGER[1:], BAD]},
        {
            "system": "Be kind.",
            "history": [["Who are you?", "Ada."]],
            "instruction": "Hello?",
            "chosen": "Hi.",
            "rejected": "Go away.",
        },
    ],
)
def test_prompts_of_several_turns_are_whole(row: dict[str, Any]) -> None:
    assert read(row).prompt == LONGER
    assert read(row).messages == [*LONGER, *PAIR]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hello?", "context": "By Ada.", "chosen": "Hi.", "rejected": "Go away."},
        {"question": "Hello?", "input": "By Ada.", "chosen": "Hi.", "rejected": "Go away."},
        {"prompt": HH, "input": "By Ada.", "chosen": "Hi.", "rejected": "Go away."},
        {"prompt": PROMPT, "context": "By Ada.", "chosen": [GOOD], "rejected": [BAD]},
        {
            "instruction": "Hello?",
            "input": "",
            "context": "By Ada.",
            "chosen": "Hi.",
            "rejected": "Go away.",
        },
    ],
)
def test_a_text_beside_a_prompt_follows_it(row: dict[str, Any]) -> None:
    assert read(row).messages == [{"role": "user", "content": "Hello?\nBy Ada."}, *PAIR]


def test_a_system_text_given_twice_stands_once():
    kind = {"role": "system", "content": "Be kind."}
    row = {"system": "Be kind.", "prompt": [kind, ASKED], "chosen": "Hi.", "rejected": "Go away."}
    assert read(row).messages == [kind, ASKED, *PAIR]


def test_a_rated_conversation_may_stand_beside_its_parts():
    row = {"prompt": "Hello?", "completion": "Hi.", "messages": [ASKED, GOOD], "label": True}
    assert read(row).messages == [ASKED, {**GOOD, "rating": 1.0}]


def test_a_dialogue_in_one_text_is_split_at_its_speakers():
    said = "\n\nHuman: Who are you?\n\nAssistant: Ada:\n\nyours.\n\nHuman: Hello?\n\nAssistant: Hi."
    row = read({"chosen": said, "rejected": said.replace("Hi.", "Human: no")})
    assert [turn["content"] for turn in row.messages] == [
        "Who are you?",
        "Ada:\n\nyours.",
        "Hello?",
        "Hi.",
        "Human: no",
    ]


@pytest.mark.parametrize(
    ("row", "ratings", "rating"),
    [
        ({"prompt": "Hello?", "response": "Hi.", "rating": 4}, (), 4.0),
        ({"prompt": "Hello?", "completion": "Hi.", "score": "3.5"}, (), 3.5),
        ({"prompt": PROMPT, "completion": [GOOD], "label": True}, (), 1.0),
        ({"prompt": "Hello?", "completion": "Hi.", "label": False}, (), 0.0),
        ({"messages": [ASKED, GOOD], "label": "true"}, (), 1.0),
        ({"conversations": [ASKED, GOOD], "rating": -2}, (), -2.0),
        ({"instruction": "Hello?", "output": "Hi.", "score": 0}, (), 0.0),
        (
            {
                "prompt": "Hello?",
                "response": "Hi.",
                "helpfulness": 4,
                "correctness": 3,
                "length": 9,
            },
            ("helpfulness", "Correctness"),
            3.5,
        ),
        ({"prompt": "Hello?", "response": "Hi.", "label": 1, "stars": 5}, ("stars",), 5.0),
    ],
)
def test_every_format_of_a_rating_gives_the_same_answer(
    row: dict[str, Any], ratings: tuple[str, ...], rating: float
) -> None:
    assert read(row, *ratings).messages == [ASKED, {**GOOD, "rating": rating}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "is no object, but None"),
        ([1], "is no object, but [1]"),
        ({}, "has no fields"),
        ({"text": "Hello"}, "its fields (text) are of no known format"),
        ({"prompt": "Hello?", "completion": "Hi."}, "its fields (prompt, completion) are of no"),
        ({"chosen": "Hi.", "rejected": "No."}, "has no prompt"),
        ({"prompt": "Hello?", "chosen": "Hi."}, "rejected: is missing"),
        ({"prompt": "Hello?", "chosen": 7, "rejected": "No."}, "chosen: is no answer, but 7"),
        ({"prompt": "Hello?", "chosen": [], "rejected": "No."}, "chosen: is no answer, but []"),
        (
            {"prompt": "Hello?", "chosen": "Hi. ", "rejected": "Hi."},
            "answers of its pair are equal",
        ),
        ({"prompt": "Hello?", "chosen": "", "rejected": "Hi."}, "an empty turn of the assistant"),
        ({"prompt": " ", "chosen": "Hi.", "rejected": "No."}, "an empty turn of the user"),
        ({"prompt": [GOOD], "chosen": "Hi.", "rejected": "No."}, "ends with the assistant's turn"),
        ({"prompt": PROMPT, "chosen": [ASKED], "rejected": [BAD]}, "chosen: its last turn is no"),
        (
            {"chosen": [ASKED, GOOD, ASKED, GOOD], "rejected": [ASKED, BAD]},
            "part before their last",
        ),
        (
            {"prompt": "Bye?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
            "is not what stands",
        ),
        ({"chosen": [{"role": "cat", "content": "x"}], "rejected": [BAD]}, "its role is 'cat'"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": "good"}, "rating: is no number"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": float("nan")}, "rating: is no number"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": "1e999"}, "rating: is no number"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": 10**400}, "rating: is no number"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": [1]}, "rating: is no number, but [1]"),
        ({"prompt": "Hello?", "response": "Hi.", "rating": 1e12}, "its rating is beyond 1e+09"),
        ({"prompt": "Hello?", "rating": 3}, "is no answer, but the user's"),
        ({"rating": 3}, "has a rating, and no answer"),
        ({"prompt": "\udcff?", "chosen": "Hi.", "rejected": "No."}, "a byte of it is no UTF-8"),
        ({"prompt": "\ud800?", "chosen": "Hi.", "rejected": "No."}, "half of a character"),
        (
            {"prompt": "x" * 10_000, "chosen": "Hi.", "rejected": "No."},
            "preferences.max_characters",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_reason(row: Any, reason: str) -> None:
    with pytest.raises(RefusedRow, match=re.escape(reason)):
        read(row)


def test_a_named_rating_that_is_missing_is_named():
    row = {"prompt": "Hello?", "response": "Hi.", "helpfulness": 4}
    with pytest.raises(RefusedRow, match="correctness: is missing"):
        read(row, "helpfulness", "correctness")
    with pytest.raises(RefusedRow, match="no known format"):
        read({"prompt": "Hello?", "response": "Hi.", "rating": 4}, "helpfulness")


def test_an_answer_that_begins_as_a_list_does_is_text():
    row = read({"prompt": "Three?", "chosen": "[1, 2, 3]", "rejected": "[]"})
    assert [turn["content"] for turn in row.messages[1:]] == ["[1, 2, 3]", "[]"]
    lists = '[{"name": "Ada"}]', '[{"from": "Oslo", "to": "Rome"}]'
    for prompt in ("A trip?", '[{"name": "Eve"}]'):
        row = read({"prompt": prompt, "chosen": lists[0], "rejected": lists[1]})
        assert [turn["content"] for turn in row.messages] == [prompt, *lists]


def test_tool_calls_may_be_preferred():
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
    chosen = {"role": "assistant", "content": None, "tool_calls": [call]}
    row = read({"prompt": PROMPT, "tools": [{"name": "look"}], "chosen": chosen, "rejected": BAD})
    assert row.messages[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call],
        "judgement": 1.0,
    }
    assert row.tools == [{"name": "look"}]


def test_answers_to_one_prompt_share_a_split_whatever_the_system_says():
    rows = [
        read({"prompt": "Hello?", "chosen": "Hi.", "rejected": "No."}),
        read({"prompt": " hello? ", "response": "Hi.", "rating": 2}),
        read({"system": "Be kind.", "prompt": "Hello?", "chosen": "A", "rejected": "B"}),
    ]
    assert len({row.drawn_by for row in rows}) == 1
    assert len({row.digest for row in rows}) == 3
    other = read({"prompt": "Bye?", "chosen": "Hi.", "rejected": "No."})
    assert other.drawn_by != rows[0].drawn_by
