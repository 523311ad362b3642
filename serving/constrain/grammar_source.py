"""Source of a constraint as a request gives it, with the grammar that llguidance compiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import any_to_lark

from serving.api.error_responses import ApiError
from serving.constrain.pattern_samples import collect_patterns, lark_patterns, sample_patterns

MAX_SOURCE_BYTES = 64 << 10
"""Of a schema or grammar: the largest schemas of tools have some 20 kB."""
MAX_PATTERN_BYTES = 8 << 10
COMPACT = {
    "whitespace_flexible": False,
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}
"""JSON without white space; keywords that are not understood are refused."""
_BESIDE, _NARROW = 1e-9, 1e-6
"""Distance of an inclusive bound from an exclusive one, as a share of it, and the least range of
numbers that is still wide for it."""
_SUBSCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_SUBSCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
Schema = Mapping[str, Any] | bool


@dataclass(frozen=True)
class GrammarSource:
    """A grammar that is not compiled yet."""

    grammar: str
    """As ``LLMatcher`` takes it."""
    place: str = field(compare=False)
    """The field that it came from; errors name it."""
    is_json: bool = False
    is_text: bool = False
    """Any text fits as well."""
    samples: tuple[str, ...] = field(default=(), compare=False)
    """Texts that match its patterns."""


def json_source(schema: Schema | str, place: str) -> GrammarSource:
    """JSON by a schema, which may be JSON in a text itself.

    Raises:
        ApiError: 400: too large, or a keyword cannot be held.
    """
    if isinstance(schema, str):
        schema = parse_schema(schema, place)
    grammar = LLMatcher.grammar_from_json_schema(schema_text(schema, place))
    written = [json.dumps(t, ensure_ascii=False)[1:-1] for t in _sample_schema(schema)]
    return GrammarSource(grammar, place, is_json=True, samples=tuple(written))


def any_object_source(place: str) -> GrammarSource:
    """Any JSON object."""
    return json_source({"type": "object"}, place)


def regex_source(pattern: str, place: str) -> GrammarSource:
    """Text that a regular expression matches as a whole.

    Raises:
        ApiError: 400: too large.
    """
    check_size(pattern, MAX_PATTERN_BYTES, place)
    grammar = LLMatcher.grammar_from_regex(pattern)
    return GrammarSource(grammar, place, samples=sample_patterns([pattern]))


def choice_source(choices: Sequence[str], place: str) -> GrammarSource:
    """One of several texts.

    Raises:
        ApiError: 400: none, an empty one, or too large.
    """
    if not choices:
        raise invalid_value(place, "expected at least one choice")
    if not all(choices):
        raise invalid_value(place, "an empty text is no choice")
    lark = "start: " + " | ".join(lark_literal(choice) for choice in dict.fromkeys(choices))
    check_size(lark, MAX_SOURCE_BYTES, place)
    return GrammarSource(LLMatcher.grammar_from_lark(lark), place)


def grammar_source(grammar: str, place: str) -> GrammarSource:
    """Text of a grammar: Lark's, or llama.cpp's GBNF, which is translated.

    Raises:
        ApiError: 400: too large, or neither of both.
    """
    check_size(grammar, MAX_SOURCE_BYTES, place)
    try:
        lark = any_to_lark(grammar)
    except RecursionError:
        raise invalid_value(place, "it is nested too deeply") from None
    except Exception as error:  # the translator raises plain Exceptions
        raise invalid_value(place, f"it is neither Lark nor GBNF: {error}") from None
    samples = sample_patterns(lark_patterns(lark))
    return GrammarSource(LLMatcher.grammar_from_lark(lark), place, samples=samples)


def lark_source(lark: str, place: str, *, is_text: bool = False) -> GrammarSource:
    """A grammar of our own making, with JSON in it.

    Args:
        lark: the grammar.
        place: the field that it came from.
        is_text: any text fits as well.
    """
    grammar = LLMatcher.grammar_from_lark(lark)
    return GrammarSource(grammar, place, is_json=True, is_text=is_text)


def _sample_schema(schema: Schema) -> tuple[str, ...]:
    return sample_patterns(list(collect_patterns(schema)))


def lark_literal(text: str) -> str:
    """A text as a literal of Lark, which reads JSON's escapes."""
    return json.dumps(text)


def schema_text(schema: Schema, place: str) -> str:
    """A schema for llguidance: compact, and nothing of it left out of sight.

    Raises:
        ApiError: 400: too large, or a keyword cannot be held.
    """
    if isinstance(schema, bool):
        schema = {} if schema else {"anyOf": []}
    prepared = prepare_schema(schema, place)
    text = json.dumps({**prepared, "x-guidance": COMPACT}, ensure_ascii=False)
    check_size(text, MAX_SOURCE_BYTES, place)
    return text


def prepare_schema(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A schema as llguidance holds it.

    Raises:
        ApiError: 400: a keyword cannot be held, or it is nested too deeply.
    """
    try:
        prepared: dict[str, Any] = _prepare(schema, place)
        json.dumps(prepared)
    except RecursionError:
        raise invalid_value(place, "it is nested too deeply") from None
    return prepared


def parse_schema(text: str, place: str) -> Schema:
    """A schema that stands as JSON in a text.

    Raises:
        ApiError: 400: no JSON, or neither an object nor a truth value.
    """
    check_size(text, MAX_SOURCE_BYTES, place)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid_value(place, "the text is no JSON") from None
    if not isinstance(schema, dict | bool):
        raise invalid_value(place, "a schema is an object")
    return schema


def _prepare(schema: Any, place: str) -> Any:
    """A schema without keywords that say nothing, and with those checked that are misread."""
    if not isinstance(schema, Mapping):
        return schema  # booleans; of other types llguidance says that they are none
    kept = {key: value for key, value in schema.items() if key != "x-guidance"}
    if kept.get("uniqueItems") is False:
        del kept["uniqueItems"]
    _check_min_properties(kept, place)
    _close_bounds(kept)
    for key in _SUBSCHEMAS:
        if key in kept:
            kept[key] = _prepare(kept[key], f"{place}.{key}")
    for key in _SUBSCHEMA_LISTS:
        if isinstance(kept.get(key), list):
            items = enumerate(kept[key])
            kept[key] = [_prepare(item, f"{place}.{key}[{at}]") for at, item in items]
    for key in _SUBSCHEMA_MAPS:
        if isinstance(kept.get(key), Mapping):
            named = kept[key].items()
            kept[key] = {name: _prepare(item, f"{place}.{key}.{name}") for name, item in named}
    return kept


def _close_bounds(schema: dict[str, Any]) -> None:
    """Exclusive bounds of decimals as inclusive ones beside them: llguidance takes ``7`` for a
    number above 7, and readers take ``7.00000000000000001`` for 7."""
    if schema.get("type") == "integer" or "multipleOf" in schema:
        return
    lowest = _read_number(schema, "minimum", "exclusiveMinimum")
    highest = _read_number(schema, "maximum", "exclusiveMaximum")
    if lowest is not None and highest is not None and highest - lowest < _NARROW:
        return
    for exclusive, inclusive, sign in (
        ("exclusiveMinimum", "minimum", 1),
        ("exclusiveMaximum", "maximum", -1),
    ):
        bound = _read_number(schema, exclusive)
        if bound is None:
            continue
        del schema[exclusive]
        beside = round(bound + sign * max(1.0, abs(bound)) * _BESIDE, 9)
        other = _read_number(schema, inclusive)
        if other is None or sign * other < sign * beside:
            schema[inclusive] = beside


def _read_number(schema: Mapping[str, Any], *keys: str) -> float | None:
    """The first of the keys that holds a number."""
    for key in keys:
        value = schema.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return None


def _check_min_properties(schema: Mapping[str, Any], place: str) -> None:
    """Refuse a number of properties that only names of the model's own choice could reach: a
    grammar cannot hold that they differ."""
    least, required = schema.get("minProperties"), schema.get("required", [])
    names = len(required) if isinstance(required, list) else 0
    if isinstance(least, int | float) and least > names + 1:
        raise invalid_value(
            f"{place}.minProperties",
            f"more than one above the {names} required properties cannot be held; name them",
        )


def check_size(text: str, most: int, place: str) -> None:
    """Refuse a source that is too large.

    Args:
        text: the source.
        most: bytes.
        place: its field.

    Raises:
        ApiError: 400.
    """
    if len(text.encode()) > most:
        raise invalid_value(place, f"it is larger than {most} bytes")


def invalid_value(place: str, reason: str) -> ApiError:
    """400: a constraint that cannot be held."""
    said = " ".join(reason.split())
    return ApiError(400, f"Invalid '{place}': {said[:400]}.", param=place, code="invalid_value")
