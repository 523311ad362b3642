"""OpenAI's responses interface by its own client: whole, streamed, structured, with tools."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from tests.serving.constrain.test_tool_calls import WEATHER
from tests.serving.constrain.test_tool_endpoint import SAID, MakeClient, make_client
from tests.serving.constrain.tool_templates import TEMPLATES

__all__ = ["make_client"]
HERMES = TEMPLATES["hermes"]
TOOL: Any = {"type": "function", "strict": True, **WEATHER["function"]}  # type: ignore[dict-item]


class City(BaseModel):
    name: str
    people: int


def test_a_text_is_answered_whole_and_streamed(make_client: MakeClient) -> None:
    client = make_client(HERMES, "It is sunny, 🦊.")
    asked: Any = {"model": "tiny", "input": "How is it?", "instructions": "Be short.",
                  "temperature": 0}  # fmt: skip
    whole = client.responses.create(**asked)
    assert (whole.output_text, whole.status) == ("It is sunny, 🦊.", "completed")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    events = list(client.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:3] == [
        "response.created", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    cut = client.responses.create(**asked, max_output_tokens=2)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_model_of_pydantic_is_filled(make_client: MakeClient) -> None:
    client = make_client(HERMES)
    answer = client.responses.parse(model="tiny", input="Which city?", text_format=City)
    assert isinstance(answer.output_parsed, City)


@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_and_answered(make_client: MakeClient, stream: bool) -> None:
    client = make_client(HERMES, SAID + "</tool_call>")
    asked: Any = {"model": "tiny", "input": "Rome?", "tools": [TOOL], "temperature": 0}
    if stream:
        *events, last = client.responses.create(**asked, stream=True)
        answer = last.response
        kind = "response.function_call_arguments.delta"
        deltas = [event for event in events if event.type == kind]
        assert len(deltas) > 3
        assert "".join(event.delta for event in deltas) == answer.output[1].arguments
        assert {(event.item_id, event.output_index) for event in deltas} == {
            (answer.output[1].id, 1)
        }
    else:
        answer = client.responses.create(**asked)
    assert answer.output_text == "Let me see."
    call = answer.output[1]
    assert (call.type, call.name) == ("function_call", "get_weather")
    parameters: Any = WEATHER["function"]
    jsonschema.validate(json.loads(call.arguments), parameters["parameters"])
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    history = [{"role": "user", "content": "Rome?"}, *answer.output, result]
    items = [item if isinstance(item, dict) else item.model_dump(exclude_none=True)
             for item in history]  # fmt: skip
    again: Any = {**asked, "input": items, "max_output_tokens": 3}
    assert client.responses.create(**again).status == "incomplete"


def test_a_reason_is_that_of_its_field(make_client: MakeClient) -> None:
    client = make_client(HERMES)
    for fields, says in (
        ({"reasoning": {"effort": "low"}}, "writes no reasoning"),
        ({"truncation": "auto"}, "never shortened"),
        ({"include": ["x"]}, "nothing more"),
        ({"conversation": "x"}, "no response is stored"),
        (
            {"text": {"format": {"type": "json_schema", "schema": {}}}},
            "Missing required parameter: 'text.format.name'",
        ),
    ):
        body = {"model": "tiny", "input": "x", **fields}
        with pytest.raises(openai.BadRequestError, match=says):
            client.post("/responses", body=body, cast_to=object)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"nothing": 1}, "nothing"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "y"}}}},
            "text.format.schema",
        ),
        (
            {"text": {"format": {"type": "json_object"}}, "max_output_tokens": 1},
            "max_output_tokens",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(
    make_client: MakeClient, fields: dict[str, Any], param: str
) -> None:
    client = make_client(HERMES)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/responses", body={"model": "tiny", "input": "x", **fields}, cast_to=object)
    assert refused.value.param == param
