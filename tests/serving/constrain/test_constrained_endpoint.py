"""Fields that constrain an answer, over the socket, with a model that draws at random."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from serving.api.answers.loaded_model import LoadedModel

ASK: Any = [{"role": "user", "content": "What does json.dumps do?"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture
def client(
    make_served: Callable[..., LoadedModel],
    listening: Callable[..., AbstractContextManager[str]],
) -> Iterator[openai.OpenAI]:
    with listening(make_served(context=400)) as address:
        yield openai.OpenAI(base_url=address, api_key="none", max_retries=0)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    body = {"model": "tiny", "messages": ASK, "temperature": 2, "seed": 7, **fields}
    choice = client.post("/chat/completions", body=body, cast_to=object)["choices"][0]  # type: ignore[index]
    # A random model writes texts that only its limit ends.
    assert choice["finish_reason"] in ("stop", "length")
    return choice["message"]["content"]


@pytest.mark.parametrize(
    "fields",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "person", "strict": True, "schema": SCHEMA},
            }
        },
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
        {"json_schema": SCHEMA},
    ],
)
@pytest.mark.parametrize("limit", [None, 30])
def test_a_schema_by_any_name_is_held(
    client: openai.OpenAI, fields: dict[str, Any], limit: int | None
) -> None:
    answer = json.loads(ask(client, max_tokens=limit, **fields))
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(answer), answer


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"response_format": {"type": "json_object"}}, r"\{.*\}"),
        ({"structured_outputs": {"json_object": True}}, r"\{.*\}"),
        ({"guided_regex": "[a-c]{3}[0-9]"}, "[a-c]{3}[0-9]"),
        ({"structured_outputs": {"regex": "[a-c]{3}[0-9]"}}, "[a-c]{3}[0-9]"),
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"guided_grammar": 'start: "a" | "b" start\n'}, "b*a"),
        ({"structured_outputs": {"grammar": 'start: "a" | "b" start\n'}}, "b*a"),
        ({"grammar": 'root ::= "a" | "b" root\n'}, "b*a"),
    ],
)
def test_regex_choice_and_grammar(client: openai.OpenAI, fields: Any, fits: str) -> None:
    assert re.fullmatch(fits, ask(client, **fields), re.DOTALL)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"guided_choice": []},
        {"grammar": ""},
        {"guided_json": None},
    ],
)
def test_fields_that_ask_for_nothing_constrain_nothing(client: openai.OpenAI, fields: Any) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 9}
    answers = [
        client.post("/chat/completions", body={**body, **more}, cast_to=object)
        for more in (fields, {})
    ]
    assert answers[0]["choices"] == answers[1]["choices"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "'guided_regex'"),
        (
            {"response_format": {"type": "json_object"}, "json_schema": {}},
            "response_format",
            "'json_schema'",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "Missing required",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            "Missing required",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "expected 'text'"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a b", "schema": {}},
                }
            },
            "response_format.json_schema.name",
            "Invalid",
        ),
        ({"guided_json": "{"}, "guided_json", "no JSON"),
        ({"guided_json": "[]"}, "guided_json", "a schema is an object"),
        ({"guided_json": 3}, "guided_json", "expected an object, but got an integer"),
        ({"guided_json": {"type": "strin"}}, "guided_json", "Invalid type: strin"),
        ({"guided_regex": "("}, "guided_regex", "unclosed group"),
        ({"grammar": "root ::= nothing"}, "grammar", "nothing"),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag",
            "Unknown",
        ),
        ({"guided_json": SCHEMA, "max_tokens": 4}, "max_tokens", "shortest answer known has"),
        (
            {"guided_json": SCHEMA, "max_completion_tokens": 4},
            "max_completion_tokens",
            "4 tokens are too few for 'guided_json'",
        ),
        ({"guided_regex": "a{900}"}, "guided_regex", "context leaves"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "contradicts a constraint"),
        ({"guided_regex": "a", "min_tokens": 3}, "min_tokens", "contradicts a constraint"),
    ],
)
def test_what_cannot_be_held_is_refused_before_anything_runs(
    client: openai.OpenAI, fields: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.param == param
    assert says in refused.value.message


class Person(BaseModel):
    """Short texts: a random model ends none, and the client refuses answers that were cut."""

    name: Annotated[str, Field(max_length=9)]
    kind: Literal["child", "adult"]
    tags: Annotated[list[Annotated[str, Field(max_length=3)]], Field(max_length=3)]


def test_the_openai_client_parses_into_a_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="tiny", messages=ASK, response_format=Person, temperature=1, seed=3, n=2
    )
    people = [choice.message.parsed for choice in answer.choices]
    assert all(isinstance(person, Person) for person in people)
    assert people[0] != people[1]


def test_a_stream_and_completions_hold_it_too(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=ASK,
        stream=True,
        seed=1,
        logprobs=True,
        extra_body={"guided_json": SCHEMA},
    )
    text, tokens = "", 0
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if chunk.choices[0].logprobs is not None:
            tokens += len(chunk.choices[0].logprobs.content or [])
    jsonschema.validate(json.loads(text), SCHEMA)
    assert tokens > 0
    plain = client.completions.create(
        model="tiny", prompt=["a", "b"], max_tokens=30, extra_body={"guided_json": SCHEMA}
    )
    for choice in plain.choices:
        jsonschema.validate(json.loads(choice.text), SCHEMA)


def test_equal_seeds_give_equal_objects(client: openai.OpenAI) -> None:
    answers = [ask(client, guided_json=SCHEMA, seed=seed) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
