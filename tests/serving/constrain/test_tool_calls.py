"""Calls of tools in the form of the model's own template: found, forced, read piece by piece."""

from __future__ import annotations

import json

import jsonschema
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.house_template import HOUSE_TEMPLATE
from components.text.chat.token_bytes import token_bytes
from serving.api.answers.logprob_format import TokenTexts
from serving.constrain.constraint_factory import ConstraintFactory
from serving.constrain.tool_call_form import ToolCallForm, find_tool_call_form
from serving.constrain.tool_call_reader import ToolCall, ToolCallReader
from serving.constrain.tool_fields import ToolField
from serving.constrain.tool_grammar import tool_call_source
from tests.serving.constrain.test_guided_constraint import draw_answer
from tests.serving.constrain.tool_templates import PLAIN, TEMPLATES

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
PING = {"type": "function", "function": {"name": "ping"}}
TOOLS = [ToolField.model_validate(tool) for tool in (WEATHER, PING)]
FORMS = {
    "hermes": ToolCallForm(
        trigger="<tool_call>",
        opening='\n{"name": "',
        between='", "arguments": ',
        joint='}\n</tool_call>\n<tool_call>\n{"name": "',
        closing="}\n</tool_call>",
        key_separator=": ",
        item_separator=", ",
    ),
    "llama": ToolCallForm(
        trigger='{"name": "',
        opening="",
        between='", "parameters": ',
        joint=None,
        closing="}",
        key_separator=": ",
        item_separator=", ",
    ),
    "mistral": ToolCallForm(
        trigger="[TOOL_CALLS]",
        opening='[{"name": "',
        between='", "arguments": ',
        joint=', "id": "\0"}, {"name": "',
        closing=', "id": "\0"}]',
        key_separator=": ",
        item_separator=", ",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_is_read_off_the_template(tokenizer: ChatTokenizer, name: str) -> None:
    assert find_tool_call_form(ChatTokenizer(tokenizer.backend, TEMPLATES[name])) == FORMS[name]


@pytest.mark.parametrize("template", [HOUSE_TEMPLATE, PLAIN])
def test_a_template_without_tools_has_none(tokenizer: ChatTokenizer, template: str) -> None:
    assert find_tool_call_form(ChatTokenizer(tokenizer.backend, template)) is None


def read_calls(form: ToolCallForm, text: str, step: int) -> tuple[str, list[ToolCall], bool]:
    """(what is said, calls, whole) of a text that comes by pieces of ``step`` signs."""
    reader, said, streamed = ToolCallReader(form), "", dict[int, str]()
    for start in range(0, len(text) + step, step):
        spoken, pieces = reader.push(text[start : start + step], final=start >= len(text))
        said += spoken
        for piece in pieces:
            streamed[piece.index] = streamed.get(piece.index, "") + (piece.arguments or "")
    assert list(streamed.values()) == [call.arguments for call in reader.calls]
    return said, reader.calls, reader.is_whole


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("parallel", [True, False])
def test_a_forced_call_is_whole_and_read_back(
    tokenizer: ChatTokenizer, name: str, parallel: bool
) -> None:
    """Drawn at random, in every length that the shortest one allows, read sign by sign."""
    form, special = FORMS[name], tokenizer.special_tokens
    source = tool_call_source(form, TOOLS, special, forced=True, parallel=parallel)
    factory = ConstraintFactory(token_bytes(tokenizer), frozenset({4}), tokenizer.encode_text)
    compiled = factory.compile_now(source)
    numbers = set[int]()
    for seed in range(25):
        text, _, whole = draw_answer(compiled, len(compiled.path) + 9 * seed, seed)
        assert whole
        readings = [read_calls(form, text, step) for step in (1, 7, 1000)]
        for said, calls, complete in readings:
            assert (said, complete) == ("", True)
            for call in calls:
                arguments = json.loads(call.arguments)
                if call.name == "get_weather":
                    jsonschema.validate(arguments, WEATHER["function"]["parameters"])  # type: ignore[index]
                else:
                    assert (call.name, arguments) == ("ping", {})
        assert len({json.dumps([c.arguments for c in calls]) for _, calls, _ in readings}) == 1
        numbers.add(len(readings[0][1]))
    assert numbers == {1} or (parallel and form.joint is not None)


def test_text_comes_before_a_call_or_alone(tokenizer: ChatTokenizer) -> None:
    form = FORMS["hermes"]
    source = tool_call_source(form, TOOLS, {}, forced=False, parallel=True)
    factory = ConstraintFactory(token_bytes(tokenizer), frozenset({4}), tokenizer.encode_text)
    compiled = factory.compile_now(source)
    for text, fits in (
        ("just text < here", True),
        ('so:\n<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>', True),
        ('<tool_call>\n{"name": "pong"', False),
        ("<tool_call>no", False),
    ):
        matcher = compiled.matcher.deep_copy()
        tokens = tokenizer.encode_text(text)
        assert (matcher.try_consume_tokens(tokens) == len(tokens)) == fits
    said = read_calls(form, 'so:\n<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>', 3)
    assert (said[0], [call.name for call in said[1]], said[2]) == ("so:", ["ping"], True)
    assert read_calls(form, "a < b <tool", 2) == ("a < b <tool", [], False)
    assert read_calls(form, '<tool_call>\n{"name": "ping", "arguments": {"a": "}', 4)[2] is False


def test_special_tokens_of_a_form_are_forced_as_tokens(tokenizer: ChatTokenizer) -> None:
    """Mistral's ``[TOOL_CALLS]`` is one; here the house's own stands for it."""
    special = {"<|system|>": tokenizer.special_tokens["<|system|>"]}
    form = ToolCallForm("<|system|>", '{"n": "', '", "a": ', None, "}", ": ", ", ")
    factory = ConstraintFactory(token_bytes(tokenizer), frozenset({4}), tokenizer.encode_text)
    compiled = factory.compile_now(
        tool_call_source(form, TOOLS, special, forced=True, parallel=False)
    )
    assert compiled.path[0] == special["<|system|>"]
    texts = TokenTexts(token_bytes(tokenizer), tokenizer.special_tokens)
    spelled = b"".join(texts.spelled_table[token] for token in compiled.path).decode()
    assert spelled == '<|system|>{"n": "ping", "a": {}}'
    optional = factory.compile_now(
        tool_call_source(form, TOOLS, special, forced=False, parallel=False)
    )
    matcher = optional.matcher.deep_copy()
    assert matcher.consume_tokens([*tokenizer.encode_text("so "), *compiled.path])
    assert matcher.is_accepting()
