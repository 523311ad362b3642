"""A part of a page's tree as Markdown, by html-to-markdown over the mended tree.

Links, images and marks of emphasis that collide are left out; code is kept character by character.
"""

from __future__ import annotations

import re
from typing import Any

from html_to_markdown import ConversionOptions, PreprocessingOptions, convert
from lxml import etree

from components.collect.extraction.outline import read_lines
from components.collect.extraction.tree.block_structure import HEADINGS, restore_structure
from components.collect.extraction.tree.code_blocks import restore_code
from components.collect.extraction.tree.formulas import restore_delimited, restore_formulas
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.inline_marks import restore_inline, write_inline
from components.collect.extraction.tree.tree_edits import BACKSLASH, drop, is_inside

_OPTIONS = ConversionOptions(
    autolinks=False,
    expand_abbreviations=False,
    extract_metadata=False,
    bullets="-",
    compact_tables=True,
    skip_images=True,
    include_blockquote_citations=False,
    highlight_style="none",
    hidden_content="all",  # what is hidden was judged before, by its size
    preprocessing=PreprocessingOptions(enabled=False),
)
NEVER_TEXT = (
    *("script", "style", "link", "meta", "head", "title", "svg", "canvas", "audio", "video"),
    *("iframe", "object", "embed", "map", "select", "option", "datalist", "textarea", "input"),
    *("progress", "meter", "img", "picture", "track", "source"),
)
_SMALL = 0.4
"""Of the part's text: what is marked as hidden, or as no text, and holds more is the text itself,
shown by a script, in an odd theme or by mistake."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_APART: Any = etree.XPath(
    './/*[@hidden or @aria-hidden="true" or @style or self::nav or self::footer or self::menu or '
    'self::dialog or self::button or self::template or @role="navigation" or @role="search"]'
)
_PLACED = ("nav", "footer", "menu", "dialog", "button")
_LENGTH: Any = etree.XPath("string-length(.)")


def repair_tree(root: Element) -> None:
    """Say in plain HTML what the tree means: formulas, code, structure, signs inside a line."""
    restore_formulas(root)
    restore_code(root)
    restore_delimited(root)
    restore_structure(root)
    restore_inline(root)


def write_markdown(element: Element, *, is_chosen: bool = False) -> str:
    """A repaired element's content as Markdown, blocks set apart by an empty line.

    Args:
        element: A page's part, which is changed.
        is_chosen: It holds nothing but text by now, so that menus and what is hidden stay too: an
            open panel is hidden until a reader asks for it.
    """
    _leave_out(element, is_chosen=is_chosen)
    write_inline(element)
    element.tail = None
    html = etree.tostring(element, encoding="unicode", method="html")
    return tidy(convert(html, _OPTIONS).content or "").replace(BACKSLASH, "\\")


def _leave_out(element: Element, *, is_chosen: bool) -> None:
    for unread in list(element.iter(*NEVER_TEXT)):
        if unread is not element and is_inside(unread, element):
            drop(unread)
    least = _SMALL * _LENGTH(element)
    for part in _APART(element):
        is_template = part.tag == "template" and part.get("shadowrootmode") is None
        if is_template or (not is_chosen and _is_apart(part) and _LENGTH(part) <= least):
            drop(part)
    for wrapper in list(element.iter("form", "fieldset", "noscript", "template")):
        wrapper.tag = "div"
        wrapper.attrib.clear()
    etree.strip_tags(element, "button", "marquee", "label", "legend")
    for placed in element.iter(*_PLACED):
        placed.tag = "div"


def _is_apart(part: Element) -> bool:
    """Menus, dialogs, and what a reader does not see."""
    if part.tag == "button":  # a heading that opens its section is a button too
        return not any(outer.tag in HEADINGS for outer in part.iterancestors())
    return bool(
        part.tag in _PLACED
        or part.get("hidden") is not None
        or part.get("aria-hidden") == "true"
        or part.get("role") in ("navigation", "search")
        or _HIDDEN.search(part.get("style") or "")
    )


def tidy(markdown: str) -> str:
    """Markdown without blanks at the ends of lines and double empty lines; code as it is."""
    lines: list[str] = []
    for line in read_lines(markdown):
        text = line.text.rstrip() if line.part == "prose" else line.text
        if text or line.part == "code" or (lines and lines[-1]):
            lines.append(text)
    return "\n".join(lines).strip("\n")
