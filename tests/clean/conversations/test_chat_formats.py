"""Rows of every format become the same messages; what is no conversation is refused by reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.clean.conversations.chat_rows.conversation import read_conversation
from components.clean.conversations.chat_rows.refused_row import RefusedRow

HELLO = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
WEATHER = [
    {"role": "user", "content": "Is it cold in Oslo?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", **CALL}]},
    {"role": "tool", "content": '{"degrees": -3}', "tool_call_id": "c1"},
    {"role": "assistant", "content": "Yes, -3 degrees."},
]
SCHEMA = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def read(row: Any) -> list[dict[str, Any]]:
    return read_conversation(row, 10_000).messages


@pytest.mark.parametrize(
    "row",
    [
        {"messages": HELLO},
        {"Messages": HELLO, "question": None},
        {"messages": json.dumps(HELLO)},
        {"messages": [turn("user", [{"type": "text", "text": "Hel"}, "lo?"]), HELLO[1]]},
        {"messages": [turn("User", "Hello?"), turn("assistant", None, refusal="Hi.")]},
        {"messages": [*HELLO, turn("user", "Thanks")]},
        {"messages": [turn("system", " "), *HELLO]},
        {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi."}]},
        {"conversation": [{"from": "user", "value": "Hello?"}, {"from": "model", "value": "Hi."}]},
        {"conversations": [turn("human", "Hello?"), turn("chatgpt", "Hi.")]},
        {"instruction": "Hello?", "input": "", "output": "Hi."},
        {"instruction": "Hello?", "response": "Hi.", "context": None, "history": []},
        {"question": "Hello?", "answer": "Hi."},
        {"prompt": "Hello?", "completion": "Hi."},
        {"prompt": "Hello?", "response": "Hi."},
        {"query": "Hello?", "response": "Hi.", "history": None, "system": ""},
        {"prompt": HELLO[:1], "completion": HELLO[1:]},
        {"prompt": HELLO[:1], "completion": "Hi."},
        {"prompt": json.dumps(HELLO[:1]), "completion": json.dumps(HELLO[1:])},
        {"prompt": "Hello?", "completion": HELLO[1:]},
        {"messages": [{"Role": "User", "Content": "Hello?"}, {"ROLE": "Bard", "CONTENT": "Hi."}]},
        {"messages": [{"From": "prompter", "from": None, "Value": "Hello?"}, HELLO[1]]},
        {"conversations": [turn("prompter", "Hello?"), {"from": "bing", "value": "Hi."}]},
    ],
)
def test_every_format_gives_the_same_messages(row: dict[str, Any]) -> None:
    assert read(row) == HELLO


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {
                "instruction": "Translate.",
                "input": "Hallo",
                "output": "Hello",
                "system": "Be brief.",
            },
            [
                turn("system", "Be brief."),
                turn("user", "Translate.\nHallo"),
                turn("assistant", "Hello"),
            ],
        ),
        (
            {"instruction": "And now?", "output": "C", "history": [["a", "A"], ["b", "B"]]},
            [
                turn("user", "a"),
                turn("assistant", "A"),
                turn("user", "b"),
                turn("assistant", "B"),
                turn("user", "And now?"),
                turn("assistant", "C"),
            ],
        ),
        (
            {"messages": [turn("developer", "One."), turn("system", "Two."), *HELLO]},
            [turn("system", "One.\n\nTwo."), *HELLO],
        ),
        (
            {"messages": [turn("user", "Hello?"), turn("user", "Anyone?"), HELLO[1]]},
            [turn("user", "Hello?\n\nAnyone?"), HELLO[1]],
        ),
        (
            {"messages": [HELLO[0], turn("assistant", "Hi."), turn("assistant", "What is it?")]},
            [HELLO[0], turn("assistant", "Hi.\n\nWhat is it?")],
        ),
        (
            {"messages": [*HELLO, HELLO[0], turn("assistant", "No.", weight=1)]},
            [*HELLO, HELLO[0], turn("assistant", "No.")],
        ),
        (
            {"messages": [HELLO[0], turn("assistant", "Hi.", weight=0), *HELLO]},
            [HELLO[0], turn("assistant", "Hi.", weight=0), *HELLO],
        ),
        (
            {"messages": [HELLO[0], turn("assistant", "Hi.", reasoning_content="They greet.")]},
            [HELLO[0], turn("assistant", "Hi.", reasoning_content="They greet.")],
        ),
    ],
)
def test_turns_are_read_right(row: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert read(row) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Hello?", "context": "By Ada.", "answer": "Hi."},
        {"prompt": "Hello?", "input": "By Ada.", "output": "Hi."},
        {"query": "Hello?", "input": " ", "context": "By Ada.", "response": "Hi."},
        {"input": "Hello?", "context": "By Ada.", "output": "Hi."},
        {"instruction": "Hello?", "input": "", "context": "By Ada.", "output": "Hi."},
        {"question": "Hello?", "context": ["By Ada.", ""], "input": "Hello?", "answer": "Hi."},
        {"prompt": HELLO[:1], "context": "By Ada.", "completion": HELLO[1:]},
        {"prompt": HELLO[:1], "input": "By Ada.", "context": "By Ada.", "completion": "Hi."},
    ],
)
def test_a_text_beside_a_question_follows_it(row: dict[str, Any]) -> None:
    assert read(row) == [turn("user", "Hello?\nBy Ada."), HELLO[1]]


def test_no_text_beside_a_question_is_dropped() -> None:
    row = {"question": "Who?", "input": "Ada.", "context": "1842.", "answer": "Ada"}
    assert read(row)[0] == turn("user", "Who?\nAda.\n1842.")
    with pytest.raises(RefusedRow, match="context: is no text, but"):
        read({"question": "Who?", "context": {"page": "Ada"}, "answer": "Ada"})
    with pytest.raises(RefusedRow, match="has a text in input or context and no question before"):
        read({"prompt": HELLO, "context": "By Ada.", "completion": "Hi."})


def test_reasoning_is_kept_under_every_name_it_has() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        answer = turn("assistant", "Hi.", **{"reasoning_content": "", name: "A greeting."})
        assert read({"messages": [HELLO[0], answer]}) == [
            HELLO[0],
            turn("assistant", "Hi.", reasoning_content="A greeting."),
        ]


@pytest.mark.parametrize(
    "answer",
    [
        "[Docs](https://a.example) say so.",
        "[1, 2, 3]",
        '[{"name": "Ada"}]',
        '[{"from": "Oslo", "to": "Rome", "value": 3}]',
        '[{"role": "user", "name": "Ada"}]',
        "[]",
        "[[",
    ],
)
@pytest.mark.parametrize("prompt", [HELLO[:1], json.dumps(HELLO[:1]), "Hello?"])
def test_an_answer_that_begins_as_a_list_does_is_text(prompt: Any, answer: str) -> None:
    row = {"prompt": prompt, "completion": answer}
    assert read(row) == [HELLO[0], turn("assistant", answer)]


def test_a_question_that_is_a_list_of_json_is_text() -> None:
    row = {"question": '[{"price": 1}, {"price": 2}]', "answer": "3"}
    assert read(row)[0] == turn("user", '[{"price": 1}, {"price": 2}]')


def test_results_of_an_interpreter_follow_its_call() -> None:
    row = [*WEATHER[:2], turn("ipython", "-3"), WEATHER[3]]
    assert read({"messages": row}) == [*WEATHER[:2], turn("tool", "-3"), WEATHER[3]]


@pytest.mark.parametrize(
    "first",
    [
        turn("system", "Be brief."),
        turn("developer", [{"type": "text", "text": "Be brief."}]),
        {"from": "System", "value": "Be brief.\n"},
    ],
)
def test_a_system_text_given_twice_stands_once(first: dict[str, Any]) -> None:
    messages = read({"system": "Be brief.", "messages": [first, *HELLO]})
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert messages[0]["content"].strip() == "Be brief."
    other = read({"system": "Be kind.", "messages": [first, *HELLO]})
    assert other[0]["content"].strip() == "Be kind.\n\nBe brief."


def test_turns_behind_the_last_answer_are_cut_and_counted() -> None:
    conversation = read_conversation({"messages": [*HELLO, turn("user", "Thanks")]}, 10_000)
    assert (conversation.messages, conversation.cut_turns) == (HELLO, 1)


def test_tool_calls_of_every_form_are_one() -> None:
    texts = json.dumps({"city": "Oslo"})
    written = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": texts}}
    openai = [WEATHER[0], turn("assistant", None, tool_calls=[written]), *WEATHER[2:]]
    assert read({"messages": openai, "tools": [SCHEMA]}) == WEATHER
    assert read({"messages": WEATHER}) == WEATHER
    old = [
        WEATHER[0],
        turn("assistant", None, function_call={"name": "weather", "arguments": texts}),
        turn("function", '{"degrees": -3}', name="weather"),
        WEATHER[3],
    ]
    bare = [
        WEATHER[0],
        turn("assistant", "", tool_calls=[CALL]),
        turn("tool", '{"degrees": -3}', name="weather"),
        WEATHER[3],
    ]
    assert read({"messages": old}) == bare
    sharegpt = [
        {"from": "human", "value": "Is it cold in Oslo?"},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": texts})},
        {"from": "observation", "value": {"degrees": -3}},
        {"from": "gpt", "value": "Yes, -3 degrees."},
    ]
    del bare[2]["name"]
    conversation = read_conversation({"conversations": sharegpt, "tools": json.dumps([SCHEMA])}, 99)
    assert (conversation.messages, conversation.tools) == (bare, [SCHEMA])


def test_calls_and_results_in_tags_are_read() -> None:
    tagged = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    result = "<tool_response>\n-3\n</tool_response>"
    row = [
        {"from": "human", "value": "Is it cold?"},
        {"from": "gpt", "value": f"Let me see.\n{tagged}\n{tagged}"},
        {"from": "tool", "value": f"{result}\n{result}"},
        {"from": "gpt", "value": "Yes."},
    ]
    assert read({"conversations": row}) == [
        turn("user", "Is it cold?"),
        turn("assistant", "Let me see.", tool_calls=[CALL, CALL]),
        turn("tool", "-3"),
        turn("tool", "-3"),
        turn("assistant", "Yes."),
    ]
    spoken = [turn("user", "Which tags?"), turn("assistant", f"Write {tagged}")]
    assert read({"messages": spoken}) == spoken


def test_parallel_calls_are_met_by_their_ids() -> None:
    calls = [{"id": "a", **CALL}, {"id": "b", **CALL}]
    results = [turn("tool", "2", tool_call_id="b"), turn("tool", "1", tool_call_id="a")]
    row = [WEATHER[0], turn("assistant", "", tool_calls=calls), *results, WEATHER[3]]
    assert read({"messages": row}) == row
    ends_with_calls = row[:2]
    assert read({"messages": ends_with_calls}) == ends_with_calls


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "is no object, but None"),
        ([], "is no object, but []"),
        ({}, "has no fields"),
        ({"text": "a", "id": 1}, "its fields (text, id) are of no known format"),
        ({"messages": None}, "its field 'messages' is null"),
        ({"messages": []}, "messages: holds no message"),
        ({"messages": {"role": "user"}}, "messages: is no list of messages"),
        ({"messages": "no JSON"}, "messages: is no list, but text that is no JSON"),
        ({"messages": ["Hello"]}, "messages.0: is no message, but 'Hello'"),
        ({"messages": [turn("alien", "x")]}, "messages.0: its role is 'alien'; roles: system"),
        ({"messages": [{"content": "x"}]}, "messages.0: its role is None"),
        ({"messages": [HELLO[0]]}, "has no turn of the assistant"),
        ({"messages": [HELLO[1]]}, "has no turn of the user before the last answer"),
        ({"messages": [turn("user", " \n"), HELLO[1]]}, "messages.0: an empty turn of the user"),
        ({"messages": [HELLO[0], turn("assistant", None)]}, "messages.1: an empty turn of the ass"),
        ({"messages": [HELLO[0], turn("assistant", "Hi.", weight=0)]}, "every weight is 0"),
        ({"messages": [HELLO[0], turn("assistant", "Hi.", weight=0.5)]}, "must be 0 or 1, is 0.5"),
        (
            {"messages": [*HELLO, turn("system", "x"), *HELLO]},
            "messages.2: a system message behind",
        ),
        (
            {"messages": [HELLO[0], WEATHER[2], HELLO[1]]},
            "messages.1: a tool result without a call",
        ),
        ({"messages": [*WEATHER[:2], *HELLO]}, "messages.2: follows a tool call without a result"),
        (
            {"messages": [*WEATHER[:2], turn("tool", "x", tool_call_id="other"), WEATHER[3]]},
            "messages.2: a tool result without a call",
        ),
        (
            {"messages": [turn("user", [{"type": "image_url", "image_url": {}}]), HELLO[1]]},
            "messages.0.content.0: is a part of type 'image_url'; only text is read",
        ),
        ({"messages": [turn("user", 7), HELLO[1]]}, "messages.0.content: is no text, but 7"),
        (
            {"messages": [HELLO[0], turn("assistant", "", tool_calls=[{"id": "c"}])]},
            "messages.1.tool_calls.0: names no function",
        ),
        (
            {"conversations": [turn("human", "x"), {"from": "function_call", "value": "{"}]},
            "messages.1: its function call is no JSON",
        ),
        ({"instruction": "x", "output": ["y"]}, "output: is no text, but ['y']"),
        (
            {"instruction": "x", "output": "y", "history": [["a"]]},
            "history: holds no pair of texts",
        ),
        ({"question": "", "answer": "y"}, "messages.0: an empty turn of the user"),
        ({"question": "x", "answer": ""}, "messages.1: an empty turn of the assistant"),
        ({"question": "x", "answer": "y", "tools": ["z"]}, "tools: are no list of JSON schemas"),
        ({"question": "x", "answer": "y\ud83d"}, "holds half of a character"),
        ({"question": "x", "answer": "y\udcff"}, "a byte of it is no UTF-8"),
        ({"question": "x" * 9_000, "answer": "y" * 2_000}, "holds 11002 characters of text"),
        (
            {
                "messages": [
                    turn("user", "x"),
                    turn(
                        "assistant",
                        "",
                        function_call={"name": "f", "arguments": {"n": float("nan")}},
                    ),
                ]
            },
            "holds a value that is no JSON",
        ),
    ],
)
def test_what_is_no_conversation_is_refused_by_reason(row: Any, reason: str) -> None:
    with pytest.raises(RefusedRow) as refused:
        read(row)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_row_nested_without_end_is_refused() -> None:
    arguments: Any = {}
    for _ in range(5_000):
        arguments = {"a": arguments}
    call = {"name": "f", "arguments": arguments}
    with pytest.raises(RefusedRow):
        read({"messages": [HELLO[0], turn("assistant", "", function_call=call)]})


def test_a_long_value_in_a_reason_is_cut() -> None:
    with pytest.raises(RefusedRow) as refused:
        read({"messages": [turn("x" * 500, "a")]})
    assert len(str(refused.value)) < 250
