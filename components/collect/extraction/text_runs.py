"""A page's text as runs: the words of each block that stand in no block inside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from components.collect.extraction.markdown_writer import NEVER_TEXT
from components.collect.extraction.tree.html_tree import Element

_BLOCKS = (
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"),
    *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "li", "listing", "main"),
    *("menu", "nav", "ol", "p", "pre", "search", "section", "summary", "table", "tbody", "td"),
    *("tfoot", "th", "thead", "tr", "ul", "xmp"),
)
_UNREAD = frozenset({*NEVER_TEXT, "template"})
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_JOINERS = re.compile("[\u200c\u200d]")
"""Zero-width joiners, which some programs drop and others keep."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word; in scripts that set no blanks between words a character stands for one."""


@dataclass(frozen=True)
class Run:
    """Text of one block, without that of blocks inside it."""

    element: Element
    text: str
    words: tuple[str, ...]
    link_share: float
    """Of its characters, those that stand in links."""


def words_of(text: str) -> tuple[str, ...]:
    """The words of ``text``, in lower case."""
    return tuple(_WORD.findall(_JOINERS.sub("", text.lower())))


def join_runs(runs: Iterable[Run]) -> str:
    """The texts of runs, a line each."""
    return "\n".join(" ".join(run.text.split()) for run in runs)


def read_runs(body: Element) -> list[Run]:
    """All runs under ``body`` that hold a word, in the page's order."""
    around = set()
    """Elements that hold a block, or what is never text: their pieces are gathered one by one."""
    for element in body.iter(*_BLOCKS, *_UNREAD):
        for outer in element.iterancestors():
            if outer in around:
                break
            around.add(outer)
    unread: set[Element] = set()
    for element in body.iter(*_UNREAD):
        if element.tag != "template" or element.get("shadowrootmode") is None:
            unread.update(element.iter())
    linked: set[Element] = set()
    for link in body.iter("a"):
        linked.update(link.iter())
    runs = []
    for element in body.iter():
        is_block = element in around or element.tag in _BLOCKS
        if not is_block or element in unread or element.tag in _UNREAD:
            continue
        pieces = _pieces(element, around) if element in around else element.itertext()
        text = _joined(element, pieces)
        words = words_of(text)
        if words:
            share = 1.0 if element in linked else _link_share(element, text, around)
            runs.append(Run(element, text, words, share))
    return runs


def _joined(element: Element, pieces: Iterator[str]) -> str:
    # A line break parts words as a blank does; `itertext` has no word of it.
    has_break = next(element.iter("br"), None) is not None
    return (" " if has_break else "").join(pieces)


def _pieces(element: Element, around: set[Element]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child not in around and child.tag not in _BLOCKS and child.tag not in _UNREAD:
            yield from child.itertext()
        else:
            yield " "
        yield child.tail or ""


def _link_share(element: Element, text: str, around: set[Element]) -> float:
    """The share of an element's own text that stands in links inside it."""
    parts = [element]
    if element in around:
        parts = [c for c in element if c not in around and c.tag not in _BLOCKS]
    links = (link for part in parts for link in part.iter("a"))
    return min(sum(len("".join(link.itertext())) for link in links) / len(text), 1.0)
