"""Numbers of JSON schemas as llguidance (1.9) holds them, which reads each as a double.

Its ranges of integers have 64 bits: beyond 2^53 a bound is rounded, to either side. Here it is
rounded into the range, so that every answer validates; from -2^63 on, where it knows no way, a
bound is out of reach. Its constants beyond 2^53 are rounded too, and -2^63 among them overflows its
stack, which ends the process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

EXACT = 1 << 53
"""Doubles hold every integer up to here."""
_INT64 = 1 << 63
_LOWEST = -_INT64 + 1024
"""The first double above -2^63, of which llguidance has no absolute value."""
_BESIDE, _NARROW = 1e-9, 1e-6
"""Distance of an inclusive bound from an exclusive one, as a share of it, and the least range of
numbers that is still wide for it."""
INTEGER_FORMATS = {
    "int8": (-(1 << 7), (1 << 7) - 1), "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1), "int64": (-_INT64, _INT64 - 1),
    "uint8": (0, (1 << 8) - 1), "uint16": (0, (1 << 16) - 1), "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}  # fmt: skip
LOWER, UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_JSON_NUMBER = re.compile(r"-\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def tighten_bound(schema: dict[str, Any], keys: tuple[str, str], bound: int) -> None:
    """Set a bound of an integer in place, unless a tighter one is there.

    Args:
        schema: is changed.
        keys: ``LOWER`` or ``UPPER``.
        bound: the inclusive value.
    """
    (key, exclusive), sign = keys, 1 if keys == LOWER else -1
    other = read_number(schema, exclusive)
    if other is not None:
        if sign * other >= sign * bound:
            return
        del schema[exclusive]
    inclusive = read_number(schema, key)
    if inclusive is None or sign * inclusive < sign * bound:
        schema[key] = bound


def round_bounds(schema: dict[str, Any]) -> Iterator[str]:
    """Round bounds beyond 2^53 into the range, in place.

    Args:
        schema: is changed.

    Yields:
        bounds that are out of reach, by their keys; they are left out of the schema.
    """
    for keys, sign in ((LOWER, -1), (UPPER, 1)):
        given = [(value, key) for key in keys if (value := read_number(schema, key)) is not None]
        if all(-EXACT <= value <= EXACT for value, _ in given):
            continue
        # Of two that are equal the exclusive one, which is the last.
        bound, key = min(reversed(given), key=lambda pair: sign * pair[0])
        for _, other in given:
            del schema[other]
        if -EXACT <= bound <= EXACT:
            schema[key] = bound
            continue
        rounded = _round_inward(bound, sign, exclusive=key == keys[1])
        if rounded is None:
            yield key
        else:
            schema[keys[0]] = rounded
    lowest, highest = read_number(schema, LOWER[0]), read_number(schema, UPPER[0])
    if lowest is None or highest is None or min(abs(lowest), abs(highest)) <= EXACT:
        return
    if lowest > highest:
        del schema[LOWER[0]], schema[UPPER[0]]
        yield UPPER[0]  # no double lies between the two


def _round_inward(bound: float, sign: int, *, exclusive: bool) -> int | None:
    """The outermost inclusive bound within one beyond 2^53 that llguidance holds, if there is one.

    Args:
        bound: the value.
        sign: 1 for an upper bound, -1 for a lower one.
        exclusive: the value itself is outside.
    """
    if not math.isfinite(float_of(bound)):
        return None
    whole = int(bound) - (sign if exclusive else 0)
    if sign > 0 and whole == _INT64 - 1:
        return _INT64  # it takes the last integer below for this one
    if not -_INT64 <= whole < _INT64:
        return None
    rounded = int(float(whole))
    if sign * rounded > sign * whole:
        rounded = int(math.nextafter(float(whole), -sign * math.inf))
    if rounded < _LOWEST:
        return None if sign > 0 else _LOWEST
    return rounded


def close_bounds(schema: dict[str, Any]) -> None:
    """Exclusive bounds of decimals as inclusive ones beside them: llguidance takes ``7`` for a
    number above 7, and readers take ``7.00000000000000001`` for 7."""
    if schema.get("type") == "integer" or "multipleOf" in schema:
        return
    lowest, highest = read_number(schema, *LOWER), read_number(schema, *UPPER)
    if lowest is not None and highest is not None and highest - lowest < _NARROW:
        return
    for (inclusive, exclusive), sign in ((LOWER, 1), (UPPER, -1)):
        bound = read_number(schema, exclusive)
        if bound is None:
            continue
        del schema[exclusive]
        beside = round(bound + sign * max(1.0, abs(bound)) * _BESIDE, 9)
        other = read_number(schema, inclusive)
        if other is None or sign * other < sign * beside:
            schema[inclusive] = beside


def read_number(schema: Mapping[str, Any], *keys: str) -> float | None:
    """The first of the keys that holds a number."""
    for key in keys:
        value = schema.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return None


def has_inexact_number(value: Any) -> bool:
    """A constant is, or holds, a number beyond 2^53."""
    if isinstance(value, Mapping):
        return any(map(has_inexact_number, value.values()))
    if isinstance(value, list):
        return any(map(has_inexact_number, value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not -EXACT <= value <= EXACT


def has_fatal_number(value: Any) -> bool:
    """A schema holds -2^63 somewhere, where a reference could lead."""
    if isinstance(value, Mapping):
        return any(map(has_fatal_number, value.values()))
    if isinstance(value, list):
        return any(map(has_fatal_number, value))
    return isinstance(value, int | float) and float_of(value) == -float(_INT64)


def float_of(value: float) -> float:
    """A number as a double; those too large for one are infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def grammar_has_fatal_number(grammar: str) -> bool:
    """A Lark grammar with schemas inside (``%json``) holds -2^63 somewhere."""
    if "%json" not in grammar:
        return False
    return any(float(text) == -float(_INT64) for text in _JSON_NUMBER.findall(grammar))
