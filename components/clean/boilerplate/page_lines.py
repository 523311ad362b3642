"""Lines of pages as the boilerplate classifier reads them."""

from __future__ import annotations

import re

TEXT, BOILERPLATE = "text", "boilerplate"
LABELS = (TEXT, BOILERPLATE)

_MARK = re.compile(r"([^\w\s])")
_DIGITS = re.compile(r"\d")
_LIST_OR_HEADING = re.compile(r"^(?:#{1,6}|[-*+>•])\s+")
_FENCE = re.compile(r"^(?:`{3,}|~{3,})")


def content_lines(text: str) -> list[str]:
    """Lines that hold a letter or digit, without heading and list marks, in order."""
    lines: list[str] = []
    for line in text.split("\n"):
        stripped = _LIST_OR_HEADING.sub("", line.strip())
        if stripped and not _FENCE.match(stripped) and any(map(str.isalnum, stripped)):
            lines.append(stripped)
    return lines


def line_features(line: str) -> str:
    """A line for fastText: lower case, marks apart, digits alike, at most 400 characters."""
    spaced = _MARK.sub(r" \1 ", _DIGITS.sub("0", line.lower()[:400]))
    # An underscore is a letter to \w, so a spelled-out __label__ would pass as one.
    return " ".join(spaced.replace("__label__", "label").split())
