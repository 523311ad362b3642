"""A page's main text as Markdown, with title, headings, code and what was left out.

A chooser a page. Documentation and other technical pages (code, a documentation tool's mark) and
pages too short to weigh are converted whole from the part that the page itself marks (``main``,
``article``, Sphinx's and Read the Docs' containers) or that the model finds. Of any other page, an
article, the model keeps what is text (``article``); where it finds too little, as on a list of
links, the marked part is taken after all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from components.collect.article import Model, find_article
from components.collect.dom import Element, parse_html
from components.collect.markdown import plain_lines, to_markdown
from components.collect.metadata import Facts, Metadata, read_facts, read_metadata

MIN_SHARE = 0.25
"""A marked container with less of the page's text than this is not its main part."""
MIN_CHARS = 900
"""With less in it a page gives a model nothing to weigh: all of it counts."""
MIN_TEXT = 200
MIN_TEXT_SHARE = 0.05
"""An article's least text, in characters and as a share of the page's: a list of links has less."""
MIN_KEPT = 0.5
"""A page that is no manual and marks its main part is left to the model, unless that keeps less of
the part than this: then it is no article."""
_TOOLS = re.compile(
    r"sphinx|mkdocs|docusaurus|pdoc|javadoc|doxygen|gitbook|rustdoc|docutils|vuepress|docsify|typedoc",
    re.IGNORECASE,
)
"""What documentation is made with, as its ``generator`` says."""
_CHARS: Any = etree.XPath("string-length(.)")
_CONTAINER_IDS = ("main-content", "main", "content", "bodyContent", "mw-content-text")
_SIGNS_OF_HTML = re.compile(r"<(?:!doctype|html|head|body|div|p|h1|main|article)\b", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"( *)(`{3,}|~{3,})")


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
    about: Metadata = field(default_factory=Metadata)
    headline: str = ""
    """The page's first heading, where the model took it for no part of an article's text."""


def main_text(
    text: str, content_type: str, name: str, model: Model | None = None, url: str = ""
) -> MainText:
    """The main text of a page; ``name`` is its title where it has none of its own.

    ``model`` takes the shipped one's place; ``url`` may hold the date of a page without one.

    Raises:
        ValueError: the page holds no text, or is of a kind that is not read; says which.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", "text/html", "application/xhtml+xml", "text/plain", "text/markdown"):
        raise ValueError(f"no page: {kind}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if "html" in kind or (not kind and _SIGNS_OF_HTML.search(text[:65536])):
        found = _of_html(text, name, model, url)
    else:
        found = _of_text(text, name)
    if not found.text.strip():
        raise ValueError("holds no text")
    return found


def _of_text(text: str, name: str) -> MainText:
    headings, code = outline(text)
    return MainText(headings[0] if headings else name, text.strip("\n"), headings, code)


def _of_html(text: str, name: str, model: Model | None, url: str) -> MainText:
    root = parse_html(text)
    if root is None:
        raise ValueError("holds no text")
    facts = read_facts(root)
    about = read_metadata(root, facts, url)
    body = root.find("body")
    body = root if body is None else body
    chosen = _choose(root, body, facts, model)
    markdown = to_markdown(chosen.main)
    headings, code = outline(markdown)
    headline = chosen.headline
    if markdown.lstrip("#*_ ").casefold().startswith(headline.casefold()):
        headline = ""  # it stands there as a paragraph
    title = facts.title or headline or next(iter(headings), name)
    return MainText(title, markdown, headings, code, chosen.left_out, about, headline)


@dataclass(frozen=True)
class _Chosen:
    """The part of a page to convert, and what stands around it."""

    main: Element
    left_out: str
    headline: str = ""


def _choose(root: Element, body: Element, facts: Facts, model: Model | None) -> _Chosen:
    technical = _is_technical(root, facts)
    marked = None if facts.is_published and not technical else _container(root)
    if (marked is None or not technical) and _CHARS(body) >= MIN_CHARS:
        found = find_article(body, facts.said(), model, whole=technical)
        least = 0.0 if marked is None else MIN_KEPT * _length(marked)
        if found is not None and found.chars >= max(MIN_TEXT, MIN_TEXT_SHARE * found.seen, least):
            headline = "" if technical else found.headline(facts.title)
            return _Chosen(found.cut(), found.left_out(), headline)
    marked = _container(root) if marked is None else marked
    return _Chosen(body if marked is None else marked, _left_out(root, marked))


def _is_technical(root: Element, facts: Facts) -> bool:
    """Documentation, or an article with code."""
    return (
        _TOOLS.search(facts.meta.get("generator", "")) is not None
        or next(root.iter("pre"), None) is not None
    )


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
