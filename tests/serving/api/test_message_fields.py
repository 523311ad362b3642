"""Fields inside messages are read by the template, say nothing, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from serving.api.error_responses import ApiError
from serving.api.message_fields import check_messages
from serving.api.request_schema import ChatRequest
from serving.api.tokens.token_requests import TokenizeRequest

HOUSE = frozenset({"role", "content", "tool_calls"})
NAMING = HOUSE | {"name", "reasoning_content"}


def refusal(message: dict[str, Any], fields: frozenset[str] | None = HOUSE) -> tuple[Any, Any]:
    """(param, code) of a refused message."""
    with pytest.raises(ApiError) as refused:
        check_messages([{"role": "user", "content": "x"}, message], fields)
    error = refused.value.body["error"]
    return error["param"], error["code"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "ada"),
        ("refusal", "I cannot."),
        ("audio", {"id": "1"}),
        ("function_call", {"name": "f", "arguments": "{}"}),
        ("reasoning_content", "so"),
        ("thinking", "so"),
        ("tool_call_id", "1"),
        ("annotations", [{}]),
    ],
)
def test_a_field_that_is_not_read_is_refused(field: str, value: Any) -> None:
    said = {"role": "assistant", "content": "x", field: value}
    assert refusal(said) == (f"messages[1].{field}", "unsupported_parameter")
    check_messages([said], None)


@pytest.mark.parametrize("field", ["nane", "Content", "weight", "prefix", ""])
def test_a_field_that_nobody_knows_is_refused(field: str) -> None:
    for value in ("x", None):
        said = {"role": "user", "content": "x", field: value}
        assert refusal(said) == (f"messages[1].{field}", "unknown_parameter")


def test_a_field_that_is_read_is_taken() -> None:
    check_messages([{"role": "user", "content": "x", "name": "ada"}], NAMING)
    check_messages([{"role": "assistant", "content": "x", "reasoning": "so"}], NAMING)
    check_messages([{"role": "tool", "content": "x", "name": "f", "tool_call_id": "1"}], HOUSE)
    check_messages([{"role": "assistant", "content": None, "tool_calls": [{}]}], HOUSE)
    assert refusal({"role": "assistant", "content": None, "tool_calls": [{}]}, frozenset())


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    """As ``answer.choices[0].message.model_dump()`` of OpenAI's client gives it."""
    message = {
        "role": "assistant", "content": "x", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "tool_calls": None,
    }  # fmt: skip
    check_messages([message, {**message, "tool_calls": [], "annotations": []}], frozenset())


def test_parts_have_their_own_fields() -> None:
    part = {"type": "text", "text": "x"}
    check_messages([{"role": "user", "content": [part, {**part, "cache_control": {}}]}], HOUSE)
    place = refusal({"role": "user", "content": [part, {**part, "detail": "low"}]})
    assert place == ("messages[1].content[1].detail", "unknown_parameter")


@pytest.mark.parametrize(
    ("message", "place", "code"),
    [
        ({"content": "x"}, "messages[1].role", "missing_required_parameter"),
        ({"role": 1, "content": "x"}, "messages[1].role", "invalid_type"),
        ({"role": None, "content": "x"}, "messages[1].role", "invalid_type"),
        ({"role": "user"}, "messages[1].content", "missing_required_parameter"),
        ({"role": "tool"}, "messages[1].content", "missing_required_parameter"),
        ({"role": "user", "content": None}, "messages[1].content", "invalid_type"),
        ({"role": "user", "content": 3}, "messages[1].content", "invalid_type"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]", "invalid_type"),
        (
            {"role": "user", "content": [{"text": "x"}]},
            "messages[1].content[0].type",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "messages[1].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": 1}]},
            "messages[1].content[0].text",
            "invalid_type",
        ),
    ],
)
def test_what_is_no_message_is_refused_by_its_field(
    message: dict[str, Any], place: str, code: str
) -> None:
    for fields in (HOUSE, None):
        assert refusal(message, fields) == (place, code)


def test_a_refusal_in_the_history_is_text() -> None:
    refused = {"type": "refusal", "refusal": "I cannot."}
    text = {"type": "text", "text": "No: "}
    history = [
        {"role": "user", "content": [refused]},
        {"role": "assistant", "content": [text, refused]},
        {"role": "assistant", "content": None},
    ]
    read = ChatRequest(model="tiny", messages=history).messages
    assert read[1]["content"] == [text, {"type": "text", "text": "I cannot."}]
    assert (read[0], read[2]) == (history[0], history[2])
    assert TokenizeRequest(model="tiny", messages=history).messages == read
