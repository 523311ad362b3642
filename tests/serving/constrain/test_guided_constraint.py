"""Constraints and their closing paths: whatever is drawn, an answer is whole at its last token."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.token_bytes import token_bytes
from serving.api.error_responses import ApiError
from serving.constrain.constraint_factory import CompiledGrammar, ConstraintFactory
from serving.constrain.grammar_source import (
    GrammarSource,
    any_object_source,
    choice_source,
    grammar_source,
    json_source,
    regex_source,
)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 2},
        "kind": {"enum": ["alpha", "b"]},
        "note": {"anyOf": [{"type": "null"}, {"type": "number"}]},
    },
    "required": ["name", "age", "tags", "kind", "note"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module")
def factory(tokenizer: ChatTokenizer) -> ConstraintFactory:
    return ConstraintFactory(token_bytes(tokenizer), frozenset(range(5)), tokenizer.encode_text)


def draw_answer(compiled: CompiledGrammar, limit: int, seed: int) -> tuple[str, int, bool]:
    """(text, tokens, whole) of a model that draws among the allowed tokens, all equally likely."""
    random, constraint = np.random.default_rng(seed), compiled.constrain()
    table, tokens = compiled.vocabulary.table, list[int]()
    while len(tokens) < limit:
        allowed = constraint.allowed_tokens(limit - len(tokens))
        token = constraint.settle_token(int(random.choice(allowed.nonzero()[0])))
        if token in compiled.vocabulary.ends:
            return b"".join(table[t] for t in tokens).decode(), len(tokens), True
        constraint.accept_token(token)
        tokens.append(token)
        if constraint.ended:
            return b"".join(table[t] for t in tokens).decode(), len(tokens), True
    matcher = compiled.matcher.deep_copy()
    whole = matcher.consume_tokens(tokens) and matcher.is_accepting()
    return b"".join(table[t] for t in tokens).decode("utf-8", "replace"), len(tokens), whole


@pytest.mark.parametrize("spare", [0, 1, 2, 5, 17, 60, 400])
@pytest.mark.parametrize("schema", [PERSON, TREE])
def test_an_object_is_whole_within_its_tokens(
    factory: ConstraintFactory, schema: dict[str, object], spare: int
) -> None:
    compiled = factory.compile_now(json_source(schema, "schema"))
    for seed in range(8):
        text, count, whole = draw_answer(compiled, len(compiled.path) + spare, seed)
        assert whole
        assert count <= len(compiled.path) + spare
        jsonschema.validate(json.loads(text), schema)
        assert not re.search(r"[:,\[{]\s", re.sub(r'"(?:\\.|[^"\\])*"', '""', text))


def test_tokens_beyond_the_shortest_answer_are_the_models(factory: ConstraintFactory) -> None:
    """The budget closes an answer at its end, and bends nothing while there is room."""
    compiled = factory.compile_now(json_source({"type": "string"}, "schema"))
    lengths = [draw_answer(compiled, 200, seed)[1] for seed in range(10)]
    assert sum(lengths) / len(lengths) > 50


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        (regex_source(r"a*b", "x"), r"a*b"),
        (regex_source(r"[0-9]{30}", "x"), r"[0-9]{30}"),
        (regex_source(r".*END", "x"), r".*END"),
        (regex_source(r"[^@]+@[^@]+\.[a-z]{2,}", "x"), r"[^@]+@[^@]+\.[a-z]{2,}"),
        (regex_source(r"\(.*\)", "x"), r"\(.*\)"),
        (choice_source(["yes", "no, thanks", 'he said "no"'], "x"), 'yes|no, thanks|he said "no"'),
        (grammar_source('root ::= "a" [0-9]+ ws\nws ::= [ \\t]*\n', "x"), r"a[0-9]+[ \t]*"),
        (grammar_source('start: "x" | "(" start ")"\n', "x"), r"\(*x\)*"),
        (grammar_source('start: "<c>" /[a-z]{3}/ "</c>"\n', "x"), r"<c>[a-z]{3}</c>"),
    ],
)
def test_texts_by_regex_grammar_and_choice(
    factory: ConstraintFactory, source: GrammarSource, fits: str
) -> None:
    compiled = factory.compile_now(source)
    for spare in (0, 3, 40):
        for seed in range(5):
            text, _, whole = draw_answer(compiled, len(compiled.path) + spare, seed)
            assert whole
            assert re.fullmatch(fits, text), text


@pytest.mark.parametrize(
    ("schema", "shortest"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "minLength": 90}}}, "{}"),
        ({"anyOf": [{"const": "a long text to write"}, {"type": "integer"}]}, "0"),
        ({"enum": ["Serialize", "x"]}, '"x"'),
        ({"type": "array", "minItems": 2, "items": {"type": "boolean"}}, None),
    ],
)
def test_the_shortest_answer_is_known_before(
    factory: ConstraintFactory, schema: dict[str, object], shortest: str | None
) -> None:
    compiled = factory.compile_now(json_source(schema, "schema"))
    text = b"".join(compiled.vocabulary.table[token] for token in compiled.path).decode()
    jsonschema.validate(json.loads(text), schema)
    if shortest is not None:
        assert len(text) == len(shortest)
    with pytest.raises(ApiError, match=f"shortest answer known has {len(compiled.path)} tokens"):
        compiled.check_room(99, len(compiled.path) - 1, "max_tokens")
    with pytest.raises(ApiError, match=f"context leaves {len(compiled.path) - 1} tokens"):
        compiled.check_room(len(compiled.path) - 1, None, "max_tokens")
    compiled.check_room(len(compiled.path), len(compiled.path), "max_tokens")


def test_numbers_do_not_grow_for_ever(factory: ConstraintFactory) -> None:
    """A model that always writes a digit where it may: 5,000 of them no reader takes."""
    table = token_bytes_of(factory)
    digits = [token for token, text in enumerate(table) if text and text.isdigit()]
    for schema in ({"type": "integer"}, {"type": "array", "items": {"type": "number"}}):
        compiled = factory.compile_now(json_source(schema, "schema"))
        constraint, tokens = compiled.constrain(), list[int]()
        while not constraint.ended and len(tokens) < 900:
            allowed = constraint.allowed_tokens(900 - len(tokens)).nonzero()[0].tolist()
            wanted = [token for token in allowed if token in digits[1:]] or allowed
            token = constraint.settle_token(wanted[0])
            constraint.accept_token(token)
            tokens.append(token)
        text = b"".join(table[token] for token in tokens)
        assert max(map(len, re.findall(rb"[0-9]+", text))) == 19


def token_bytes_of(factory: ConstraintFactory) -> list[bytes]:
    return list(factory.vocabulary.table)


def test_digits_of_a_text_are_no_number(factory: ConstraintFactory) -> None:
    schema = {"type": "string", "pattern": "^[0-9]{40}$"}
    compiled = factory.compile_now(json_source(schema, "schema"))
    text, _, whole = draw_answer(compiled, 60, 1)
    assert whole
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: json_source({"type": "strin"}, "f.schema"), "Invalid type: strin"),
        (lambda: json_source({"type": "array", "uniqueItems": True}, "f.schema"), "uniqueItems"),
        (lambda: json_source({"$ref": "http://x.invalid/y"}, "f.schema"), "http://x.invalid/y"),
        (lambda: json_source({"enum": []}, "f.schema"), "Unsatisfiable"),
        (lambda: json_source(False, "f.schema"), "Unsatisfiable"),
        (lambda: json_source({"$ref": "#/$defs/no"}, "f.schema"), r"\$defs/no"),
        (
            lambda: json_source({"type": "object", "minProperties": 3}, "f.schema"),
            "minProperties': more than one above the 0 required",
        ),
        (
            lambda: json_source({"enum": ["x" * 70_000]}, "f.schema"),
            "larger than 65536 bytes",
        ),
        (lambda: json_source({"type": "array", "minItems": 5000}, "f.schema"), "at most 4096"),
        (
            lambda: json_source('{"items":' * 900 + "{}" + "}" * 900, "f.schema"),
            "nested too deeply|recursion limit",
        ),
        (lambda: regex_source("(", "f.schema"), "unclosed group"),
        (lambda: regex_source("(?=a)b", "f.schema"), "look-around"),
        (lambda: regex_source("a" * 9000, "f.schema"), "larger than 8192 bytes"),
        (lambda: regex_source("(a{1000}){1000}b", "f.schema"), "no answer|too complex"),
        (lambda: grammar_source("start: foo\n", "f.schema"), 'unknown name: "foo"'),
        (lambda: grammar_source('start: "a" start\n', "f.schema"), "no answer of at most"),
        (lambda: grammar_source("what is this", "f.schema"), "neither Lark nor GBNF"),
        (lambda: grammar_source("root ::= " + "(" * 3000, "f.schema"), "nested too deeply"),
        (lambda: grammar_source("root ::=", "f.schema"), "no answer but the empty one"),
        (lambda: regex_source("", "f.schema"), "no answer but the empty one"),
        (lambda: regex_source("a{100000}", "f.schema"), "no answer of at most 4096 tokens"),
        (lambda: choice_source([], "f.schema"), "at least one choice"),
        (lambda: choice_source(["a", ""], "f.schema"), "empty text"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(
    factory: ConstraintFactory, make: object, says: str
) -> None:
    assert callable(make)
    with pytest.raises(ApiError, match=says) as refused:
        factory.compile_now(make())
    assert refused.value.status == 400
    assert refused.value.body["error"]["param"].startswith("f.schema")
    assert len(refused.value.body["error"]["message"].splitlines()) == 1


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"type": "string", "pattern": "^(?!x)[a-z]$"}, '"x"'),
        ({"type": "object", "minProperties": 3}, "{}"),
        ({"type": "string", "format": "regex"}, '"("'),
        ({"$ref": "other.json"}, "3"),
        ({"type": "object", "propertyNames": {"pattern": "^a"}}, '{"b":1}'),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a":1}'),
        ({"type": "object", "patternProperties": {"^(?=a)": {"type": "null"}}}, '{"a":1}'),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "3"),
        ({"properties": {"a": {"type": "string"}}, "type": "object", "maxProperties": 1}, "{}"),
    ],
)
def test_a_schema_is_held_as_far_as_it_can_be_unless_it_is_strict(
    factory: ConstraintFactory, schema: dict[str, object], fits: str
) -> None:
    source = json_source(schema, "f.schema", strict=False)
    assert accepts(factory.compile_now(source), fits)
    with pytest.raises(ApiError) as refused:
        factory.compile_now(json_source(schema, "f.schema"))
    keyword = next(key for key in schema if key not in ("type", "properties"))
    assert f"{keyword}" in refused.value.body["error"]["message"]
    # What a definition that nothing refers to says is no matter.
    unused = {"type": "integer", "$defs": {"x": {**schema, "minProperties": 0}}}
    if "$ref" not in schema:
        factory.compile_now(json_source(unused, "f.schema"))


@pytest.mark.parametrize(
    ("schema", "fits", "beyond"),
    [
        ({"type": "integer", "format": "int32"}, 2**31 - 1, 2**31),
        ({"type": "integer", "format": "int32"}, -(2**31), -(2**31) - 1),
        ({"type": "integer", "format": "int64"}, 9 * 10**18, 2**63),
        ({"type": ["integer", "null"], "format": "uint8"}, 255, 256),
        ({"type": "integer", "format": "int32", "maximum": 5}, 5, 6),
        ({"type": "integer", "format": "int32", "exclusiveMaximum": 5}, 4, 5),
        ({"type": "integer", "format": "int8", "exclusiveMaximum": 500}, 127, 128),
        ({"type": "number", "format": "double"}, 2.5, None),
        ({"type": "string", "format": "password"}, "x", 1),
        ({"type": "string", "format": "of-my-own"}, "x", 1),
    ],
)
def test_formats_of_openapi_bound_integers_and_say_nothing_else(
    factory: ConstraintFactory, schema: dict[str, object], fits: object, beyond: object
) -> None:
    compiled = factory.compile_now(json_source(schema, "schema"))
    assert accepts(compiled, json.dumps(fits))
    assert beyond is None or not accepts(compiled, json.dumps(beyond))


def accepts(compiled: CompiledGrammar, text: str) -> bool:
    """The grammar takes a text as a whole answer."""
    tokens = list(compiled.vocabulary.tokenizer.tokenize_str(text))
    matcher = compiled.matcher.deep_copy()
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("count", [2_000, 4_000])
def test_thousands_of_choices_are_held(factory: ConstraintFactory, count: int) -> None:
    choices = [f"no. {at} (ä)\n" for at in range(count)]
    compiled = factory.compile_now(choice_source(choices, "x"))
    assert accepts(compiled, choices[-1])
    assert not accepts(compiled, f"no. {count} (ä)\n")


def test_a_bound_that_the_first_byte_runs_into_is_the_reason(factory: ConstraintFactory) -> None:
    rules = " | ".join(f'"{at} a"' for at in range(2_500))
    with pytest.raises(ApiError, match="row has 2501 items"):
        factory.compile_now(grammar_source(f"start: {rules}\n", "x"))


def test_an_answer_that_its_tokens_cut_is_told_from_one_that_ended(
    factory: ConstraintFactory,
) -> None:
    """The same text, once as the model draws it and once because no other fits any more."""
    compiled = factory.compile_now(json_source({"type": "array", "items": {"const": 1}}, "x"))
    single = compiled.vocabulary.single_bytes
    for drawn, cut in (("[1]", False), ("[1,", True)):
        constraint, text = compiled.constrain(), b""
        for at, sign in enumerate(drawn.encode()):
            assert constraint.allowed_tokens(3 - at)[single[sign]]
            token = constraint.settle_token(single[sign])
            constraint.accept_token(token)
            text += compiled.vocabulary.table[token]
        assert (text, constraint.was_cut) == (b"[1]", cut)
        assert constraint.ended


def test_any_object_and_white_space(factory: ConstraintFactory) -> None:
    compiled = factory.compile_now(any_object_source("x"))
    for seed in range(20):
        text, _, whole = draw_answer(compiled, 50 + seed, seed)
        assert whole
        assert isinstance(json.loads(text), dict)


def test_an_answer_draws_among_end_tokens_where_it_may_end(factory: ConstraintFactory) -> None:
    constraint = factory.compile_now(regex_source("a+", "x")).constrain()
    assert not constraint.allowed_tokens(9)[:5].any()
    letter = factory.vocabulary.single_bytes[ord("a")]
    assert constraint.settle_token(letter) == letter
    constraint.accept_token(letter)
    assert constraint.allowed_tokens(8)[:5].all()
    assert constraint.settle_token(3) == 3
    assert constraint.ended


def test_a_token_that_the_grammar_refuses_is_never_taken(factory: ConstraintFactory) -> None:
    """An engine that draws past the mask (all of it at minus infinity) breaks nothing."""
    compiled = factory.compile_now(choice_source(["abc"], "x"))
    constraint, text = compiled.constrain(), b""
    for remaining in (9, 8, 7):
        constraint.allowed_tokens(remaining)
        token = constraint.settle_token(factory.vocabulary.single_bytes[ord("!")])
        constraint.accept_token(token)
        text += factory.vocabulary.table[token]
    assert text == b"abc"
    assert constraint.ended


@pytest.mark.parametrize(
    ("schema", "fits", "beyond"),
    [
        ({"type": "number", "exclusiveMinimum": 7, "exclusiveMaximum": 7.5}, "7.25", "7"),
        ({"type": "number", "exclusiveMaximum": -2.0}, "-2.5", "-2"),
        ({"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 3}, "0", "3"),
        ({"type": "number", "exclusiveMinimum": 0, "minimum": 1}, "1", "0.5"),
        ({"type": "integer", "exclusiveMinimum": 7}, "8", "7"),
    ],
)
def test_exclusive_bounds_exclude(
    factory: ConstraintFactory, schema: dict[str, object], fits: str, beyond: str
) -> None:
    vocabulary = factory.vocabulary
    matcher = factory.compile_now(json_source(schema, "schema")).matcher
    for text, expected in ((fits, True), (beyond, False)):
        copy, tokens = matcher.deep_copy(), list(vocabulary.tokenizer.tokenize_str(text))
        whole = copy.try_consume_tokens(tokens) == len(tokens) and copy.is_accepting()
        assert whole == expected
