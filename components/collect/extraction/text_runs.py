"""Text blocks of a page: for each block element, its own words, without those of nested blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from components.collect.extraction.markdown_writer import NON_TEXT_TAGS
from components.collect.extraction.tree.html_tree import Element

_BLOCKS = (
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"),
    *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "li", "listing", "main"),
    *("menu", "nav", "ol", "p", "pre", "search", "section", "summary", "table", "tbody", "td"),
    *("tfoot", "th", "thead", "tr", "ul", "xmp"),
)
_UNREAD_TAGS = frozenset({*NON_TEXT_TAGS, "template"})
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_JOINERS = re.compile("[\u200c\u200d]")
"""Zero-width joiners, which some extractors drop and others keep."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word; in scripts without blanks between words, a single character."""


@dataclass(frozen=True)
class TextBlock:
    """Own text of one block element, without that of nested blocks."""

    element: Element
    text: str
    words: tuple[str, ...]
    link_share: float
    """Share of its characters that are in links."""


def words_of(text: str) -> tuple[str, ...]:
    """Words of ``text``, in lower case."""
    return tuple(_WORD.findall(_JOINERS.sub("", text.lower())))


def join_block_texts(blocks: Iterable[TextBlock]) -> str:
    """Texts of blocks, a line each."""
    return "\n".join(" ".join(block.text.split()) for block in blocks)


def read_text_blocks(body: Element) -> list[TextBlock]:
    """Read all text blocks under ``body`` that hold a word, in document order."""
    # Elements that hold a block, or what is never text: their pieces are gathered one by one.
    block_ancestors = set()
    for element in body.iter(*_BLOCKS, *_UNREAD_TAGS):
        for outer in element.iterancestors():
            if outer in block_ancestors:
                break
            block_ancestors.add(outer)
    unread: set[Element] = set()
    for element in body.iter(*_UNREAD_TAGS):
        if element.tag != "template" or element.get("shadowrootmode") is None:
            unread.update(element.iter())
    linked: set[Element] = set()
    for link in body.iter("a"):
        linked.update(link.iter())
    blocks = []
    for element in body.iter():
        is_block = element in block_ancestors or element.tag in _BLOCKS
        if not is_block or element in unread or element.tag in _UNREAD_TAGS:
            continue
        pieces = (
            _own_pieces(element, block_ancestors)
            if element in block_ancestors
            else element.itertext()
        )
        text = _join_pieces(element, pieces)
        words = words_of(text)
        if words:
            share = 1.0 if element in linked else _link_share(element, text, block_ancestors)
            blocks.append(TextBlock(element, text, words, share))
    return blocks


def _join_pieces(element: Element, pieces: Iterator[str]) -> str:
    # A line break separates words as a blank does, and `itertext` does not yield one.
    has_break = next(element.iter("br"), None) is not None
    return (" " if has_break else "").join(pieces)


def _own_pieces(element: Element, block_ancestors: set[Element]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if (
            child not in block_ancestors
            and child.tag not in _BLOCKS
            and child.tag not in _UNREAD_TAGS
        ):
            yield from child.itertext()
        else:
            yield " "
        yield child.tail or ""


def _link_share(element: Element, text: str, block_ancestors: set[Element]) -> float:
    """Share of an element's own text that is in links."""
    parts = [element]
    if element in block_ancestors:
        parts = [c for c in element if c not in block_ancestors and c.tag not in _BLOCKS]
    links = (link for part in parts for link in part.iter("a"))
    return min(sum(len("".join(link.itertext())) for link in links) / len(text), 1.0)
