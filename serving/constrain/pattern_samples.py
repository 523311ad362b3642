"""Short texts that regular expressions match, by the tree of Python's own parser.

They are hints for the search of closing paths and nothing more: the grammar says what fits.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from re import _constants as ops  # type: ignore[attr-defined]  # no public name, stable since 3.11
from re import _parser  # type: ignore[attr-defined]
from typing import Any

MAX_SAMPLE_CHARS = 4096
_MAX_SAMPLES = 64
_LARK_PATTERN = re.compile(r"/((?:\\.|[^/\\\n])+)/")
_CLASS_SAMPLES = {ops.CATEGORY_DIGIT: "0", ops.CATEGORY_WORD: "a", ops.CATEGORY_SPACE: " "}
_FILLERS = "a0 -_.@é"
"""Tried for a class that names what it leaves out."""

_FORMATS = {"email": "a@b.cd", "uri": "a:b", "hostname": "a", "ipv4": "1.1.1.1"}
"""Texts of formats whose end a search by single bytes does not find for sure."""


def sample_pattern(pattern: str) -> str | None:
    """A short text that the pattern matches as a whole; None where Python's parser knows none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _parser.parse(pattern)
        return _sample_sequence(tree)[:MAX_SAMPLE_CHARS]
    except (re.error, RecursionError, OverflowError, ValueError):
        return None


def collect_patterns(schema: Any) -> Iterator[str]:
    """Patterns of all texts and names of properties in a JSON schema."""
    if isinstance(schema, Mapping):
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            yield pattern
        text = _FORMATS.get(str(schema.get("format")))
        if text is not None:
            yield re.escape(text)
        named = schema.get("patternProperties")
        if isinstance(named, Mapping):
            yield from named
        for item in schema.values():
            yield from collect_patterns(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from collect_patterns(item)


def sample_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """Samples of several patterns, in their order, each once."""
    samples = map(sample_pattern, dict.fromkeys(patterns[:_MAX_SAMPLES]))
    return tuple(dict.fromkeys(sample for sample in samples if sample))


def lark_patterns(grammar: str) -> list[str]:
    """Regular expressions between slashes in a Lark grammar."""
    return _LARK_PATTERN.findall(grammar)


def _sample_sequence(items: Any) -> str:
    text = ""
    for operator, argument in items:
        text += _sample_item(operator, argument)
        if len(text) > MAX_SAMPLE_CHARS:
            raise OverflowError
    return text


def _sample_item(operator: Any, argument: Any) -> str:
    if operator is ops.LITERAL:
        return chr(argument)
    if operator is ops.NOT_LITERAL:
        return next(sign for sign in _FILLERS if ord(sign) != argument)
    if operator is ops.IN:
        return _sample_class(argument)
    if operator is ops.ANY:
        return "a"
    if operator is ops.BRANCH:
        return min(map(_sample_sequence, argument[1]), key=len)
    if operator is ops.SUBPATTERN:
        return _sample_sequence(argument[3])
    if operator in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        least, _, item = argument
        if least > MAX_SAMPLE_CHARS:
            raise OverflowError
        return _sample_sequence(item) * least if least else ""
    if operator is ops.AT:
        return ""
    raise ValueError(operator)


def _sample_class(members: Any) -> str:
    """A sign of a class of signs."""
    if members[0][0] is ops.NEGATE:
        ranges = "".join(chr(value) for kind, value in members if kind is ops.LITERAL)
        return next((sign for sign in _FILLERS if sign not in ranges), "~")
    kind, value = members[0]
    if kind is ops.RANGE:
        return chr(value[0])
    if kind is ops.CATEGORY:
        return _CLASS_SAMPLES.get(value, "~")
    return chr(value)
