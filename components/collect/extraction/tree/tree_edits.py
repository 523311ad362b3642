"""Edits of a tree of lxml HTML elements that keep the text around an element."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element

TEXT_LENGTH: Any = etree.XPath("string-length(.)")
"""Characters of an element's text, nested elements included."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Invisible characters: soft hyphen, zero-width space, word joiner, direction marks, byte order
mark."""
BACKSLASH_MARK = "\ufdd1"
"""Placeholder of a formula's backslash until the page is written, as the Markdown writer would
double it. A noncharacter that Unicode reserves for internal use: no text holds it."""


def class_test(name: str) -> str:
    """XPath condition for elements that have ``name`` among their class names."""
    return f'contains(concat(" ", normalize-space(@class), " "), " {name} ")'


def word_set(text: str) -> frozenset[str]:
    """Set of the blank-separated words of ``text``."""
    return frozenset(text.split())


def clean_text(text: str) -> str:
    """``text`` without invisible characters."""
    return xml_text(INVISIBLE.sub("", text))


def xml_text(text: str) -> str:
    """``text`` without characters that no tree can hold: controls and surrogates."""
    return _NOT_XML.sub("", text)


def class_names(element: Element) -> frozenset[str]:
    """Class names of an element, in lower case."""
    return frozenset((element.get("class") or "").lower().split())


def drop_element(element: Element) -> None:
    """Drop an element with its content; the text behind it stays. A root stays too."""
    if element.getparent() is not None:
        element.drop_tree()


def replace_with_text(element: Element, text: str) -> None:
    """Replace an element by ``text``, inline."""
    tail = element.tail
    element.clear()
    element.tag, element.text, element.tail = "span", xml_text(text), tail


def replace_with_code(element: Element, text: str, language: str) -> None:
    """Replace an element by a code block.

    Args:
        element: The element, changed in place.
        text: The code, kept character by character.
        language: Its language; empty for none.
    """
    tail = element.tail
    element.clear()
    element.tag, element.tail = "pre", tail
    code = element.makeelement("code")
    code.text = xml_text(text)
    if language:
        code.set("class", f"language-{language}")
    element.append(code)


def is_inside(element: Element, root: Element) -> bool:
    """True where an element is still under ``root``: an earlier edit may have dropped it."""
    return any(outer is root for outer in element.iterancestors())
