"""Markdown writer for a part of a page's tree: html-to-markdown over the repaired tree.

Links, images and colliding emphasis marks are left out; code is kept character by character.
"""

from __future__ import annotations

import re
from typing import Any

from html_to_markdown import ConversionOptions, PreprocessingOptions, convert
from lxml import etree

from components.collect.extraction.outline import read_markdown_lines
from components.collect.extraction.tree.block_structure import HEADINGS, restore_structure
from components.collect.extraction.tree.code_blocks import restore_code
from components.collect.extraction.tree.formulas import restore_delimited, restore_formulas
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.inline_marks import restore_inline, write_inline
from components.collect.extraction.tree.tree_edits import (
    BACKSLASH_MARK,
    TEXT_LENGTH,
    drop_element,
    is_inside,
)

_OPTIONS = ConversionOptions(
    autolinks=False,
    expand_abbreviations=False,
    extract_metadata=False,
    bullets="-",
    compact_tables=True,
    skip_images=True,
    include_blockquote_citations=False,
    highlight_style="none",
    hidden_content="all",  # hidden elements were dropped before, by their size
    preprocessing=PreprocessingOptions(enabled=False),
)
NON_TEXT_TAGS = (
    *("script", "style", "link", "meta", "head", "title", "svg", "canvas", "audio", "video"),
    *("iframe", "object", "embed", "map", "select", "option", "datalist", "textarea", "input"),
    *("progress", "meter", "img", "picture", "track", "source"),
)
_SMALL_SHARE = 0.4
"""Share of the part's text above which a hidden or set-apart element is the text itself: shown by
a script, in an odd theme or marked by mistake."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SET_APART: Any = etree.XPath(
    './/*[@hidden or @aria-hidden="true" or @style or self::nav or self::footer or self::menu or '
    'self::dialog or self::button or self::template or @role="navigation" or @role="search"]'
)
_APART_TAGS = ("nav", "footer", "menu", "dialog", "button")


def repair_tree(root: Element) -> None:
    """Repair a tree into plain HTML: formulas, code, block structure and inline marks."""
    restore_formulas(root)
    restore_code(root)
    restore_delimited(root)
    restore_structure(root)
    restore_inline(root)


def write_markdown(element: Element, *, is_chosen: bool = False) -> str:
    """Write a repaired element as Markdown, blocks separated by an empty line.

    Args:
        element: A part of the page, which is changed.
        is_chosen: It holds main text alone, so that menus and hidden elements stay too: a tab
            panel is hidden until a reader opens it.
    """
    _drop_non_text(element, is_chosen=is_chosen)
    write_inline(element)
    element.tail = None
    html = etree.tostring(element, encoding="unicode", method="html")
    return tidy_markdown(convert(html, _OPTIONS).content or "").replace(BACKSLASH_MARK, "\\")


def _drop_non_text(element: Element, *, is_chosen: bool) -> None:
    for unread in list(element.iter(*NON_TEXT_TAGS)):
        if unread is not element and is_inside(unread, element):
            drop_element(unread)
    least = _SMALL_SHARE * TEXT_LENGTH(element)
    for part in _SET_APART(element):
        is_template = part.tag == "template" and part.get("shadowrootmode") is None
        if is_template or (not is_chosen and _is_set_apart(part) and TEXT_LENGTH(part) <= least):
            drop_element(part)
    for wrapper in list(element.iter("form", "fieldset", "noscript", "template")):
        wrapper.tag = "div"
        wrapper.attrib.clear()
    etree.strip_tags(element, "button", "marquee", "label", "legend")
    for placed in element.iter(*_APART_TAGS):
        placed.tag = "div"


def _is_set_apart(part: Element) -> bool:
    """True for menus, dialogs and hidden elements."""
    if part.tag == "button":  # a heading that opens its section is a button too
        return not any(outer.tag in HEADINGS for outer in part.iterancestors())
    return bool(
        part.tag in _APART_TAGS
        or part.get("hidden") is not None
        or part.get("aria-hidden") == "true"
        or part.get("role") in ("navigation", "search")
        or _HIDDEN.search(part.get("style") or "")
    )


def tidy_markdown(markdown: str) -> str:
    """Remove blanks at line ends and double empty lines from Markdown, outside of code."""
    lines: list[str] = []
    for line in read_markdown_lines(markdown):
        text = line.text.rstrip() if line.part == "prose" else line.text
        if text or line.part == "code" or (lines and lines[-1]):
            lines.append(text)
    return "\n".join(lines).strip("\n")
