"""Headings and code of the Markdown that extraction writes, in lists and quotes too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_HEADING = re.compile(r" {0,3}#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"(?P<prefix>[> ]*)(?P<fence>`{3,}|~{3,})")


class Line(NamedTuple):
    """A line of Markdown, and what it is part of."""

    text: str
    part: Literal["prose", "fence", "code"]
    code: str = ""
    """The line without what stands before it for the list or quote around its block."""


def read_lines(markdown: str) -> Iterator[Line]:
    """All lines, fenced blocks told apart; one that nothing closes ends with the text."""
    fence = prefix = ""
    for line in markdown.split("\n"):
        mark = _FENCE.match(line)
        if not fence and mark:
            fence, prefix = mark["fence"], mark["prefix"]
            yield Line(line, "fence")
        elif not fence:
            yield Line(line, "prose")
        elif _is_closing(line, fence, prefix):
            fence = ""
            yield Line(line, "fence")
        else:
            yield Line(line, "code", _without(prefix, line))


def _is_closing(line: str, fence: str, prefix: str) -> bool:
    rest = _without(prefix, line).strip()
    return rest.startswith(fence) and not rest.strip(fence[0])


def _without(prefix: str, line: str) -> str:
    """The line behind as much of ``prefix`` as it has: an empty line of code has less."""
    for length in range(len(prefix), 0, -1):
        if line.startswith(prefix[:length]):
            return line[length:]
    return line


def outline(markdown: str) -> tuple[list[str], list[str]]:
    """(headings, fenced code without its fences) of a Markdown text."""
    headings: list[str] = []
    code: list[str] = []
    block: list[str] | None = None
    for line in read_lines(markdown):
        if line.part == "code" and block is not None:
            block.append(line.code)
        elif line.part == "fence" and block is None:
            block = []
        elif line.part == "fence" and block is not None:
            code.append("\n".join(block))
            block = None
        elif heading := _HEADING.match(line.text):
            headings.append(heading[1])
    if block is not None:
        code.append("\n".join(block))
    return headings, code
