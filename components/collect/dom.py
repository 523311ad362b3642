"""HTML as a tree (lxml: its parser mends broken pages, and walking its tree is quick)."""

from __future__ import annotations

from typing import Any

from lxml import etree

Element = Any
"""An lxml element. ``tag`` is a string for elements alone, not for comments."""


def parse_html(text: str) -> Element | None:
    """The document's root; None where there is nothing at all."""
    # Without `huge_tree`, what is nested deeper than 256 elements would be lost in silence. lxml's
    # own classes for HTML elements would cost a look-up in Python an element.
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        return etree.fromstring(text.encode(errors="replace"), parser=parser)
    except (etree.LxmlError, ValueError):
        return None
