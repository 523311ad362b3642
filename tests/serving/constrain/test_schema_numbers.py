"""Bounds and constants beyond what doubles hold: answers validate, or the keyword is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.token_bytes import token_bytes
from serving.api.error_responses import ApiError
from serving.constrain.constraint_factory import CompiledGrammar, ConstraintFactory
from serving.constrain.grammar_source import grammar_source, json_source
from tests.serving.constrain.test_random_schemas import answer_schema

EDGE = 1 << 63


@pytest.fixture(scope="module")
def factory(tokenizer: ChatTokenizer) -> ConstraintFactory:
    return ConstraintFactory(token_bytes(tokenizer), frozenset(range(5)), tokenizer.encode_text)


def accepts(compiled: CompiledGrammar, value: object) -> bool:
    """The grammar takes a value's JSON as a whole answer."""
    tokens = list(compiled.vocabulary.tokenizer.tokenize_str(json.dumps(value)))
    matcher = compiled.matcher.deep_copy()
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "fit", "beyond"),
    [
        ({"format": "int64"}, [EDGE - 1, -EDGE + 1024, 0], [EDGE, -EDGE - 1]),
        ({"format": "int64", "minimum": 5}, [5, EDGE - 1], [4, EDGE]),
        ({"format": "uint64", "maximum": 300}, [0, 300], [-1, 301]),
        ({"maximum": (1 << 53) + 3}, [(1 << 53) + 2], [(1 << 53) + 4]),
        ({"maximum": (1 << 53) + 4}, [(1 << 53) + 4, (1 << 53) + 3], [(1 << 53) + 5]),
        ({"exclusiveMaximum": (1 << 53) + 4}, [(1 << 53) + 2], [(1 << 53) + 4]),
        ({"exclusiveMaximum": EDGE}, [EDGE - 1], [EDGE]),
        ({"exclusiveMaximum": 1e18}, [10**18 - 200], [10**18]),
        ({"minimum": -(1 << 53) - 3}, [-(1 << 53) - 2], [-(1 << 53) - 4]),
        ({"minimum": 1 << 60, "maximum": 1 << 61}, [1 << 60, 1 << 61], [(1 << 60) - 1, 1 << 62]),
        ({"maximum": 1 << 60, "exclusiveMaximum": 7}, [6], [7]),
    ],
)
def test_integers_keep_to_bounds_that_no_double_holds(
    factory: ConstraintFactory, schema: dict[str, Any], fit: list[int], beyond: list[int]
) -> None:
    for kind in ("integer", ["integer", "null"]):
        compiled = factory.compile_now(json_source({"type": kind, **schema}, "schema"))
        assert [accepts(compiled, value) for value in fit] == [True] * len(fit)
        assert [accepts(compiled, value) for value in beyond] == [False] * len(beyond)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "integer", "format": "uint64"}, "format"),
        ({"type": "integer", "maximum": 1 << 64}, "maximum"),
        ({"type": "integer", "minimum": -EDGE - 1}, "minimum"),
        ({"type": "integer", "exclusiveMinimum": EDGE}, "exclusiveMinimum"),
        ({"type": "number", "maximum": 1e25, "minimum": 0}, "maximum"),
        ({"type": "number", "minimum": -1e400}, "minimum"),
        ({"type": "integer", "maximum": 10**400}, "maximum"),
        ({"type": "integer", "minimum": 2**62 + 1, "maximum": 2**62 + 2}, "maximum"),
        ({"const": (1 << 53) + 1}, "const"),
        ({"enum": ["a", {"b": [1e300]}]}, "enum"),
        ({"const": -EDGE}, "const"),
        ({"type": "integer", "multipleOf": (1 << 53) + 1}, "multipleOf"),
    ],
)
def test_numbers_out_of_reach_are_refused_by_name(
    factory: ConstraintFactory, schema: dict[str, Any], keyword: str
) -> None:
    whole = {"type": "object", "properties": {"x": schema}}
    with pytest.raises(ApiError) as refused:
        factory.compile_now(json_source(whole, "f.schema"))
    assert refused.value.status == 400
    assert refused.value.body["error"]["param"] == f"f.schema.properties.x.{keyword}"
    if keyword != "multipleOf":  # a schema that is not strict is held without it
        source = json_source(whole, "f.schema", strict=False)
        assert f"f.schema.properties.x.{keyword}" in source.unheld_keywords("")
        factory.compile_now(source)


@pytest.mark.parametrize("number", ["-9223372036854775808", "-9.223372036854775808e18"])
def test_a_number_that_would_end_the_process_reaches_no_grammar(number: str) -> None:
    """llguidance overflows its stack over it, wherever a reference leads to it."""
    hidden = f'{{"$ref": "#/components/x", "components": {{"x": {{"const": {number}}}}}}}'
    for strict in (True, False):
        with pytest.raises(ApiError, match="cannot be held"):
            json_source(hidden, "schema", strict=strict)
    with pytest.raises(ApiError, match="cannot be held"):
        grammar_source(f'start: %json {{"const": {number}}}', "grammar")
    described = f'{{"type": "integer", "default": {number}, "description": "from {number}"}}'
    json_source(described, "schema")
    grammar_source(f'start: "{number}"', "grammar")


@pytest.mark.parametrize(
    ("schema", "fit", "beyond"),
    [
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"type": "string", "nullable": False}, ["a"], [None]),
        ({"type": "integer", "nullable": True, "format": "int32"}, [None, 5], [1 << 31]),
        # Its specification (3.0.3): an enum has to name null itself, and without a type it is idle.
        ({"type": "string", "nullable": True, "enum": ["a"]}, ["a"], [None]),
        ({"type": "string", "nullable": True, "enum": ["a", None]}, ["a", None], ["b"]),
        ({"nullable": True, "enum": ["a"]}, ["a"], [None]),
        ({"type": "integer", "minimum": 5, "exclusiveMinimum": True}, [6], [5]),
        ({"type": "integer", "minimum": 5, "exclusiveMinimum": False}, [5], [4]),
        ({"type": "integer", "maximum": 5, "exclusiveMaximum": True}, [4], [5]),
        ({"type": "number", "maximum": 5, "exclusiveMaximum": True}, [4.5], [5]),
        ({"type": "integer", "exclusiveMaximum": True, "maximum": EDGE}, [EDGE - 1], [EDGE]),
        ({"type": "integer", "exclusiveMinimum": True}, [-7], []),
    ],
)
def test_openapi_3_0_is_read_in_its_own_words(
    factory: ConstraintFactory, schema: dict[str, Any], fit: list[Any], beyond: list[Any]
) -> None:
    compiled = factory.compile_now(json_source(schema, "schema"))
    assert [accepts(compiled, value) for value in fit] == [True] * len(fit)
    assert [accepts(compiled, value) for value in beyond] == [False] * len(beyond)


def test_answers_to_random_bounds_validate(factory: ConstraintFactory) -> None:
    draw, held = random.Random(4), 0
    for seed in range(150):
        sizes = (50, 53, 54, 60, 62, 63, 64)
        numbers = sorted(
            draw.choice((-1, 1)) * (2 ** draw.choice(sizes) + draw.randint(-3, 3)) for _ in range(2)
        )
        schema: dict[str, Any] = {"type": draw.choice(["integer", ["integer", "null"]])}
        if draw.random() < 0.8:
            schema[draw.choice(["minimum", "exclusiveMinimum"])] = numbers[0]
        if draw.random() < 0.8:
            schema[draw.choice(["maximum", "exclusiveMaximum"])] = numbers[1]
        try:
            compiled = factory.compile_now(json_source(schema, "schema"))
        except ApiError:
            continue
        held += 1
        for run in range(4):
            text = answer_schema(compiled, len(compiled.path) + 30, 1.0, 10 * seed + run)
            assert Draft202012Validator(schema).is_valid(json.loads(text)), (schema, text)
    assert held > 60
