"""Bodies of requests that are no JSON, no Unicode, of wrong types, or ask for what is not served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.api.error_responses import ApiError
from serving.api.request_body import parse_request
from serving.api.request_fields import NEUTRAL_VALUES, NO_EFFECT
from serving.api.request_schema import ChatRequest, CompletionRequest
from serving.api.responses.responses_request import ResponsesRequest

ASK = [{"role": "user", "content": "x"}]

BIG = '{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": %s}'


def refuse(body: bytes | str, model: type[Any] = ChatRequest) -> dict[str, Any]:
    """The error of a body that must be refused with 400."""
    with pytest.raises(ApiError) as refused:
        parse_request(model, body.encode() if isinstance(body, str) else body)
    assert refused.value.status == 400
    error: dict[str, Any] = refused.value.body["error"]
    return error


def chat(**fields: Any) -> str:
    return json.dumps({"model": "tiny", "messages": ASK, **fields})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (r'{"model":"\ud800","messages":[]}', "model"),
        (r'{"model":"m","messages":[{"role":"user","content":"a\udfffb"}]}', "messages[0].content"),
        (
            r'{"model":"m","messages":[{"content":[{"type":"text","text":"\ud800\ud800"}]}]}',
            "messages[0].content[0].text",
        ),
        (r'{"model":"m","messages":[{"role":"\ud800"}]}', "messages[0].role"),
        (r'{"model":"m","messages":[{"\ud800":1}]}', "messages[0]"),
        (r'{"model":"m","messages":[],"stop":["a","\udc00"]}', "stop[1]"),
        (r'{"model":"m","messages":[],"user":"\ud800"}', "user"),
        (b'{"model":"m","messages":[],"user":"\xed\xa0\x80"}', "user"),
        (r'{"model":"m","\ud800":1}', "body"),
    ],
)
def test_half_a_surrogate_pair_is_refused_with_its_field(body: bytes | str, param: str) -> None:
    error = refuse(body)
    assert (error["param"], error["code"]) == (param, "invalid_unicode")
    json.dumps(error, ensure_ascii=False).encode()


def test_a_whole_surrogate_pair_is_a_character() -> None:
    whole = r'{"model":"m","messages":[{"role":"user","content":"\ud83e\udd8a"}]}'
    assert parse_request(ChatRequest, whole.encode()).messages[0]["content"] == "🦊"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe\xfd", b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 100_000,
     b'{"a":' * 3000 + b"1" + b"}" * 3000,
     b'{"a":' * 70 + b"1" + b"}" * 70],
)  # fmt: skip
def test_what_is_no_json_says_so(body: bytes) -> None:
    assert refuse(body)["code"] == "invalid_json"


def test_a_number_of_thousands_of_digits_has_a_word_of_its_own() -> None:
    error = refuse(b'{"model": "m", "seed": ' + b"9" * 5000 + b"}")
    assert error["code"] == "invalid_value"
    assert "more than 4300 digits" in error["message"]


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"3"])
def test_a_body_is_an_object(body: bytes) -> None:
    error = refuse(body)
    assert (error["code"], error["param"]) == ("invalid_type", None)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("max_tokens", "3", "an integer"),
        ("max_tokens", True, "an integer"),
        ("max_tokens", 2.5, "an integer"),
        ("max_completion_tokens", "3", "an integer"),
        ("temperature", "0.5", "a decimal"),
        ("temperature", True, "a decimal"),
        ("temperature", [1], "a decimal"),
        ("top_p", "1", "a decimal"),
        ("top_p", False, "a decimal"),
        ("seed", "7", "an integer"),
        ("top_k", "5", "an integer"),
        ("top_k", 2.5, "an integer"),
        ("min_p", "0.1", "a decimal"),
        ("n", True, "an integer"),
        ("n", 1.5, "an integer"),
        ("presence_penalty", False, "a decimal"),
        ("logit_bias", [1], "an object"),
        ("stop_token_ids", 3, "an array"),
        ("ignore_eos", 1, "a boolean"),
        ("logprobs", 1, "a boolean"),
        ("user", 1, "a string"),
        ("seed", True, "an integer"),
        ("stream", "yes", "a boolean"),
        ("stream", "true", "a boolean"),
        ("stream", 1, "a boolean"),
        ("stream_options", True, "an object"),
        ("model", 3, "a string"),
        ("model", None, "a string"),
        ("stop", 3, "an array"),
        ("stop", True, "an array"),
        ("messages", {}, "an array"),
    ],
)
def test_a_value_of_another_type_is_refused(field: str, value: Any, expected: str) -> None:
    error = refuse(chat(**{field: value}))
    assert (error["param"], error["code"]) == (field, "invalid_type")
    assert f"'{field}': expected {expected}, but got" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        (
            {"stream_options": {"continuous_usage_stats": 0}},
            "stream_options.continuous_usage_stats",
        ),
        ({"messages": [1]}, "messages[0]"),
    ],
)
def test_the_place_of_an_inner_value_is_named(fields: dict[str, Any], param: str) -> None:
    error = refuse(chat(**fields))
    assert (error["param"], error["code"]) == (param, "invalid_type")


@pytest.mark.parametrize(
    ("prompt", "param", "code"),
    [
        (3, "prompt", "invalid_type"),
        (True, "prompt", "invalid_type"),
        (None, "prompt", "invalid_type"),
        ({}, "prompt", "invalid_type"),
        ([], "prompt", "empty_array"),
        ([[]], "prompt[0]", "empty_array"),
        (["a", 3], "prompt[1]", "invalid_type"),
        ([3, "a"], "prompt[1]", "invalid_type"),
        ([3, True], "prompt[1]", "invalid_type"),
        ([3, 2.5], "prompt[1]", "invalid_type"),
        ([3, -1], "prompt[1]", "integer_below_min_value"),
        ([[3], "a"], "prompt[1]", "invalid_type"),
        ([[3], [4, "a"]], "prompt[1][1]", "invalid_type"),
        ([None], "prompt[0]", "invalid_type"),
    ],
)
def test_a_prompt_of_another_form_is_refused(prompt: Any, param: str, code: str) -> None:
    error = refuse(json.dumps({"model": "m", "prompt": prompt}), CompletionRequest)
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"temperature": -0.5}, "temperature", "decimal_below_min_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"top_k": -2}, "top_k", "integer_below_min_value"),
        ({"top_p": 0}, "top_p", "decimal_below_min_value"),
        ({"min_p": 1.5}, "min_p", "decimal_above_max_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
        ({"frequency_penalty": 2.5}, "frequency_penalty", "decimal_above_max_value"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7", "decimal_above_max_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"stop_token_ids": [0] * 65}, "stop_token_ids", "array_above_max_length"),
        ({"stop_token_ids": [0, -1]}, "stop_token_ids[1]", "integer_below_min_value"),
        ({"seed": 10**400}, "seed", "integer_above_max_value"),
        ({"messages": []}, "messages", "empty_array"),
    ],
)
def test_a_value_out_of_bounds_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    error = refuse(chat(**fields))
    assert (error["param"], error["code"]) == (param, code)


def test_a_number_beyond_any_double_is_refused() -> None:
    for number in ("1e999", "-1e999", "9" * 400):
        error = refuse('{"model":"m","messages":[{}],"temperature":' + number + "}")
        assert error["param"] == "temperature"


def test_a_missing_field_is_named_as_openai_does() -> None:
    error = refuse('{"model":"m"}')
    assert error["message"] == "Missing required parameter: 'messages'."
    assert (error["param"], error["code"]) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("structural_tag", {}), ("guided_whitespace_pattern", " "),
        ("n_predict", 4), ("mirostat", 2), ("suffix", "x"), ("best_of", 2),
        ("typical_p", 0.5), ("bad_words", ["x"]), ("lora", [{"id": 0}]), ("n_probs", 3),
        ("chat_template_kwargs", {"enable_thinking": False}), ("prompt_logprobs", 1),
        ("guided_decoding_backend", "outlines"), ("prediction", {}), ("echo", 0),
        ("add_generation_prompt", False),
    ],
)  # fmt: skip
def test_a_field_that_would_change_the_answer_is_refused_by_name(name: str, value: Any) -> None:
    error = refuse(chat(**{name: value}))
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")


def test_a_field_that_nobody_knows_is_refused() -> None:
    error = refuse(chat(top_kk=3))
    assert error["message"] == "Unknown parameter: 'top_kk'."
    assert (error["param"], error["code"]) == ("top_kk", "unknown_parameter")
    error = refuse(chat(stream_options={"usage": True}))
    assert (error["param"], error["code"]) == ("stream_options.usage", "unknown_parameter")
    error = refuse(json.dumps({"model": "m", "prompt": "x", "messages": ASK}), CompletionRequest)
    assert error["param"] == "messages"


def test_what_asks_for_nothing_is_taken() -> None:
    """Clients send defaults; 1 and 1.0 are one number."""
    neutral = {name: values[-1] for name, values in NEUTRAL_VALUES.items()}
    recorded = dict.fromkeys(NO_EFFECT, "x")
    served = ChatRequest.model_fields.keys()
    neutral = {name: value for name, value in neutral.items() if name not in served}
    body = chat(**{**neutral, **recorded, "n_cmpl": 1.0}).encode()
    assert parse_request(ChatRequest, body).model == "tiny"


def test_no_served_field_is_listed_as_unserved() -> None:
    """A field of one endpoint may be neutral at the other, as ``echo`` is for chat."""
    chat_fields, text_fields = (
        ChatRequest.model_fields.keys(),
        CompletionRequest.model_fields.keys(),
    )
    assert not (chat_fields & text_fields) & (NEUTRAL_VALUES.keys() | NO_EFFECT)
    assert not (chat_fields | text_fields) & NO_EFFECT
    assert not NEUTRAL_VALUES.keys() & NO_EFFECT


@pytest.mark.parametrize(
    ("body", "model", "says"),
    [
        (chat(seed=1 << 64), ChatRequest, "Expected a value < 18446744073709551616, "),
        (chat(seed=-(1 << 63) - 1), ChatRequest, "Expected a value >= -9223372036854775808, "),
        (BIG % "1e999", ChatRequest, "Expected a value <= 2, but got inf instead"),
        (BIG % "-1e999", ChatRequest, "Expected a value >= 0, but got -inf instead"),
        (BIG % "2.5", ChatRequest, "Expected a value <= 2, but got 2.5 instead"),
        ('{"model": "m", "input": 5}', ResponsesRequest, "expected a string or an array of items,"),
        ('{"model": "m", "input": []}', ResponsesRequest, "an array with at least one item"),
        ('{"model": "m", "input": {}}', ResponsesRequest, "but got an object instead"),
        (
            '{"model": "m", "input": "x", "text": {"format": {"type": "yaml"}}}',
            ResponsesRequest,
            "expected 'text', 'json_object' or 'json_schema', but got \"yaml\" instead",
        ),
        (chat(tool_choice="any"), ChatRequest, "expected none, auto, required or a named"),
        (chat(response_format={"type": "x"}), ChatRequest, 'but got "x" instead'),
    ],
)
def test_a_refused_value_is_told_what_is_allowed(body: str, model: type[Any], says: str) -> None:
    assert says in refuse(body, model)["message"]
