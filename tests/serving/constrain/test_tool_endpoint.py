"""Tools over the socket: forced, chosen freely, streamed, answered, refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import jsonschema
import openai
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel
from serving.engine.prompt_encoder import PromptEncoder
from tests.serving.constrain.test_tool_calls import PING, WEATHER
from tests.serving.constrain.tool_templates import TEMPLATES
from tests.serving.memory_batch import ScriptedBatch

ASK: Any = [{"role": "user", "content": "How is it in Rome?"}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def make_tool(parameters: dict[str, Any], *, strict: bool | None = None) -> dict[str, Any]:
    """A tool by its schema."""
    function = {"name": "tag", "parameters": parameters, "strict": strict}
    return {"type": "function", "function": function}


MakeClient = Callable[..., openai.OpenAI]


@pytest.fixture
def make_client(
    make_served: Callable[..., LoadedModel],
    listening: Callable[..., AbstractContextManager[str]],
    tokenizer: ChatTokenizer,
) -> Iterator[MakeClient]:
    """``make_client(template, says)``: a model of a template, random or by a script."""
    with ExitStack() as stack:

        def make(template: str, says: str | None = None) -> openai.OpenAI:
            size, batch = tokenizer.vocabulary, None
            if says is not None:
                script = tokenizer.encode_text(says)

                def batch(slots: int) -> ScriptedBatch:
                    return ScriptedBatch(size, slots, script=script, logit=30)

            served = make_served(batch=batch, context=1500)
            chat = ChatTokenizer(tokenizer.backend, template)
            prompts = PromptEncoder(chat, served.table, 1500, 8)
            address = stack.enter_context(listening(replace(served, prompts=prompts)))
            return openai.OpenAI(base_url=address, api_key="none", max_retries=0)

        yield make


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_forced_call_fits_its_schema(make_client: MakeClient, name: str, choice: Any) -> None:
    client = make_client(TEMPLATES[name])
    answer: Any = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[WEATHER, PING], tool_choice=choice, seed=5,
        temperature=1, max_tokens=200,
    )  # type: ignore[call-overload]  # fmt: skip
    message = answer.choices[0].message
    # A random model ends no text before its limit; the call is whole all the same.
    assert answer.choices[0].finish_reason in ("tool_calls", "length")
    assert message.content is None
    assert message.tool_calls
    for call in message.tool_calls:
        assert call.function.name in (
            ["get_weather"] if choice == NAMED else ["get_weather", "ping"]
        )
        if call.function.name == "get_weather":
            parameters: Any = WEATHER["function"]
            jsonschema.validate(json.loads(call.function.arguments), parameters["parameters"])
    # The conversation goes on with the call and its result.
    results = [
        {"role": "tool", "tool_call_id": call.id[:9], "content": "sunny"}
        for call in message.tool_calls
    ]
    turn = message.model_dump(exclude_none=True)
    for call in turn["tool_calls"]:
        call["id"] = "Abc123xyz"
    follow = client.chat.completions.create(
        model="tiny", messages=[*ASK, turn, *results], tools=[WEATHER, PING],
        tool_choice="none", max_tokens=5,
    )  # type: ignore[call-overload]  # fmt: skip
    assert follow.choices[0].message.tool_calls is None


SAID = (
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n'
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_calls_when_it_wants_to(make_client: MakeClient, stream: bool) -> None:
    client = make_client(TEMPLATES["hermes"], SAID + "</tool_call>")
    asked: Any = {"model": "tiny", "messages": ASK, "tools": [WEATHER, PING], "temperature": 0}
    if not stream:
        choice = client.chat.completions.create(**asked).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("Let me see.", "tool_calls")
        (call,) = choice.message.tool_calls or []
        assert json.loads(call.function.arguments) == {"city": "Rome", "days": 2}
        return
    with client.chat.completions.stream(**asked) as events:
        deltas = [event.arguments_delta for event in events
                  if event.type == "tool_calls.function.arguments.delta"]  # fmt: skip
        final = events.get_final_completion().choices[0]
    assert len(deltas) > 3
    assert (final.message.content, final.finish_reason) == ("Let me see.", "tool_calls")
    (called,) = final.message.tool_calls or []
    assert (called.function.name, called.id[:5]) == ("get_weather", "call_")
    assert json.loads(called.function.arguments) == {"city": "Rome", "days": 2}


def test_a_model_that_only_talks_calls_nothing(make_client: MakeClient) -> None:
    client = make_client(TEMPLATES["hermes"], "a < b, <tool of mine>")
    answer: Any = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[PING], temperature=0
    )  # type: ignore[call-overload]
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("a < b, <tool of mine>", "stop")
    assert choice.message.tool_calls is None


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"tools": [PING, PING]}, "tools[1].function.name", "stands twice"),
        ({"tools": [PING], "tool_choice": NAMED}, "tool_choice", "does not have"),
        ({"tool_choice": "required"}, "tool_choice", "does not have"),
        ({"tools": [PING], "tool_choice": "perhaps"}, "tool_choice", "expected none, auto"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 3}}}]},
            "tools[0].function.parameters",
            "parameters': .*type",
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 5},
            "max_tokens",
            "too few for 'tools'",
        ),
        (
            {"tools": [PING, make_tool({"type": "array", "uniqueItems": True}, strict=True)]},
            "tools[1].function.parameters.uniqueItems",
            "'uniqueItems' cannot be held here in full; leave it out",
        ),
    ],
)
def test_what_cannot_be_called_is_refused_by_name(
    make_client: MakeClient, fields: dict[str, Any], param: str, says: str
) -> None:
    client = make_client(TEMPLATES["hermes"])
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        client.post(
            "/chat/completions", body={"model": "tiny", "messages": ASK, **fields}, cast_to=object
        )
    assert refused.value.param == param


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "note": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("calls", [True, False])
def test_an_answer_is_a_call_or_by_the_schema(
    make_client: MakeClient, name: str, calls: bool
) -> None:
    """Of the script's two beginnings the grammar has room for both."""
    written = {
        "hermes": '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>',
        "llama": '{"name": "ping", "parameters": {}}',
        "mistral": '[TOOL_CALLS][{"name": "ping", "arguments": {}, "id": "Abc123xyz"}]',
    }[name]
    text = '{"name":"ping","note":"<tool_call>"}'
    client = make_client(TEMPLATES[name], written if calls else text)
    answer: Any = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[WEATHER, PING], temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    )  # type: ignore[call-overload]  # fmt: skip
    choice = answer.choices[0]
    if calls:
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert [call.function.name for call in choice.message.tool_calls] == ["ping"]
    else:
        assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
        assert choice.message.content == text


def test_a_forced_call_is_one_whatever_the_format_says(make_client: MakeClient) -> None:
    client = make_client(TEMPLATES["hermes"], '{"name":"x"}')
    answer: Any = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[PING], tool_choice="required", temperature=0,
        response_format={"type": "json_object"},
    )  # type: ignore[call-overload]  # fmt: skip
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["ping"]


@pytest.mark.parametrize(
    "keywords",
    [
        {"uniqueItems": True},
        {"contains": {"const": "b"}},
        {"not": {"type": "string"}},
        {"if": {"type": "string"}, "then": {"minLength": 3}},
        {"oneOf": [{"minItems": 1}, {"maxItems": 3}]},
    ],
)
def test_a_tool_that_is_not_strict_is_held_without_what_no_grammar_holds(
    make_client: MakeClient, keywords: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}
    parameters = {
        "type": "object",
        "properties": {"tags": {**tags, **keywords}, "file": {"type": "string", "format": "binary"}},
        "required": ["tags"],
        "additionalProperties": False,
    }  # fmt: skip
    said = '<tool_call>\n{"name": "tag", "arguments": {"tags": ["a", "a"]}}\n</tool_call>'
    client = make_client(TEMPLATES["hermes"], said)
    asked: Any = {"model": "tiny", "messages": ASK, "tools": [make_tool(parameters)]}
    for _ in range(2):
        choice = client.chat.completions.create(**asked, temperature=0).choices[0]
        (call,) = choice.message.tool_calls or []
        assert json.loads(call.function.arguments) == {"tags": ["a", "a"]}
    (line,) = [record.getMessage() for record in caplog.records if "not strict" in record.msg]
    assert f"tools[0].function.parameters.properties.tags.{next(iter(keywords))}" in line
    strict = {**asked, "tools": [make_tool(parameters, strict=True)]}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**strict)
    place = f"tools[0].function.parameters.properties.tags.{next(iter(keywords))}"
    assert refused.value.param == place
    assert "start" not in refused.value.message


@pytest.mark.parametrize("stop", ['"', "<", "}"])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_stop_strings_are_not_looked_for_in_calls(
    make_client: MakeClient, stop: str, choice: Any
) -> None:
    said = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n'
    client = make_client(TEMPLATES["hermes"], said + "</tool_call>")
    answer: Any = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[WEATHER], tool_choice=choice, temperature=0, stop=stop
    )  # type: ignore[call-overload]
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Rome", "days": 2}
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_tool_by_another_name_is_refused_by_the_rule(make_client: MakeClient) -> None:
    client = make_client(TEMPLATES["hermes"])
    tool: Any = {"type": "function", "function": {"name": "my.tool"}}
    with pytest.raises(openai.BadRequestError, match=r"\^\[a-zA-Z0-9_-\]\{1,64\}\$") as refused:
        client.chat.completions.create(model="tiny", messages=ASK, tools=[tool])
    assert refused.value.param == "tools[0].function.name"


@pytest.mark.parametrize("name", [*TEMPLATES, "plain"])
def test_a_card_says_if_the_model_has_tools(make_client: MakeClient, name: str) -> None:
    plain = "{% for message in messages %}{{ message.content }}{% endfor %}"
    client = make_client(TEMPLATES.get(name, plain))
    card: Any = client.models.retrieve("tiny")
    assert card.tools is (name in TEMPLATES)
    listed: Any = client.models.list().data[0]
    assert listed.tools is card.tools
