"""Small changes to a tree of lxml's HTML elements, which keep the text around an element."""

from __future__ import annotations

import re

from components.collect.extraction.tree.html_tree import Element

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Soft hyphen, zero-width space, word joiner, marks of direction, byte order mark: a reader sees
none of them."""
BACKSLASH = "\ufdd1"
"""Stands for a formula's backslash until the page is written: Markdown's writer would double it.
Unicode keeps it for such uses: no text has it."""


def word_set(text: str) -> frozenset[str]:
    """The words of ``text``, between its blanks."""
    return frozenset(text.split())


def clean_text(text: str) -> str:
    """``text`` as a reader sees it."""
    return xml_text(INVISIBLE.sub("", text))


def xml_text(text: str) -> str:
    """``text`` without what no tree can hold: control characters, halves of characters."""
    return _NOT_XML.sub("", text)


def class_names(element: Element) -> frozenset[str]:
    """Names in the element's ``class``, in lower case."""
    return frozenset((element.get("class") or "").lower().split())


def drop(element: Element) -> None:
    """Take the element out; what follows it stays, as does nothing of a tree's root."""
    if element.getparent() is not None:
        element.drop_tree()


def put_text(element: Element, text: str) -> None:
    """The element becomes ``text``, inline."""
    tail = element.tail
    element.clear()
    element.tag, element.text, element.tail = "span", xml_text(text), tail


def put_code(element: Element, text: str, language: str) -> None:
    """The element becomes a block of code, ``text`` character by character."""
    tail = element.tail
    element.clear()
    element.tag, element.tail = "pre", tail
    code = element.makeelement("code")
    code.text = xml_text(text)
    if language:
        code.set("class", f"language-{language}")
    element.append(code)


def is_inside(element: Element, root: Element) -> bool:
    """Whether the element still stands under ``root``: an edit may have taken it away."""
    return any(outer is root for outer in element.iterancestors())
