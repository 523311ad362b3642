"""An HTML tree as Markdown: headings, lists, tables, quotes, and code word for word.

Code keeps every space and gets its language where a class names it; a fence is longer than any run
of backticks inside. What Sphinx writes as a definition (``dt.sig``) becomes a heading with a fenced
signature, as pdoc-like sites have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.collect.dom import Element


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SKIPPED = _words(
    "audio button canvas dialog embed form head iframe img input link meta noscript object option "
    "picture script select source style svg template textarea title track video"
)
ASIDE = frozenset({"aside", "footer", "menu", "nav"})
"""Parts of a page that are not its text."""
_BLOCKS = _words(
    "address article aside body caption center dd details div dl dt fieldset figcaption figure "
    "footer header hgroup hr html legend main menu nav p search section summary tbody td tfoot th "
    "thead tr"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_MARKS = {"em": "*", "i": "*", "strong": "**", "b": "**"}
_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight|brush:)-?\s*([\w+#.-]+)")
_BARE_LANGUAGE = re.compile(r"(?:^|\s)(?:highlight|sourceCode)\s+(?:source-)?([a-z][\w+#-]*)")
_NO_LANGUAGE = frozenset({"default", "none", "plain", "plaintext", "text", "source", "code"})
_PERMALINK = frozenset({"headerlink", "anchor-link", "anchorjs-link", "hash-link", "anchor"})
_LINE_NUMBER = frozenset({"linenos", "lineno", "linenodiv", "line-numbers", "gutter", "ln"})
_SPACE = re.compile(r"[ \t\n\r\f\v\u00a0\u200b]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden")


def to_markdown(element: Element) -> str:
    """The element's content as Markdown, blocks set apart by an empty line."""
    return "\n\n".join(_Blocks(1).of(element))


def code_block(pre: Element) -> str:
    """A ``<pre>`` as a fenced block; empty where it holds nothing."""
    return _fence(_code_text(pre), _language(pre))


def plain_lines(element: Element, without: Element | None = None) -> str:
    """The text of menus and the like, a line a link or block; ``without`` one part of it."""
    lines: list[str] = []

    def walk(node: Element) -> None:
        if node is without or not isinstance(node.tag, str) or node.tag in SKIPPED:
            return
        if node.tag not in _BLOCKS and not len(node) and node.text:
            lines.append(node.text)
            return
        lines.append(node.text or "")
        for child in node:
            walk(child)
            lines.append(child.tail or "")

    walk(element)
    cleaned = (_collapse(line).strip() for line in lines)
    return "\n".join(line for line in cleaned if line)


class _Blocks:
    """Collects blocks while it walks; ``level`` is that of the last heading."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._blocks: list[str] = []
        self._inline: list[str] = []

    def of(self, element: Element) -> list[str]:
        self._walk(element)
        self._flush()
        return self._blocks

    def _walk(self, element: Element) -> None:
        self._inline.append(_collapse(element.text))
        for child in element:
            if isinstance(child.tag, str) and not _is_left_out(child):
                self._child(child)
            self._inline.append(_collapse(child.tail))

    def _child(self, child: Element) -> None:
        tag = child.tag
        if tag in _HEADINGS:
            self._heading(_HEADINGS[tag], _inline_text(child))
        elif tag == "pre":
            self._add(code_block(child))
        elif tag in ("ul", "ol"):
            self._add(self._list(child))
        elif tag == "table":
            self._table(child)
        elif tag == "blockquote":
            inner = _Blocks(self._level).of(child)
            quoted = "\n\n".join(inner).split("\n")
            self._add("\n".join(f"> {line}".rstrip() for line in quoted) if inner else "")
        elif tag == "dt" and "sig" in _classes(child):
            self._signature(child)
        elif tag in _BLOCKS or _holds_blocks(child):
            self._flush()
            self._walk(child)
            self._flush()
        else:
            self._inline.append(_inline(child))

    def _flush(self) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        lines = (_collapse(line).strip() for line in text.split("\v"))
        block = "\n".join(line for line in lines if line)
        if block:
            self._blocks.append(block)

    def _add(self, block: str) -> None:
        self._flush()
        if block.strip():
            self._blocks.append(block)

    def _heading(self, level: int, text: str) -> None:
        if text:
            self._level = level
            self._add(f"{'#' * level} {text}")

    def _signature(self, term: Element) -> None:
        """Sphinx's ``<dt class="sig" id="json.dumps">``."""
        name = term.get("id") or ""
        if name:
            above = sum(1 for outer in term.iterancestors("dd"))
            self._add(f"{'#' * min(2 + above, 6)} {name}")
        text = _SPACE.sub(" ", "".join(_texts(term))).strip()
        self._add(_fence(text, "python" if "py" in _classes(term) else ""))

    def _list(self, element: Element) -> str:
        items: list[str] = []
        number = int(element.get("start") or 1) if _is_number(element.get("start")) else 1
        for child in element:
            if not isinstance(child.tag, str) or _is_left_out(child):
                continue
            mark = "- " if element.tag == "ul" else f"{number}. "
            blocks = _Blocks(self._level).of(child)
            if blocks:
                items.append(_item(mark, blocks))
                number += 1
        return "\n".join(items)

    def _table(self, table: Element) -> None:
        rows = [list(_cells(row)) for row in table.iter("tr") if _nearest_table(row) is table]
        rows = [row for row in rows if any(_has_text(cell) for cell in row)]
        is_layout = (
            table.get("role") in ("presentation", "none")
            or max(map(len, rows), default=0) < 2
            or any(_holds_blocks(cell) for row in rows for cell in row)
        )
        if is_layout:
            self._flush()
            for row in rows:
                for cell in row:
                    if not _classes(cell) & _LINE_NUMBER:
                        self._walk(cell)
                        self._flush()
            return
        self._add(_pipe_table([[_cell_text(cell) for cell in row] for row in rows]))


def _item(mark: str, blocks: list[str]) -> str:
    """A list item; blocks after the first stand indented below it."""
    text = blocks[0]
    for block in blocks[1:]:
        tight = re.match(r"- |\d+\. ", block)
        text += ("\n" if tight else "\n\n") + block
    indent = " " * len(mark)
    lines = text.split("\n")
    return mark + "\n".join([lines[0], *(indent + line if line else "" for line in lines[1:])])


def _pipe_table(rows: list[list[str]]) -> str:
    width = max(map(len, rows))
    full = [row + [""] * (width - len(row)) for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in full]
    return "\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])


def _cell_text(cell: Element) -> str:
    return _inline_text(cell).replace("|", "\\|")


def _has_text(cell: Element) -> bool:
    return any(text.strip() for text in cell.itertext())


def _cells(row: Element) -> Iterator[Element]:
    return (cell for cell in row if cell.tag in ("td", "th"))


def _nearest_table(row: Element) -> Element:
    return next(row.iterancestors("table"))


def _inline_text(element: Element) -> str:
    """The element's content on one line."""
    return _collapse(_inside(element).replace("\v", " ")).strip()


def _inside(element: Element) -> str:
    parts = [_collapse(element.text)]
    for child in element:
        if isinstance(child.tag, str) and not _is_left_out(child):
            parts.append(_inline(child))
        parts.append(_collapse(child.tail))
    return "".join(parts)


def _inline(element: Element) -> str:
    """An inline element, marked up. A line break is a vertical tab until the block is done."""
    tag = element.tag
    if tag == "br":
        return "\v"
    if tag in _CODE:
        return _code_span(_collapse("".join(_texts(element))))
    inner = _inside(element)
    mark = _MARKS.get(tag)
    words = inner.strip()
    if mark is None or not words or mark[0] in (words[0], words[-1]):
        return inner
    before = inner[: len(inner) - len(inner.lstrip())]
    after = inner[len(inner.rstrip()) :]
    return f"{before}{mark}{words}{mark}{after}"


def _code_span(text: str) -> str:
    words = text.strip()
    if not words:
        return text
    ticks = "`" * (max(map(len, re.findall("`+", words)), default=0) + 1)
    pad = " " if "`" in (words[0], words[-1]) else ""
    return f"{ticks}{pad}{words}{pad}{ticks}"


def _fence(code: str, language: str) -> str:
    if not code.strip():
        return ""
    ticks = "`" * max(3, max(map(len, re.findall("`+", code)), default=0) + 1)
    return f"{ticks}{language}\n{code}\n{ticks}"


def _code_text(pre: Element) -> str:
    """Every character, without line numbers and the line end that HTML drops after ``<pre>``."""
    text = "".join(_texts(pre)).replace("\r\n", "\n")
    return text.removeprefix("\n").rstrip("\n")


def _texts(element: Element) -> Iterator[str]:
    """Text as it stands in the element; line breaks as such, no line numbers or permalinks."""
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str):
            if child.tag == "br":
                yield "\n"
            elif not _classes(child) & (_LINE_NUMBER | _PERMALINK) and child.tag not in SKIPPED:
                yield from _texts(child)
        yield child.tail or ""


def _language(pre: Element) -> str:
    """Of a ``<pre>``, from its own class, that of its code, or of the blocks around it."""
    around = [pre.getparent(), pre.getparent().getparent()] if pre.getparent() is not None else []
    for element in [*pre.iter("code"), pre, *(a for a in around if a is not None)]:
        names = element.get("class") or ""
        found = _LANGUAGE.search(names) or _BARE_LANGUAGE.search(names)
        if found and found[1].lower() not in _NO_LANGUAGE:
            return "python" if found[1] in ("py", "python3") else str(found[1]).lower()
    return ""


def _is_left_out(element: Element) -> bool:
    tag = element.tag
    if tag in SKIPPED or tag in ASIDE:
        return True
    attributes = element.attrib
    if not attributes:
        return False
    return bool(
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in ("navigation", "search")
        or _HIDDEN.search(attributes.get("style", ""))
        or (tag == "a" and _classes(element) & _PERMALINK)
    )


_SET_APART = frozenset({*_BLOCKS, *_HEADINGS, "pre", "ul", "ol", "table", "blockquote"} - {"p"})


def _holds_blocks(element: Element) -> bool:
    return any(child.tag in _SET_APART for child in element.iterdescendants())


def _classes(element: Element) -> set[str]:
    return set((element.get("class") or "").split())


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"\d{1,9}", text) is not None


def _collapse(text: str | None) -> str:
    return _SPACE.sub(" ", text) if text else ""
