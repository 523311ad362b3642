"""Random JSON schemas of the kinds that applications write, all with at least one instance."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
NAMES = ("name", "id", "größe", "with space", 'quo"te', "a", "items", "$ref", "é", "x-y", "type")
PATTERNS = (
    "^[a-z]{2,5}$", r"^\+?[0-9]{3,10}$", r"^[^@]+@[^@]+\.[a-z]{2,}$", "^(red|green|blue)$",
    "^[A-Z][a-z]*( [A-Z][a-z]*)*$", r"^v[0-9]+\.[0-9]+$", "[0-9]", "^x*y+$", r"^\S.*END$",
)  # fmt: skip
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "duration", "hostname", "uri")
CONSTANTS: tuple[Any, ...] = (
    "x", 'quo"te\\', "naïve 🦊", 0, -3, 2.5, True, None, [1, "b"], {"k": [None, {"z": 1}]}, "",
    "\n",
)  # fmt: skip


def make_schema(seed: int) -> Schema:
    """A schema by its seed: nested objects and lists, bounds, choices, references, patterns."""
    draw = random.Random(seed)  # noqa: S311 - a reproducible choice, no secret
    schema = _make_value(draw, draw.randint(1, 4), ())
    if draw.random() < 0.3:
        return _make_recursive(draw)
    return schema


def _make_value(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    if names and draw.random() < 0.2:
        return {"$ref": f"#/$defs/{draw.choice(names)}"}
    simple: list[Callable[..., Schema]] = [
        _make_text, _make_integer, _make_number, _make_enum, _make_const, _make_plain,
    ]  # fmt: skip
    nested: list[Callable[..., Schema]] = [
        _make_object, _make_object, _make_array, _make_any_of, _make_map,
    ]  # fmt: skip
    make = draw.choice(simple if depth <= 0 else [*simple, *nested, *nested])
    schema = make(draw, depth, names) if make in nested else make(draw)
    if schema.get("type", "null") != "null" and draw.random() < 0.15:
        schema = {**schema, "type": [schema["type"], "null"]}
    if draw.random() < 0.1:
        schema = {"title": "T", "description": "said", "default": None, **schema}
    return schema


def _make_text(draw: random.Random) -> Schema:
    kind = draw.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": draw.choice(PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": draw.choice(FORMATS)}
    if kind == 2:
        least = draw.randint(0, 12)
        return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 9)}
    return {"type": "string"}


def _make_integer(draw: random.Random) -> Schema:
    least = draw.randint(-500, 500)
    schema: Schema = {"type": "integer"}
    if draw.random() < 0.6:
        schema[draw.choice(["minimum", "exclusiveMinimum"])] = least
    if draw.random() < 0.6:
        schema[draw.choice(["maximum", "exclusiveMaximum"])] = least + draw.randint(20, 900)
    if draw.random() < 0.3:
        schema["multipleOf"] = draw.choice([1, 2, 5, 7])
    return schema


def _make_number(draw: random.Random) -> Schema:
    schema: Schema = {"type": "number"}
    least = draw.choice([-2.5, 0, 0.125, 7, 1e3])
    if draw.random() < 0.6:
        schema[draw.choice(["minimum", "exclusiveMinimum"])] = least
    if draw.random() < 0.6:
        schema[draw.choice(["maximum", "exclusiveMaximum"])] = least + draw.choice([0.5, 3, 100])
    return schema


def _make_enum(draw: random.Random) -> Schema:
    return {"enum": draw.sample(CONSTANTS, draw.randint(1, 4))}


def _make_const(draw: random.Random) -> Schema:
    return {"const": draw.choice(CONSTANTS)}


def _make_plain(draw: random.Random) -> Schema:
    return {"type": draw.choice(["boolean", "null", "string", "array", "object"])}


def _make_object(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    chosen = draw.sample(NAMES, draw.randint(0, 5))
    schema: Schema = {
        "type": "object",
        "properties": {name: _make_value(draw, depth - 1, names) for name in chosen},
        "required": [name for name in chosen if draw.random() < 0.6],
    }
    kind = draw.random()
    if kind < 0.6:
        schema["additionalProperties"] = False
    elif kind < 0.8:
        schema["additionalProperties"] = _make_value(draw, depth - 2, names)
    return schema


def _make_map(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": _make_value(draw, depth - 1, names),
    }
    if draw.random() < 0.5:
        schema["minProperties"] = 1
    if draw.random() < 0.5:
        schema["maxProperties"] = draw.randint(1, 4)
    return schema


def _make_array(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    schema: Schema = {"type": "array", "items": _make_value(draw, depth - 1, names)}
    least = draw.randint(0, 3)
    if draw.random() < 0.5:
        schema["minItems"] = least
    if draw.random() < 0.5:
        schema["maxItems"] = least + draw.randint(0, 3)
    if draw.random() < 0.2:
        count = draw.randint(1, 3)
        schema["prefixItems"] = [_make_value(draw, depth - 1, names) for _ in range(count)]
    return schema


def _make_any_of(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    return {"anyOf": [_make_value(draw, depth - 1, names) for _ in range(draw.randint(2, 3))]}


def _make_recursive(draw: random.Random) -> Schema:
    """References to definitions, one of which holds itself as something that may be left out."""
    leaf = _make_value(draw, 1, ())
    node: Schema = {
        "type": "object",
        "properties": {
            "value": _make_value(draw, 1, ("leaf",)),
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        },
        "required": draw.sample(["value", "children", "next"], draw.randint(0, 3)),
        "additionalProperties": False,
    }
    root = draw.choice([{"$ref": "#/$defs/node"}, _make_value(draw, 3, ("leaf", "node"))])
    return {**root, "$defs": {"leaf": leaf, "node": node}}
