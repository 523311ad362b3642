"""HTML as a tree (lxml: its parser mends broken pages, and walking its tree is quick)."""

from __future__ import annotations

from typing import Any

from lxml import etree, html

Element = Any
"""An lxml element. ``tag`` is a string for elements alone, not for comments."""


def parse_html(text: str) -> Element | None:
    """The document's root; None where there is nothing at all."""
    # Without `huge_tree`, what is nested deeper than 256 elements would be lost in silence.
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        return html.document_fromstring(text.encode(errors="replace"), parser=parser)
    except (etree.ParserError, ValueError):
        return None
