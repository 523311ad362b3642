"""A page's main text as Markdown, with title, headings, code and what was left out.

A page that marks its main part (``main``, ``article``, Sphinx's and Read the Docs' containers) is
converted from there; for any other, trafilatura finds it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from components.collect.dom import Element, parse_html
from components.collect.markdown import code_block, plain_lines, to_markdown

MIN_SHARE = 0.25
"""A marked container with less of the page's text than this is not its main part."""
_CONTAINER_IDS = ("main-content", "main", "content", "bodyContent", "mw-content-text")
_SIGNS_OF_HTML = re.compile(r"<(?:!doctype|html|head|body|div|p|h1|main|article)\b", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"( *)(`{3,}|~{3,})")
_PLACEHOLDER = re.compile(r"^[ \t]*```\w*\n\s*modelmillcode(\d{6})\s*\n[ \t]*```", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n(?:[ \t]*\n)*")
_LOOSE = re.compile(r"`?modelmillcode(\d{6})`?")


@dataclass
class MainText:
    """What a page says."""

    title: str
    text: str
    """Markdown."""
    headings: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    """Fenced blocks, word for word."""
    navigation: str = ""


def main_text(text: str, content_type: str, name: str) -> MainText:
    """The main text of a page; ``name`` is its title where it has none of its own.

    Raises:
        ValueError: the page holds no text, or is of a kind that is not read; says which.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", "text/html", "application/xhtml+xml", "text/plain", "text/markdown"):
        raise ValueError(f"no page: {kind}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if "html" in kind or (not kind and _SIGNS_OF_HTML.search(text[:65536])):
        found = _of_html(text, name)
    else:
        found = _of_text(text, name)
    if not found.text.strip():
        raise ValueError("holds no text")
    return found


def _of_text(text: str, name: str) -> MainText:
    headings, code = outline(text)
    return MainText(headings[0] if headings else name, text.strip("\n"), headings, code)


def _of_html(text: str, name: str) -> MainText:
    root = parse_html(text)
    if root is None:
        raise ValueError("holds no text")
    main = _container(root)
    markdown = to_markdown(main) if main is not None else _found_by_trafilatura(root)
    if not markdown.strip() and main is None:
        body = root.find("body")
        markdown = to_markdown(root if body is None else body)
    headings, code = outline(markdown)
    titles = [" ".join((title.text or "").split()) for title in root.iter("title")]
    title = next(filter(None, [*titles, *headings]), name)
    return MainText(title, markdown, headings, code, _left_out(root, main))


def _container(root: Element) -> Element | None:
    """The element that the page itself marks as its main part."""
    body = root.find("body")
    total = _length(root if body is None else body)
    for element in _candidates(root):
        if _length(element) >= MIN_SHARE * total:
            return element
    return None


def _candidates(root: Element) -> list[Element]:
    marked = [*root.iter("main"), *root.xpath("//*[@role='main']")]
    articles = list(root.iter("article"))
    if len(articles) == 1:
        marked.append(articles[0])
    marked += root.xpath("//*[@itemprop='articleBody']")
    for identifier in _CONTAINER_IDS:
        marked += root.xpath("//*[@id=$id]", id=identifier)
    return marked


def _length(element: Element) -> int:
    """Characters of text that is shown, menus left out."""
    hidden = {"script", "style", "template", "noscript", "nav", "header", "footer", "aside"}
    total = len((element.text or "").strip())
    for child in element:
        if child.tag not in hidden:
            total += _length(child)
        total += len((child.tail or "").strip())
    return total


def _found_by_trafilatura(root: Element) -> str:
    """Markdown by trafilatura, with code blocks put back word for word."""
    import trafilatura

    blocks: list[str] = []
    for pre in list(root.iter("pre")):
        blocks.append(code_block(pre))
        for child in list(pre):
            pre.remove(child)
        pre.text = f"modelmillcode{len(blocks) - 1:06d}"
    markdown = trafilatura.extract(
        root, output_format="markdown", include_formatting=True, include_comments=False
    )
    markdown = _PLACEHOLDER.sub(r"modelmillcode\1", markdown or "")
    markdown = _BLANK_LINES.sub("\n\n", _LOOSE.sub(r"\n\nmodelmillcode\1\n\n", markdown)).strip()
    return _LOOSE.sub(lambda found: blocks[int(found[1])], markdown)


def _left_out(root: Element, main: Element | None) -> str:
    """Menus and footers, as plain lines."""
    body = root.find("body")
    if body is None:
        return ""
    if main is not None:
        return plain_lines(body, without=main)
    parts = [part for tag in ("header", "nav", "aside", "footer") for part in body.iter(tag)]
    return "\n".join(filter(None, map(plain_lines, parts)))


def outline(markdown: str) -> tuple[list[str], list[str]]:
    """(headings, fenced code without its fences) of a Markdown text."""
    headings: list[str] = []
    code: list[str] = []
    fence, indent = "", 0
    block: list[str] = []
    for line in markdown.split("\n"):
        opened = _FENCE.match(line)
        if not fence and opened:
            fence, indent, block = opened[2], len(opened[1]), []
        elif fence and line.strip().startswith(fence) and not line.strip(" `~"):
            code.append("\n".join(block))
            fence = ""
        elif fence:
            blank = len(line) - len(line.lstrip(" "))
            block.append(line[min(blank, indent) :])
        else:
            heading = _HEADING.match(line)
            if heading:
                headings.append(heading[1])
    if fence:
        code.append("\n".join(block))
    return headings, code
