"""Normalisation of pages that are Markdown already: front matter, comments, underlined headings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.text.markdown_sections import lines_outside_fences

_FRONT_MATTER = re.compile(
    r"\ufeff?(---|\+\+\+)[ \t]*\n(.*?\n)?(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)
_MAX_FRONT_MATTER = 20_000
"""Characters within which front matter ends; a text that begins with a rule has no such end."""
_TITLE = re.compile(
    r"""^title\s*[:=]\s*(?P<quote>["']?)(?P<title>.+?)(?P=quote)\s*$""", re.MULTILINE
)
_DATE = re.compile(
    r"""^(?:date|published|pubdate|publishDate|created)\s*[:=]\s*["']?(?P<date>\d{4}-\d{2}-\d{2})""",
    re.MULTILINE | re.IGNORECASE,
)
_IS_FIELD = re.compile(r"^[\w-]+\s*[:=]", re.MULTILINE)
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r" {0,3}(?:[-*+]\s|\d{1,9}[.)]\s|#|>|\||`{3}|~{3})|\s*$| {4}|\t")
"""Lines that an underline does not turn into a heading."""


@dataclass(frozen=True)
class MarkdownPage:
    """Normalised Markdown, with what its front matter says."""

    text: str
    title: str = ""
    date: str = ""
    """As it is written there."""


def normalise_markdown(text: str) -> MarkdownPage:
    """Normalise Markdown as extraction writes it.

    Front matter and HTML comments are removed; an underlined heading becomes one with ``#``.
    """
    title = date = ""
    front_matter = _FRONT_MATTER.match(text[:_MAX_FRONT_MATTER])
    if front_matter and _IS_FIELD.search(front_matter[2] or ""):
        title_match = _TITLE.search(front_matter[2])
        title = title_match["title"].strip() if title_match else ""
        date_match = _DATE.search(front_matter[2])
        date = date_match["date"] if date_match else ""
        text = text[front_matter.end() :]
    lines: list[str] = []
    in_comment = False
    for line, is_code in lines_outside_fences(text):
        if is_code and not in_comment:
            lines.append(line)
            continue
        visible, in_comment = _strip_comments(line, in_comment)
        underline = _UNDERLINE.match(visible)
        if underline and lines and visible == line and not _NOT_A_PARAGRAPH.match(lines[-1]):
            lines[-1] = f"{'#' if underline[1][0] == '=' else '##'} {lines[-1].strip()}"
        elif visible.strip() or visible == line:
            lines.append(visible)
    return MarkdownPage("\n".join(lines).strip("\n"), title, date)


def _strip_comments(line: str, in_comment: bool) -> tuple[str, bool]:
    """Strip HTML comments from a line: (its text outside, True where one is open at its end)."""
    visible: list[str] = []
    index = 0
    while index < len(line):
        if in_comment:
            end = line.find("-->", index)
            if end < 0:
                return "".join(visible), True
            index, in_comment = end + 3, False
        else:
            begin = line.find("<!--", index)
            if begin < 0 or line.count("`", 0, begin) % 2:  # in a span of code
                visible.append(line[index:])
                break
            visible.append(line[index:begin])
            index, in_comment = begin + 4, True
    return "".join(visible), in_comment
