"""HTML in rows, told from Markdown and plain text by the row and by the other rows of its file.

A document, or a text whose most stands in elements, is HTML by itself. A text with a line break or
an entity in it is HTML where the file's rows are: a comment of a forum beside other comments, and
not a sentence about tags.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from html.entities import html5

from components.collect.files.file_source import PlacedResult
from components.collect.warc.page_shards import WebPage
from components.collect.web.media_types import HTML, MARKDOWN, media_type_of

_HTML_FIELDS = frozenset(
    {"html", "raw_html", "html_content", "content_html", "body_html", "page_html"}
)
_MARKDOWN_FIELDS = frozenset({"markdown", "md"})
_JUDGED_CHARS = 65536
"""Characters of a row that it is judged by."""
_DOCUMENT_START = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTES = r"(?:\s+[\w:@.-]+(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+))?)*\s*/?>"
_BLOCKS = (
    "p|div|h[1-6]|article|section|main|header|footer|table|tbody|thead|tr|td|th|ul|ol|li|dl|dt|dd|"
    "blockquote|pre|figure|form|center|br|hr"
)
_INLINE = "a|b|i|u|s|em|strong|span|font|img|code|sub|sup|small|big|tt|kbd|del|ins|strike|cite|q"
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCKS}){_ATTRIBUTES}", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_BLOCKS}|{_INLINE}){_ATTRIBUTES}", re.IGNORECASE)
_FRAGMENT_START = re.compile(rf"\s*<(?:{_BLOCKS}|{_INLINE}){_ATTRIBUTES}", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_CODE_BLOCK = re.compile(r"<pre\b(?:(?!<pre\b).)*?</pre\s*>", re.IGNORECASE | re.DOTALL)
_MARKDOWN_CODE = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)|`[^`\n]+`", re.M | re.S)
_ENCLOSED = re.compile(
    r"<(p|h[1-6]|li|td|th|dt|dd|blockquote)\b[^<>]*>"
    r"(?:(?!\n[ \t]*\n|<(?:p|h[1-6]|li|td|th|dt|dd|blockquote)\b).)*?</\1\s*>",
    re.IGNORECASE | re.DOTALL,
)
"""Element of text without a blank line, behind which Markdown would begin again (CommonMark)."""
_MARKDOWN = re.compile(
    r"^(?:#{1,6} |```|~~~|[-*+] |> |\d{1,3}\. |\|.*\|[ \t]*$)|\[[^\]\[\n]{1,300}\]\([^)\s]|\*\*\w",
    re.MULTILINE,
)
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_PARAGRAPH = re.compile(r"<(?:p|pre|div|li|td)\b", re.IGNORECASE)
_BARE_LINE_SHARE = 0.5
"""Share of lines without a tag above which a text is Markdown with some HTML in it."""
_ENCLOSED_SHARE = 0.5
"""Share of a text that stands in elements from which it is HTML by itself."""
_FEW_HTML_SHARE = 0.05
"""Share of rows with blocks, some HTML by itself, from which those with less of it are HTML, too:
of short comments many are a paragraph without any tag."""
_MOST_HTML_SHARE = 0.5
_JUDGED_ROWS, _JUDGED_BYTES = 500, 16 << 20
"""First rows of a file by which its other rows are judged."""


class HtmlEvidence(IntEnum):
    """Strength of a text's signs of HTML."""

    MARKDOWN = -1
    """Signs of Markdown outweigh them."""
    NONE = 0
    WEAK = 1
    """Entities, or tags in a line."""
    LIKELY = 2
    """Tags of blocks between words."""
    SURE = 3


def judge_html(text: str, field: str = "") -> HtmlEvidence:
    """Judge a text by itself.

    Args:
        text: The text.
        field: Name of its field.
    """
    head = text[:_JUDGED_CHARS]
    if field in _MARKDOWN_FIELDS:
        return HtmlEvidence.NONE
    if field in _HTML_FIELDS:
        return HtmlEvidence.SURE if "<" in text or _find_entity(head) else HtmlEvidence.NONE
    if "<" not in head and "&" not in head:
        return HtmlEvidence.MARKDOWN if _MARKDOWN.search(head) else HtmlEvidence.NONE
    if _DOCUMENT_START.match(head):
        return HtmlEvidence.SURE
    prose = _CODE_BLOCK.sub("<br>", _MARKDOWN_CODE.sub("", head))
    enclosed = [match[0] for match in _ENCLOSED.finditer(prose)]
    if _MARKDOWN.search(_ENCLOSED.sub("", prose)):
        return HtmlEvidence.MARKDOWN
    blocks = sum(not _is_mentioned(prose, tag) for tag in _BLOCK_TAG.finditer(prose))
    has_entity = _find_entity(prose)
    if not blocks:
        is_fragment = _FRAGMENT_START.match(prose) and prose.rstrip().endswith(">")
        if is_fragment and _bare_line_share(prose) <= _BARE_LINE_SHARE:
            return HtmlEvidence.SURE
        return HtmlEvidence.WEAK if has_entity or _TAG.search(prose) else HtmlEvidence.NONE
    whole = len(_TAG.sub("", prose).strip())
    if len(_TAG.sub("", "".join(enclosed))) >= _ENCLOSED_SHARE * whole:
        return HtmlEvidence.SURE
    if _bare_line_share(prose) > _BARE_LINE_SHARE:
        return HtmlEvidence.WEAK
    if _FRAGMENT_START.match(prose) and (blocks > 1 or prose.rstrip().endswith(">")):
        return HtmlEvidence.SURE
    return HtmlEvidence.SURE if blocks > 1 and has_entity else HtmlEvidence.LIKELY


def keep_blank_lines(text: str) -> str:
    """HTML whose blank lines part paragraphs, where no element does: as weblogs store texts."""
    if _DOCUMENT_START.match(text[:_JUDGED_CHARS]) or _PARAGRAPH.search(text):
        return text
    return _BLANK_LINE.sub("\n<p>", text.strip())


def judge_by_file(results: Iterator[PlacedResult]) -> Iterator[PlacedResult]:
    """Read rows that may be HTML as HTML, where the first rows of the file are."""
    ahead = _LookAhead([])
    try:
        for result in results:
            ahead.results.append(result)
            ahead.size += len(result[1].body) if isinstance(result[1], WebPage) else 0
            if len(ahead.results) >= _JUDGED_ROWS or ahead.size >= _JUDGED_BYTES:
                break
    except Exception:
        yield from ahead.convert_rows()
        raise
    is_html = ahead.is_html()
    yield from ahead.convert_rows()
    for place, page in results:
        yield place, _convert_row(page) if is_html and isinstance(page, WebPage) else page


@dataclass
class _LookAhead:
    """First results of a file."""

    results: list[PlacedResult]
    size: int = 0

    def is_html(self) -> bool:
        """True where the rows' texts are HTML, if not each."""
        evidence = [_evidence_of(page) for _, page in self.results if isinstance(page, WebPage)]
        sure = evidence.count(HtmlEvidence.SURE)
        likely = sure + evidence.count(HtmlEvidence.LIKELY)
        if likely and likely >= _MOST_HTML_SHARE * len(evidence):
            return True
        is_some = sure > 0 and likely > 1 and likely >= _FEW_HTML_SHARE * len(evidence)
        return is_some and likely > evidence.count(HtmlEvidence.MARKDOWN)

    def convert_rows(self) -> Iterator[PlacedResult]:
        """Convert the results, if the file is HTML."""
        is_html = self.is_html()
        for place, page in self.results:
            yield place, _convert_row(page) if is_html and isinstance(page, WebPage) else page


def _evidence_of(page: WebPage) -> HtmlEvidence:
    if media_type_of(page.content_type) == HTML:
        return HtmlEvidence.SURE
    return judge_html(page.body[: 4 * _JUDGED_CHARS].decode(errors="replace"))


def _convert_row(page: WebPage) -> WebPage:
    """Page as HTML, if it has any sign of it."""
    if media_type_of(page.content_type) != MARKDOWN:
        return page
    if _evidence_of(page) < HtmlEvidence.WEAK:
        return page
    body = keep_blank_lines(page.body.decode(errors="replace")).encode()
    digest = hashlib.sha256(body).hexdigest()
    return replace(page, body=body, digest=digest, content_type=f"{HTML}; charset=utf-8")


def _is_mentioned(text: str, tag: re.Match[str]) -> bool:
    """True for a tag that a sentence speaks of: between blanks or quotation marks."""
    before = text[tag.start() - 1 : tag.start()] if tag.start() else "\n"
    after = text[tag.end() : tag.end() + 1] or "\n"
    return before in " (\"'" and after in " ,.;:)?!\"'"


def _bare_line_share(prose: str) -> float:
    lines = [line for line in prose.splitlines() if line.strip()]
    return sum(_TAG.search(line) is None for line in lines) / max(1, len(lines))


def _find_entity(text: str) -> bool:
    return any(match[0][1] == "#" or match[0][1:] in html5 for match in _ENTITY.finditer(text))
