"""Headings, lists, tables and definitions as plain HTML has them."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import (
    class_names,
    drop,
    is_inside,
    put_code,
    put_text,
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
_PARTS = ("caption", "colgroup", "thead", "tbody", "tfoot", "tr", "td", "th")
_SPARSE = 8
"""Cells of the grid for each that is there: Markdown fills every row up to the longest."""
_LAYOUT_CHARS = 1_000
"""A cell with more text than this in several blocks is a column of the page, not a value."""
_SIGNATURES: Any = etree.XPath('.//dt[contains(concat(" ", @class, " "), " sig ")]')


def restore_structure(root: Element) -> None:
    """Mend headings, lists, tables and signatures under ``root``."""
    for unwanted in [*_EDIT_LINKS(root)]:
        if is_inside(unwanted, root):
            drop(unwanted)
    for heading in list(root.iter(*HEADINGS)):
        _restore_heading(heading)
    for box in list(root.iter("input")):
        if box.get("type") == "checkbox" and any(e.tag == "li" for e in box.iterancestors()):
            put_text(box, "[x] " if box.get("checked") is not None else "[ ] ")
    for aside in root.iter("aside"):
        if ADMONITION.search(aside.get("class") or ""):
            aside.tag = "div"
    for footer in list(root.iter("footer")):
        if any(outer.tag == "blockquote" for outer in footer.iterancestors()):
            footer.tag = "p"
    for summary in root.iter("summary"):
        if next(summary.iter(*HEADINGS), None) is not None:
            summary.tag = "div"  # else it would be a line in bold, marks of a heading in it
    for term in _SIGNATURES(root):
        _restore_signature(term)
    _restore_lists(root)
    for table in reversed(list(root.iter("table"))):  # an inner one first
        _restore_table(table)


def _restore_heading(heading: Element) -> None:
    """Its words alone, on one line: no sign that links to it, no button around it."""
    for link in list(heading.iter("a", "button")):
        if _ANCHOR_TEXT.fullmatch(link.text_content()) and is_inside(link, heading):
            drop(link)
    wrappers = ("button", "summary", "div", "p", "br", *HEADINGS)
    for wrapper in heading.iterdescendants(*wrappers):
        wrapper.tail = " " + (wrapper.tail or "")
    etree.strip_tags(heading, *wrappers)


def _restore_signature(term: Element) -> None:
    """Sphinx's ``<dt class="sig" id="json.dumps">``: a heading, and the signature as code."""
    language = "python" if "py" in class_names(term) else ""
    for link in list(term.iter("a")):
        if "headerlink" in class_names(link):
            drop(link)
    above = sum(1 for outer in term.iterancestors("dd"))
    signature = " ".join(term.text_content().split())
    name = term.get("id") or ""
    if name:
        heading = term.makeelement(f"h{min(2 + above, 6)}")
        heading.text = name
        term.addprevious(heading)
    put_code(term, signature, language)


def _restore_lists(root: Element) -> None:
    for item in list(root.iter("li")):
        parent = item.getparent()
        if parent is not None and parent.tag not in _LISTS:
            _restore_item(item, parent, root)
    for outer in list(root.iter("ul", "ol")):
        _hang_lists(outer)
    for ordered in list(root.iter("ol")):
        _number(ordered)


def _restore_item(item: Element, parent: Element, root: Element) -> None:
    """An item in a wrapper inside its list, or in no list at all."""
    around = parent.getparent()
    if parent is not root and around is not None and around.tag in _LISTS and parent.tag != "li":
        parent.drop_tag()
        return
    before = item.getprevious()
    if before is not None and before.tag == "ul" and before.get("data-made") and not before.tail:
        made = before
    else:
        made = item.makeelement("ul", {"data-made": "1"})
        item.addprevious(made)
    made.tail, item.tail = (item.tail or "").strip() or None, None
    made.append(item)


def _hang_lists(outer: Element) -> None:
    """A list that stands between items belongs to the item before it."""
    item = None
    for child in list(outer):
        if child.tag == "li":
            item = child
        elif child.tag in ("ul", "ol") and item is not None:
            child.tail = None
            item.append(child)


def _number(ordered: Element) -> None:
    """Numbers that do not count up from ``start`` by one: each such item opens a list of its own.

    Markdown numbers a list by its first item; ``value`` and ``reversed`` are no words of it.
    """
    items = [item for item in ordered if item.tag == "li"]
    is_reversed = ordered.get("reversed") is not None
    if not is_reversed and not any(item.get("value") for item in items):
        return
    step = -1 if is_reversed else 1
    number = _integer(ordered.get("start"), len(items) if is_reversed else 1)
    current = ordered
    expected: int | None = None
    for item in items:
        number = _integer(item.get("value"), number)
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


def _integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,9}", text.strip()) else default


def _restore_table(table: Element) -> None:
    rows = [row for row in table.iter("tr") if next(row.iterancestors("table"), None) is table]
    cells = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
    if _is_layout(table, cells):
        parts = [p for p in table.iter(*_PARTS) if next(p.iterancestors("table"), None) is table]
        for part in [table, *parts]:
            part.tag = "div"
        return
    for row in cells:
        for cell in row:
            for name in ("colspan", "rowspan"):
                if cell.get(name) and not 1 <= _integer(cell.get(name), 1) <= 100:
                    del cell.attrib[name]  # 99,999,999 columns are none


def _is_layout(table: Element, cells: list[list[Element]]) -> bool:
    """A table that only puts things beside one another."""
    if table.get("role") in ("presentation", "none"):
        return True
    filled = [sum(1 for cell in row if cell.text_content().strip()) for row in cells]
    width = max(map(len, cells), default=0)
    if width < 2 or max(filled, default=0) == 0:
        return True
    if width * len(cells) > _SPARSE * sum(map(len, cells)) + _LAYOUT_CHARS:
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
