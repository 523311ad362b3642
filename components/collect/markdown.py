"""A page's main text as Markdown, and its menus kept apart.

Pages that say where their main text is (``main``, ``article``, ``role="main"``) are walked as they
stand, so headings, lists, tables and code come through verbatim; others are given to trafilatura,
which finds the text by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from components.collect.dom import Element, parse_html

MAIN = ("//main", "//*[@role='main']", "//article")
"""Where a page says its text is; the first that is there counts."""
LEAST_MAIN = 40
"""A container with fewer characters than this holds a shell that a script was to fill."""
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SKIPPED = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "form"}
    | {"button", "input", "select", "textarea", "nav", "aside", "head"}
)
_MENUS = "//nav|//aside|//footer|//header[not(ancestor::main) and not(ancestor::article)]"
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn", "em"}
    | {"font", "i", "img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span"}
    | {"strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)
_PERMALINK = frozenset(("headerlink", "anchor", "permalink", "anchorjs-link", "hash-link"))
_LANGUAGE = re.compile(r"(?:^|\s)(?:language-|lang-|highlight-(?:source-)?)([\w+#-]+)")
_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_FENCE_RUN = re.compile(r"^`{3,}", re.MULTILINE)


@dataclass(frozen=True)
class Extracted:
    """What a page says."""

    title: str
    text: str
    """Markdown."""
    headings: list[str]
    code: list[str]
    """Code blocks, verbatim."""
    navigation: str
    """Menus, headers and footers, a line an entry."""


def extract_html(html: str) -> Extracted:
    """The main text of an HTML page; all empty where there is none."""
    root = parse_html(html)
    if root is None:
        return Extracted("", "", [], [], "")
    main = _main(root)
    walker = _Walker()
    navigation = _navigation(root)
    if main is not None:
        text = "\n\n".join(walker.blocks(main))
    else:
        text = _by_its_looks(html)
        walker = _read_markdown(text)
    return Extracted(_title(root, walker), text, walker.headings, walker.code, navigation)


def read_markdown(text: str) -> Extracted:
    """A page that is Markdown (or plain text) already: as it stands."""
    walker = _read_markdown(text)
    title = walker.headings[0] if walker.headings else ""
    return Extracted(title, text.strip(), walker.headings, walker.code, "")


def _main(root: Element) -> Element | None:
    for path in MAIN:
        found = root.xpath(path)
        if found:
            fullest = max(found, key=lambda element: len(element.text_content()))
            return fullest if len(fullest.text_content().strip()) >= LEAST_MAIN else None
    return None


def _by_its_looks(html: str) -> str:
    import trafilatura

    found = trafilatura.extract(
        html, output_format="markdown", include_tables=True, include_formatting=False
    )
    return (found or "").strip()


def _title(root: Element, walker: _Walker) -> str:
    for element in root.iter("title"):
        return _collapse(element.text_content())
    return walker.headings[0] if walker.headings else ""


def _navigation(root: Element) -> str:
    lines: dict[str, None] = {}
    for menu in root.xpath(_MENUS):
        for text in menu.itertext():
            line = _collapse(text)
            if line:
                lines.setdefault(line)
    return "\n".join(lines)


def _read_markdown(text: str) -> _Walker:
    walker = _Walker()
    block: list[str] | None = None
    fence = ""
    for line in text.split("\n"):
        if block is not None:
            if line.strip() == fence:
                walker.code.append("\n".join(block))
                block = None
            else:
                block.append(line)
        elif line.startswith(("```", "~~~")):
            fence, block = line[: len(line) - len(line.lstrip(line[0]))], []
        elif line.startswith("#") and line.lstrip("#").startswith(" "):
            walker.headings.append(line.strip("# "))
    return walker


class _Walker:
    """Walks a main element and remembers its headings and code."""

    def __init__(self) -> None:
        self.headings: list[str] = []
        self.code: list[str] = []

    def blocks(self, element: Element) -> Iterator[str]:
        """Markdown blocks of an element's content, in order."""
        loose: list[str] = [element.text or ""]
        for child in element:
            if isinstance(child.tag, str) and not _is_skipped(child):
                if child.tag in _INLINE and not _holds_block(child):
                    loose.append(self._inline_one(child))
                else:
                    yield from _paragraph(loose)
                    loose = []
                    yield from self._block(child)
            loose.append(child.tail or "")
        yield from _paragraph(loose)

    def _block(self, element: Element) -> Iterator[str]:
        tag = element.tag
        if tag in _HEADINGS:
            text = _collapse(self.inline(element))
            if text:
                self.headings.append(text)
                yield f"{'#' * _HEADINGS[tag]} {text}"
        elif tag == "pre":
            yield from self._fenced(element)
        elif tag in ("ul", "ol"):
            yield from self._list(element)
        elif tag == "table":
            yield from self._table(element)
        elif tag == "blockquote":
            quoted = "\n\n".join(self.blocks(element))
            if quoted:
                yield "\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))
        elif tag in ("p", "dt", "figcaption", "summary") and not _holds_block(element):
            yield from _paragraph([self.inline(element)])
        else:
            yield from self.blocks(element)

    def _fenced(self, element: Element) -> Iterator[str]:
        code = element.text_content().strip("\n")
        if not code.strip():
            return
        self.code.append(code)
        longest = max((len(run) for run in _FENCE_RUN.findall(code)), default=2)
        fence = "`" * (longest + 1)
        yield f"{fence}{_language(element)}\n{code}\n{fence}"

    def _list(self, element: Element) -> Iterator[str]:
        items = []
        number = 0
        for child in element:
            if not isinstance(child.tag, str) or _is_skipped(child):
                continue
            number += 1
            mark = f"{number}. " if element.tag == "ol" else "- "
            content = "\n".join(self.blocks(child))
            if content:
                items.append(mark + content.replace("\n", "\n" + " " * len(mark)))
        if items:
            yield "\n".join(items)

    def _table(self, element: Element) -> Iterator[str]:
        rows = [
            [_cell(self.inline(cell)) for cell in row if cell.tag in ("td", "th")]
            for row in element.iter("tr")
        ]
        rows = [row for row in rows if any(row)]
        if not rows:
            return
        width = max(len(row) for row in rows)
        lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
        yield "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])

    def inline(self, element: Element) -> str:
        """An element's content as one run of text; code in backticks, links as their text."""
        parts = [element.text or ""]
        for child in element:
            if isinstance(child.tag, str) and not _is_skipped(child):
                parts.append(self._inline_one(child))
            parts.append(child.tail or "")
        return "".join(parts)

    def _inline_one(self, element: Element) -> str:
        if element.tag == "br":
            return "\n"
        if element.tag == "img":
            return element.get("alt") or ""
        text = self.inline(element)
        if element.tag in ("code", "kbd", "samp", "tt") and text.strip():
            return f"`{_collapse(text)}`" if "`" not in text else text
        return text


def _is_skipped(element: Element) -> bool:
    if element.tag in _SKIPPED or element.get("hidden") is not None:
        return True
    return element.tag == "a" and not _PERMALINK.isdisjoint((element.get("class") or "").split())


def _holds_block(element: Element) -> bool:
    return any(
        isinstance(inner.tag, str) and inner.tag not in _INLINE
        for inner in element.iterdescendants()
    )


def _language(element: Element) -> str:
    """The language that a code block, what is in it, or what is around it names."""
    around = [element, *element.iterdescendants("code")]
    around += [parent for parent in (element.getparent(),) if parent is not None]
    for candidate in around:
        match = _LANGUAGE.search(candidate.get("class") or "")
        if match and match[1] not in ("default", "none", "text"):
            return match[1]
    return ""


def _paragraph(parts: list[str]) -> Iterator[str]:
    """One block of the given runs, white space joined, line breaks that were meant kept."""
    lines = [_collapse(line) for line in "".join(parts).split("\n")]
    text = " ".join(line for line in lines if line)
    if text:
        yield text


def _cell(text: str) -> str:
    return _collapse(text).replace("|", "\\|")


def _collapse(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
