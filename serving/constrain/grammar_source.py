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
from serving.constrain.schema_keywords import DoubtfulKeyword, SchemaPreparer, invalid_value
from serving.constrain.schema_numbers import grammar_has_fatal_number

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
LENIENT = {**COMPACT, "coerce_one_of": True, "lenient": True}
"""The same; keywords that are not understood are left out."""
Schema = Mapping[str, Any] | bool


@dataclass(frozen=True)
class GrammarSource:
    """A grammar that is not compiled yet."""

    grammar: str
    """As ``LLMatcher`` takes it."""
    place: str = field(compare=False)
    """The field that it came from; errors name it."""
    is_json: bool = False
    samples: tuple[str, ...] = field(default=(), compare=False)
    """Texts that match its patterns."""
    doubtful: tuple[DoubtfulKeyword, ...] = field(default=(), compare=False)
    """Keywords of its schemas that may not be held."""
    parts: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Of a grammar of our own making: (field, grammar) of each schema in it."""

    def unheld_keywords(self, message: str) -> list[str]:
        """Places of keywords that are left out.

        Args:
            message: llguidance's warnings.
        """
        return [keyword.place for keyword in self.doubtful if keyword.sign in message]

    def describe_error(self, error: str) -> ApiError:
        """400 for an error of llguidance, without a grammar that the client never saw.

        Args:
            error: of the grammar.
        """
        named = [keyword for keyword in self.doubtful if keyword.sign and keyword.sign in error]
        if named:
            return invalid_value(
                named[0].place, f"'{named[0].name}' cannot be held here in full; leave it out"
            )
        for place, grammar in self.parts:
            reason = LLMatcher.validate_grammar(grammar)
            if reason:
                return invalid_value(place, _first_lines(reason))
        if self.parts:
            return invalid_value(self.place, "together they are too large for one grammar")
        return invalid_value(self.place, _first_lines(error))


def json_source(schema: Schema | str, place: str, *, strict: bool = True) -> GrammarSource:
    """JSON by a schema, which may be JSON in a text itself.

    Args:
        schema: of the answer.
        place: the field that it came from.
        strict: a keyword that cannot be held is an error; else it is left out.

    Raises:
        ApiError: 400: too large, nested too deeply, or no schema.
    """
    if isinstance(schema, str):
        schema = parse_schema(schema, place)
    text, doubtful = write_schema(schema, place, LENIENT if not strict else COMPACT)
    written = [json.dumps(t, ensure_ascii=False)[1:-1] for t in _sample_schema(schema)]
    return GrammarSource(
        LLMatcher.grammar_from_json_schema(text),
        place,
        is_json=True,
        samples=tuple(written),
        doubtful=doubtful,
    )


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
    check_size("".join(choices), MAX_SOURCE_BYTES, place)
    # One terminal: a row of llguidance's parser has at most some 2,000 alternatives.
    pattern = "|".join(_escape(choice) for choice in dict.fromkeys(choices))
    return GrammarSource(LLMatcher.grammar_from_regex(pattern), place)


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
    if grammar_has_fatal_number(lark):
        raise invalid_value(place, f"the number {-(1 << 63)} cannot be held")
    samples = sample_patterns(lark_patterns(lark))
    return GrammarSource(LLMatcher.grammar_from_lark(lark), place, samples=samples)


def join_grammars(lark: str, named: Mapping[str, str]) -> str:
    """A grammar with others in it.

    Args:
        lark: the grammar, which has the others as ``@NAME``.
        named: name -> grammar, as ``LLMatcher`` takes it.
    """
    grammars: list[dict[str, Any]] = [{"lark_grammar": lark}]
    for name, grammar in named.items():
        is_lark = not grammar.lstrip().startswith("{")  # no grammar of Lark begins so
        inner = {"lark_grammar": grammar} if is_lark else json.loads(grammar)["grammars"][0]
        grammars.append({**inner, "name": name})
    return json.dumps({"grammars": grammars}, ensure_ascii=False)


def _sample_schema(schema: Schema) -> tuple[str, ...]:
    return sample_patterns(list(collect_patterns(schema)))


def lark_literal(text: str) -> str:
    """A text as a literal of Lark, which reads JSON's escapes."""
    return json.dumps(text)


def write_schema(
    schema: Schema, place: str, options: Mapping[str, Any]
) -> tuple[str, tuple[DoubtfulKeyword, ...]]:
    """(a schema for llguidance, keywords that it may not hold).

    Args:
        schema: of the answer.
        place: the field that it came from.
        options: llguidance's; ``lenient`` leaves out what cannot be held.

    Raises:
        ApiError: 400: too large, nested too deeply, or a number of properties out of reach.
    """
    if isinstance(schema, bool):
        schema = {} if schema else {"anyOf": []}
    preparer = SchemaPreparer(strict=not options["lenient"])
    prepared = preparer.prepare(schema, place)
    text = json.dumps({**prepared, "x-guidance": options}, ensure_ascii=False)
    check_size(text, MAX_SOURCE_BYTES, place)
    return text, tuple(preparer.doubtful)


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


def _escape(text: str) -> str:
    """A text as a regular expression for itself; of Rust's syntax, as that of llguidance is."""
    return "".join(
        sign if sign.isalnum() or sign in " _,;:'" else f"\\x{{{ord(sign):x}}}" for sign in text
    )


def _first_lines(error: str) -> str:
    """An error without the drawing that points into the grammar."""
    lines = [line for line in error.splitlines() if line.strip(" ^|")]
    return "; ".join(line.strip() for line in lines[:4])
