"""Pages that are Markdown already: front matter, comments and underlined headings."""

from __future__ import annotations

import re

from components.text.markdown_sections import lines_outside_fences

_FRONT_MATTER = re.compile(
    r"\ufeff?(---|\+\+\+)[ \t]*\n(.*?\n)?(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)
_MAX_FRONT_MATTER = 20_000
"""Characters within which it ends; a text that merely begins with a rule has no end of one."""
_TITLE = re.compile(
    r"""^title\s*[:=]\s*(?P<quote>["']?)(?P<title>.+?)(?P=quote)\s*$""", re.MULTILINE
)
_IS_FIELD = re.compile(r"^[\w-]+\s*[:=]", re.MULTILINE)
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+]\s|\d{1,9}[.)]\s|#|>|\||`{3}|~{3})|\s*$| {4}|\t")
"""Lines that no underline makes a heading of."""


def read_markdown(text: str) -> tuple[str, str]:
    """(title that its front matter names, the text in the form that extraction writes).

    Front matter and HTML comments go; a heading with a line under it becomes one with ``#``.
    """
    title = ""
    front = _FRONT_MATTER.match(text[:_MAX_FRONT_MATTER])
    if front and _IS_FIELD.search(front[2] or ""):
        named = _TITLE.search(front[2])
        title = named["title"].strip() if named else ""
        text = text[front.end() :]
    lines: list[str] = []
    in_comment = False
    for line, is_code in lines_outside_fences(text):
        if is_code and not in_comment:
            lines.append(line)
            continue
        shown, in_comment = _without_comments(line, in_comment)
        under = _UNDERLINE.match(shown)
        if under and lines and shown == line and not _NO_PARAGRAPH.match(lines[-1]):
            lines[-1] = f"{'#' if under[1][0] == '=' else '##'} {lines[-1].strip()}"
        elif shown.strip() or shown == line:
            lines.append(shown)
    return title, "\n".join(lines).strip("\n")


def _without_comments(line: str, in_comment: bool) -> tuple[str, bool]:
    """(the line's text outside ``<!-- -->``, whether a comment is open at its end)."""
    shown: list[str] = []
    at = 0
    while at < len(line):
        if in_comment:
            end = line.find("-->", at)
            if end < 0:
                return "".join(shown), True
            at, in_comment = end + 3, False
        else:
            begin = line.find("<!--", at)
            if begin < 0 or line.count("`", 0, begin) % 2:  # in a span of code
                shown.append(line[at:])
                break
            shown.append(line[at:begin])
            at, in_comment = begin + 4, True
    return "".join(shown), in_comment
