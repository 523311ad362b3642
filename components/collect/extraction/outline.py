"""Outline of extracted Markdown: its headings and code blocks, also inside lists and quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_HEADING = re.compile(r" {0,3}#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"(?P<prefix>[> ]*)(?P<fence>`{3,}|~{3,})")


class MarkdownLine(NamedTuple):
    """A line of Markdown with the part that it belongs to."""

    text: str
    part: Literal["prose", "fence", "code"]
    code: str = ""
    """The line of code without the prefix of a list or quote around its block."""


def read_markdown_lines(markdown: str) -> Iterator[MarkdownLine]:
    """Read lines with fenced blocks marked; an unclosed block ends with the text."""
    fence = prefix = ""
    for line in markdown.split("\n"):
        mark = _FENCE.match(line)
        if not fence and mark:
            fence, prefix = mark["fence"], mark["prefix"]
            yield MarkdownLine(line, "fence")
        elif not fence:
            yield MarkdownLine(line, "prose")
        elif _is_closing(line, fence, prefix):
            fence = ""
            yield MarkdownLine(line, "fence")
        else:
            yield MarkdownLine(line, "code", _strip_prefix(prefix, line))


def _is_closing(line: str, fence: str, prefix: str) -> bool:
    rest = _strip_prefix(prefix, line).strip()
    return rest.startswith(fence) and not rest.strip(fence[0])


def _strip_prefix(prefix: str, line: str) -> str:
    """Line without as much of ``prefix`` as it has: an empty line of code has less."""
    for length in range(len(prefix), 0, -1):
        if line.startswith(prefix[:length]):
            return line[length:]
    return line


def read_outline(markdown: str) -> tuple[list[str], list[str]]:
    """Read (headings, code blocks without their fences) of a Markdown text."""
    headings: list[str] = []
    code: list[str] = []
    block: list[str] | None = None
    for line in read_markdown_lines(markdown):
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
