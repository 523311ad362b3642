"""Repair of block structure: headings, lists, tables and definitions as plain HTML."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import (
    class_names,
    drop_element,
    is_inside,
    replace_with_code,
    replace_with_text,
)

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_LISTS = ("ul", "ol", "menu", "dir")
_ANCHOR_TEXT = re.compile(
    r"[\s#¶§🔗\[\]|]*(?:edit|edit source|link|copy link|permalink)?[\s\[\]]*", re.IGNORECASE
)

_EDIT_LINKS: Any = etree.XPath(
    './/*[contains(@class, "mw-editsection") or contains(@class, "sl-anchor-link")]'
)
ADMONITION = re.compile(
    r"admonition|note|warning|tip|caution|danger|important|alert|callout", re.IGNORECASE
)
_TABLE_PARTS = ("caption", "colgroup", "thead", "tbody", "tfoot", "tr", "td", "th")
_MAX_SPARSITY = 8
"""Grid cells for each real cell, at most: Markdown fills every row up to the longest."""
_LAYOUT_CHARS = 1_000
"""Length of text in several blocks above which a cell is a column of the page, not a value."""
_SIGNATURES: Any = etree.XPath('.//dt[contains(concat(" ", @class, " "), " sig ")]')


def restore_structure(root: Element) -> None:
    """Repair headings, lists, tables and signatures under ``root``."""
    for edit_link in [*_EDIT_LINKS(root)]:
        if is_inside(edit_link, root):
            drop_element(edit_link)
    for heading in list(root.iter(*HEADINGS)):
        _restore_heading(heading)
    for box in list(root.iter("input")):
        if box.get("type") == "checkbox" and any(e.tag == "li" for e in box.iterancestors()):
            replace_with_text(box, "[x] " if box.get("checked") is not None else "[ ] ")
    for aside in root.iter("aside"):
        if ADMONITION.search(aside.get("class") or ""):
            aside.tag = "div"
    for footer in list(root.iter("footer")):
        if any(outer.tag == "blockquote" for outer in footer.iterancestors()):
            footer.tag = "p"
    for summary in root.iter("summary"):
        if next(summary.iter(*HEADINGS), None) is not None:
            summary.tag = "div"  # else Markdown would have heading marks inside a bold line
    for term in _SIGNATURES(root):
        _restore_signature(term)
    _restore_lists(root)
    for table in reversed(list(root.iter("table"))):  # an inner one first
        _restore_table(table)


def _restore_heading(heading: Element) -> None:
    """Reduce a heading to its words on one line: no anchor sign, no button around it."""
    for link in list(heading.iter("a", "button")):
        if _ANCHOR_TEXT.fullmatch(link.text_content()) and is_inside(link, heading):
            drop_element(link)
    wrappers = ("button", "summary", "div", "p", "br", *HEADINGS)
    for wrapper in heading.iterdescendants(*wrappers):
        wrapper.tail = " " + (wrapper.tail or "")
    etree.strip_tags(heading, *wrappers)


def _restore_signature(term: Element) -> None:
    """Turn Sphinx's ``<dt class="sig" id="json.dumps">`` into a heading and code."""
    language = "python" if "py" in class_names(term) else ""
    for link in list(term.iter("a")):
        if "headerlink" in class_names(link):
            drop_element(link)
    above = sum(1 for outer in term.iterancestors("dd"))
    signature = " ".join(term.text_content().split())
    name = term.get("id") or ""
    if name:
        heading = term.makeelement(f"h{min(2 + above, 6)}")
        heading.text = name
        term.addprevious(heading)
    replace_with_code(term, signature, language)


def _restore_lists(root: Element) -> None:
    for item in list(root.iter("li")):
        parent = item.getparent()
        if parent is not None and parent.tag not in _LISTS:
            _restore_item(item, parent, root)
    for outer in list(root.iter("ul", "ol")):
        _nest_lists(outer)
    for ordered in list(root.iter("ol")):
        _restore_numbering(ordered)


def _restore_item(item: Element, parent: Element, root: Element) -> None:
    """Repair an item in a wrapper inside its list, or in no list at all."""
    grandparent = parent.getparent()
    if (
        parent is not root
        and grandparent is not None
        and grandparent.tag in _LISTS
        and parent.tag != "li"
    ):
        parent.drop_tag()
        return
    previous = item.getprevious()
    if (
        previous is not None
        and previous.tag == "ul"
        and previous.get("data-made")
        and not previous.tail
    ):
        made_list = previous
    else:
        made_list = item.makeelement("ul", {"data-made": "1"})
        item.addprevious(made_list)
    made_list.tail, item.tail = (item.tail or "").strip() or None, None
    made_list.append(item)


def _nest_lists(outer: Element) -> None:
    """Move a list that stands between items into the item before it."""
    item = None
    for child in list(outer):
        if child.tag == "li":
            item = child
        elif child.tag in ("ul", "ol") and item is not None:
            child.tail = None
            item.append(child)


def _restore_numbering(ordered: Element) -> None:
    """Split an ordered list where its numbers do not count up by one.

    Markdown numbers a list by its first item, and has neither ``value`` nor ``reversed``.
    """
    items = [item for item in ordered if item.tag == "li"]
    is_reversed = ordered.get("reversed") is not None
    if not is_reversed and not any(item.get("value") for item in items):
        return
    step = -1 if is_reversed else 1
    number = _parse_integer(ordered.get("start"), len(items) if is_reversed else 1)
    current = ordered
    expected: int | None = None
    for item in items:
        number = _parse_integer(item.get("value"), number)
        if expected is None:
            ordered.set("start", str(number))
        elif number != expected:
            opened = ordered.makeelement("ol", {"start": str(number)})
            opened.tail, current.tail = current.tail, None
            current.addnext(opened)
            current = opened
        if current is not ordered:
            item.tail = None
            current.append(item)
        expected, number = number + 1, number + step


def _parse_integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,9}", text.strip()) else default


def _restore_table(table: Element) -> None:
    rows = [row for row in table.iter("tr") if next(row.iterancestors("table"), None) is table]
    cells = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
    if _is_layout_table(table, cells):
        parts = [
            p for p in table.iter(*_TABLE_PARTS) if next(p.iterancestors("table"), None) is table
        ]
        for part in [table, *parts]:
            part.tag = "div"
        return
    for row in cells:
        for cell in row:
            for name in ("colspan", "rowspan"):
                if cell.get(name) and not 1 <= _parse_integer(cell.get(name), 1) <= 100:
                    del cell.attrib[name]  # a span of 99,999,999 columns would exhaust memory


def _is_layout_table(table: Element, cells: list[list[Element]]) -> bool:
    """True for a table that only lays elements out."""
    if table.get("role") in ("presentation", "none"):
        return True
    filled = [sum(1 for cell in row if cell.text_content().strip()) for row in cells]
    width = max(map(len, cells), default=0)
    if width < 2 or max(filled, default=0) == 0:
        return True
    if width * len(cells) > _MAX_SPARSITY * sum(map(len, cells)) + _LAYOUT_CHARS:
        return True
    for row in cells:
        for cell in row:
            if any("\n" in pre.text_content() for pre in cell.iter("pre")):
                return True
            if next(cell.iter("table", *HEADINGS), None) is not None:
                return True
            blocks = sum(1 for _ in cell.iter("p", "div", "ul", "ol", "blockquote"))
            if blocks > 1 and len(cell.text_content()) > _LAYOUT_CHARS:
                return True
    return False
