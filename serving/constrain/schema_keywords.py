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

_BESIDE, _NARROW = 1e-9, 1e-6
"""Distance of an inclusive bound from an exclusive one, as a share of it, and the least range of
numbers that is still wide for it."""
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
_INT64 = (1 << 63) - 1024
"""llguidance computes bounds as doubles; this is the last one below 2^63."""
_INTEGER_FORMATS = {
    "int8": (-(1 << 7), (1 << 7) - 1), "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1), "int64": (-_INT64, _INT64),
    "uint8": (0, (1 << 8) - 1), "uint16": (0, (1 << 16) - 1), "uint32": (0, (1 << 32) - 1),
}  # fmt: skip


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
        except RecursionError:
            raise invalid_value(place, "it is nested too deeply") from None
        return prepared

    def _prepare(self, schema: Any, place: str) -> Any:
        if not isinstance(schema, Mapping):
            return schema  # booleans; of other types llguidance says that they are none
        kept = {
            key: value
            for key, value in schema.items()
            if key != "x-guidance" and not _is_neutral(key, value)
        }
        self._note_unheld(kept, place)
        self._check_min_properties(kept, place)
        self._read_format(kept, place)
        self._check_patterns(kept, place)
        _close_bounds(kept)
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
        bounds = _INTEGER_FORMATS.get(name)
        if bounds is not None and _may_be(schema, "integer") and not _may_be(schema, "number"):
            _tighten(schema, "minimum", "exclusiveMinimum", bounds[0], 1)
            _tighten(schema, "maximum", "exclusiveMaximum", bounds[1], -1)

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


def _tighten(schema: dict[str, Any], key: str, exclusive: str, bound: int, sign: int) -> None:
    """Set a bound of an integer, unless a tighter one is there.

    Args:
        schema: is changed.
        key: of the inclusive bound.
        exclusive: its exclusive form.
        bound: the value.
        sign: 1 for a lower bound, -1 for an upper one.
    """
    other = _read_number(schema, exclusive)
    if other is not None:
        if sign * other >= sign * bound:
            return
        del schema[exclusive]
    inclusive = _read_number(schema, key)
    if inclusive is None or sign * inclusive < sign * bound:
        schema[key] = bound


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


def invalid_value(place: str, reason: str) -> ApiError:
    """400: a constraint that cannot be held."""
    said = " ".join(reason.split())
    return ApiError(400, f"Invalid '{place}': {said[:400]}.", param=place, code="invalid_value")
