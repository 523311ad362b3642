"""Structure of Markdown pages (headings, fenced code, paragraphs) and prose without markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([\w+-]*)")
# Bounds everywhere: what is opened and never closed would cost the square of a text's length.
_ROLE = re.compile(r":[a-zA-Z][\w+:-]{0,80}:`([^`]{1,2000})`")
_ROLE_TARGET = re.compile(r"\s*<[^<>]*>$")
_RST_LINK = re.compile(r"`([^`<>]{1,2000}?)\s{0,80}<[^<>`]{1,2000}>`_{0,2}")
_IMAGE = re.compile(r"!\[[^\]]{0,2000}\]\([^)\s]{0,2000}(?:\s[^)]{0,2000})?\)")
_LINK = re.compile(
    r"\[([^\]\[]{1,2000})\](?:\([^)\s]{0,2000}(?:\s[^)]{0,2000})?\)|\[[^\]]{0,2000}\])"
)
_CODE = re.compile(r"(`{1,8})(.{1,20000}?)\1_?", re.DOTALL)
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.{1,500}?)(?<=\S)\1(?!\w)")
_EMPHASIS = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]{1,2000}?)(?<=[^\s*])\*(?![\w*])")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!<>|~-])")
_SPACE = re.compile(r"\s+")


@dataclass
class Section:
    """A heading with what stands below it, up to the next heading of any level."""

    level: int
    heading: str
    fence: str | None = None
    """The first fenced block, if it stands before any paragraph: an API page's signature."""
    paragraphs: list[str] = field(default_factory=list)
    """Blocks of lines outside fences, as written."""


def lines_outside_fences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield (line, True inside a fenced block and at its fences)."""
    closing: str | None = None
    for line in text.split("\n"):
        opened = _FENCE.match(line)
        if closing is None and opened:
            closing = opened[1]
            yield line, True
        elif closing is not None:
            stripped = line.strip()
            if stripped.startswith(closing) and not stripped.strip(closing[0]):
                closing = None
            yield line, True
        else:
            yield line, False


def without_fences(text: str) -> str:
    """``text`` without its fenced code blocks."""
    return "\n".join(line for line, fenced in lines_outside_fences(text) if not fenced)


def split_sections(text: str) -> list[Section]:
    """Split a page into its sections, in order; text before the first heading is left out."""
    sections: list[Section] = []
    block: list[str] = []
    code: list[str] | None = None

    def close() -> None:
        if block and sections:
            sections[-1].paragraphs.append("\n".join(block))
        block.clear()

    for line, fenced in lines_outside_fences(text):
        if fenced:
            close()
            code = [*(code or []), line]
            continue
        if code is not None:
            if sections and sections[-1].fence is None and not sections[-1].paragraphs:
                sections[-1].fence = "\n".join(code[1:-1])
            code = None
        heading = _HEADING.match(line)
        if heading:
            close()
            sections.append(Section(len(heading[1]), strip_markup(heading[2])))
        elif line.strip():
            block.append(line)
        else:
            close()
    close()
    return sections


def strip_markup(text: str) -> str:
    """Reduce text to one line of prose, without Markdown and reStructuredText markup."""
    text = _ROLE.sub(lambda match: _role_text(match[1]), text)
    text = _RST_LINK.sub(r"\1", text)
    text = _IMAGE.sub("", text)
    text = _LINK.sub(r"\1", text)
    code_texts: list[str] = []

    def set_code_apart(match: re.Match[str]) -> str:
        code_texts.append(match[2].strip())
        return f"\0{len(code_texts) - 1}\0"

    text = _CODE.sub(
        set_code_apart, text
    )  # what stands in code is not markup: __init__, *args, <tag>
    text = _TAG.sub("", text)
    text = _STRONG.sub(r"\2", text)
    text = _EMPHASIS.sub(r"\1", text)
    text = _ESCAPED.sub(r"\1", text)
    text = re.sub(r"\0(\d+)\0", lambda match: code_texts[int(match[1])], text)
    return _SPACE.sub(" ", text).strip()


def _role_text(content: str) -> str:
    """The words a Sphinx role shows: ``~a.b.c`` is ``c``, ``text <target>`` is ``text``."""
    shown = _ROLE_TARGET.sub("", content) or content
    if shown.startswith("~"):
        shown = shown[1:].rpartition(".")[2]
    return shown.lstrip("!.")
