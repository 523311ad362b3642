"""JSON schemas as llguidance holds them, with the place of every keyword that it may not hold.

A strict schema is held whole or refused by the keyword's place; of another one, what no grammar
holds is left out, and the answer is held to the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from serving.api.error_responses import ApiError
from serving.constrain.schema_numbers import (
    INTEGER_FORMATS,
    LOWER,
    UPPER,
    close_bounds,
    has_fatal_number,
    has_inexact_number,
    round_bounds,
    tighten_bound,
)

_SUBSCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_SUBSCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_UNHELD = (
    "not", "if", "then", "else", "propertyNames", "dependentRequired", "dependentSchemas",
    "dependencies", "contains", "minContains", "maxContains", "uniqueItems",
    "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
"""Keywords whose meaning no context-free grammar of a bounded size has."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,),
    "propertyNames": (True, {}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
}
"""Keyword -> values by which it says nothing."""
_HELD_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6",
                 "uuid", "uri")  # fmt: skip
_UNHELD_FORMATS = ("idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference",
                   "uri-template", "json-pointer", "relative-json-pointer", "regex")  # fmt: skip
"""Formats that JSON Schema defines and llguidance does not know; others (OpenAPI's ``binary``,
``double``, ``password`` …) are annotations, which say nothing about the JSON."""
_ANNOTATIONS = ("x-guidance", "default", "example", "examples")
"""Left out: options of llguidance that are ours alone, and values that say nothing of others."""


@dataclass(frozen=True)
class DoubtfulKeyword:
    """A keyword that llguidance may not hold."""

    name: str
    """As an error says it."""
    place: str
    """Path of the keyword in the request."""
    sign: str = ""
    """Text by which llguidance names it; empty where it is left out before."""


class SchemaPreparer:
    """Prepares one schema.

    Args:
        strict: what cannot be held is an error.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._pattern_sign = "regex parse error" if strict else ""
        self.doubtful: list[DoubtfulKeyword] = []

    def prepare(self, schema: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The schema without keywords that say nothing, and with those mended that are misread.

        Raises:
            ApiError: 400: it is nested too deeply, or asks for what is known to be out of reach.
        """
        try:
            prepared: dict[str, Any] = self._prepare(schema, place)
            json.dumps(prepared)
            if has_fatal_number(prepared):
                raise invalid_value(place, f"the number {-(1 << 63)} cannot be held")
        except RecursionError:
            raise invalid_value(place, "it is nested too deeply") from None
        return prepared

    def _prepare(self, schema: Any, place: str) -> Any:
        if not isinstance(schema, Mapping):
            return schema  # booleans; of other types llguidance says that they are none
        kept = {
            key: value
            for key, value in schema.items()
            if key not in _ANNOTATIONS and not _is_neutral(key, value)
        }
        _read_openapi(kept)
        self._note_unheld(kept, place)
        self._check_min_properties(kept, place)
        self._read_format(kept, place)
        self._check_patterns(kept, place)
        self._check_numbers(kept, schema, place)
        close_bounds(kept)
        for key in _SUBSCHEMAS:
            if key in kept:
                kept[key] = self._prepare(kept[key], f"{place}.{key}")
        for key in _SUBSCHEMA_LISTS:
            if isinstance(kept.get(key), list):
                items = enumerate(kept[key])
                kept[key] = [self._prepare(item, f"{place}.{key}[{at}]") for at, item in items]
        for key in _SUBSCHEMA_MAPS:
            if isinstance(kept.get(key), Mapping):
                named = kept[key].items()
                kept[key] = {
                    name: self._prepare(item, f"{place}.{key}.{name}") for name, item in named
                }
        return kept

    def _note_unheld(self, schema: dict[str, Any], place: str) -> None:
        """Keywords that llguidance leaves out of lenient schemas and refuses in others."""
        for key in _UNHELD:
            if key in schema:
                self.doubtful.append(DoubtfulKeyword(key, f"{place}.{key}", f'"{key}"'))
        if "oneOf" in schema:  # held where its branches are seen to be apart
            self.doubtful.append(DoubtfulKeyword("oneOf", f"{place}.oneOf", "oneOf"))
        for key in ("minProperties", "maxProperties"):
            if key in schema:
                self.doubtful.append(DoubtfulKeyword(key, f"{place}.{key}", "min/maxProperties"))
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            sign = "not present in a registry" if self._strict else ""
            self.doubtful.append(DoubtfulKeyword(f"$ref: {reference[:200]}", f"{place}.$ref", sign))
            if not self._strict:
                del schema["$ref"]  # nothing is fetched

    def _check_min_properties(self, schema: dict[str, Any], place: str) -> None:
        """Refuse a number of properties that only names of the model's own choice could reach: a
        grammar cannot hold that they differ."""
        least, required = schema.get("minProperties"), schema.get("required", [])
        names = len(required) if isinstance(required, list) else 0
        if isinstance(least, int | float) and least > names + 1:
            if self._strict:
                raise invalid_value(
                    f"{place}.minProperties",
                    f"more than one above the {names} required properties cannot be held; "
                    "name them",
                )
            del schema["minProperties"]
            self.doubtful.append(DoubtfulKeyword("minProperties", f"{place}.minProperties"))

    def _read_format(self, schema: dict[str, Any], place: str) -> None:
        """Bounds in place of an integer's format; no format that says nothing."""
        name = schema.get("format")
        if not isinstance(name, str) or name in _HELD_FORMATS:
            return
        if name in _UNHELD_FORMATS:
            if _may_be(schema, "string"):
                sign = f"Unknown format: {name}"
                self.doubtful.append(DoubtfulKeyword("format", f"{place}.format", sign))
            return
        del schema["format"]
        bounds = INTEGER_FORMATS.get(name)
        if bounds is not None and _is_integer(schema):
            tighten_bound(schema, LOWER, bounds[0])
            tighten_bound(schema, UPPER, bounds[1])

    def _check_numbers(self, schema: dict[str, Any], given: Mapping[str, Any], place: str) -> None:
        """Round bounds that no double holds; constants and bounds out of reach cannot be held.

        Args:
            schema: is changed.
            given: the same as the request has it.
            place: its path.
        """
        unheld = [key if key in given else "format" for key in round_bounds(schema)]
        for key in ("const", "enum"):
            if has_inexact_number(schema.get(key)):
                unheld.append(key)
                del schema[key]
        if "multipleOf" in schema:
            sign = "Value for 'multipleOf'"
            self.doubtful.append(DoubtfulKeyword("multipleOf", f"{place}.multipleOf", sign))
        for key in unheld:
            if self._strict:
                raise invalid_value(
                    f"{place}.{key}", f"'{key}' cannot be held here with numbers so large"
                )
            self.doubtful.append(DoubtfulKeyword(key, f"{place}.{key}"))

    def _check_patterns(self, schema: dict[str, Any], place: str) -> None:
        """Patterns of other dialects (look-around) are left out, where they may be."""
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _is_pattern(pattern):
            self.doubtful.append(DoubtfulKeyword("pattern", f"{place}.pattern", self._pattern_sign))
            if not self._strict:
                del schema["pattern"]
        named = schema.get("patternProperties")
        if not isinstance(named, Mapping):
            return
        for name in [name for name in named if not _is_pattern(name)]:
            at = f"{place}.patternProperties.{name}"
            self.doubtful.append(DoubtfulKeyword("patternProperties", at, self._pattern_sign))
            if not self._strict:
                schema["patternProperties"] = {k: v for k, v in named.items() if k != name}
                named = schema["patternProperties"]
                # Names that it describes are others to the rest of the schema.
                schema.pop("additionalProperties", None)


def _is_neutral(key: str, value: Any) -> bool:
    return any(type(value) is type(said) and value == said for said in _NEUTRAL.get(key, ()))


def _is_pattern(pattern: str) -> bool:
    error = LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(pattern))
    return "regex parse error" not in error and "look-around" not in error


def _may_be(schema: Mapping[str, Any], kind: str) -> bool:
    """The schema's ``type`` has room for a type; one without it has room for texts alone, since
    that is what a format is said of."""
    named = schema.get("type", "string")
    return kind == named or (isinstance(named, list) and kind in named)


def _is_integer(schema: Mapping[str, Any]) -> bool:
    """The only numbers that the schema's ``type`` has room for are integers."""
    return _may_be(schema, "integer") and not _may_be(schema, "number")


def _read_openapi(schema: dict[str, Any]) -> None:
    """Keywords of OpenAPI 3.0 in JSON Schema's words, in place: ``nullable``, which its
    specification binds to a ``type`` beside it, and exclusive bounds as flags."""
    named = schema.get("type")
    if schema.pop("nullable", None) is True and isinstance(named, str) and named != "null":
        schema["type"] = [named, "null"]
    for inclusive, exclusive in (LOWER, UPPER):
        flag = schema.get(exclusive)
        if isinstance(flag, bool):
            del schema[exclusive]
            if flag and inclusive in schema:
                schema[exclusive] = schema.pop(inclusive)


def invalid_value(place: str, reason: str) -> ApiError:
    """400: a constraint that cannot be held."""
    said = " ".join(reason.split())
    return ApiError(400, f"Invalid '{place}': {said[:400]}.", param=place, code="invalid_value")
