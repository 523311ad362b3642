"""A page's main text as Markdown, with title, headings, code and what was left out.

In this order: the container of a known documentation generator; all of a short page with few
links; what trafilatura takes for the main text, found again in the page's own tree and written
from there. Where tree and text part too far, trafilatura's own Markdown stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from components.collect.extraction.boilerplate_elements import has_comments, leave_out_boilerplate
from components.collect.extraction.content_chooser import choose_text
from components.collect.extraction.manual_generators import find_manual, leave_out_links
from components.collect.extraction.markdown_source import read_markdown
from components.collect.extraction.markdown_writer import repair_tree, tidy, write_markdown
from components.collect.extraction.outline import outline
from components.collect.extraction.text_projection import Projection, project
from components.collect.extraction.text_runs import Run, join_runs, read_runs, words_of
from components.collect.extraction.tree.html_tree import Element, drop_programs, parse_html
from components.collect.extraction.tree.tree_edits import clean_text, drop
from components.collect.web.page_metadata import Facts, Metadata, read_facts, read_metadata

SHORT_CHARS = 900
"""A page with less text than this gives an extractor nothing to weigh."""
FEW_LINKS = 0.4
"""A short page with a larger share of its words in links is a menu, a teaser or an error."""
NO_LINKS = 0.06
LEAST_CHOSEN, MOST_CHOSEN = 0.1, 0.8
"""A page with so few of its words in links has no menus to leave out. Where trafilatura leaves out
more than a fifth of it, all of it is text; where it takes next to nothing, most is data."""
LEAST_FOUND, MOST_FOUND = 0.7, 1.25
"""Of the words that trafilatura chose: a projection with fewer or more went wrong."""
_MOST_OF_SHORT = 0.5
"""Of a short page's text, which its ``main`` holds; with less it marks something else."""
_LEAST_BODY = 200
"""Characters of ``articleBody`` in a page's JSON-LD that say it is no teaser."""
_HTML_KINDS = ("text/html", "application/xhtml+xml")
_MARKDOWN_KINDS = ("text/markdown", "text/x-markdown")
_SIGNS_OF_HTML = re.compile(r"<(?:!doctype|html|head|body|div|p|h1|main|article)\b", re.IGNORECASE)
_APART = ("|", "-", "–", "—", "·", "•", "»", "::")
"""What stands between a page's own title and its site's name."""
_IS_ASIDE: Any = etree.XPath("boolean(ancestor::nav or ancestor::footer or ancestor::aside)")


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
    """The page's first heading, where it is no part of what the extractor chose."""


@dataclass(frozen=True)
class _Written:
    """A page's text, and what it was not taken from."""

    markdown: str
    left_out: str = ""
    headline: str = ""


def main_text(
    text: str, content_type: str, name: str, url: str = "", *, comments: bool = False
) -> MainText:
    """The main text of a page.

    Args:
        text: The page, decoded.
        content_type: As its server said; empty where it said nothing.
        name: The page's title where it has none of its own.
        url: Its address, which may hold the date of a page without one.
        comments: Take readers' comments too, as for a forum.

    Raises:
        ValueError: The page holds no text, is of a kind that is not read, or is built to be slow
            to read; says which.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", *_HTML_KINDS, "text/plain", *_MARKDOWN_KINDS):
        raise ValueError(f"no page: {kind}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if "html" in kind or (not kind and _SIGNS_OF_HTML.search(text[:65536])):
        found = _of_html(text, name, url, is_xhtml="xhtml" in kind, comments=comments)
    else:
        found = _of_text(text, name, is_markdown=kind in _MARKDOWN_KINDS)
    if not found.text.strip():
        raise ValueError("holds no text")
    return found


def _of_text(text: str, name: str, *, is_markdown: bool) -> MainText:
    title = ""
    if is_markdown:
        title, text = read_markdown(text)
    headings, code = outline(text)
    return MainText(title or next(iter(headings), name), text.strip("\n"), headings, code)


def _of_html(text: str, name: str, url: str, *, is_xhtml: bool, comments: bool) -> MainText:
    root = parse_html(text, is_xhtml=is_xhtml)
    if root is None:
        raise ValueError("holds no text")
    facts = read_facts(root)
    about = read_metadata(root, facts, url)
    drop_programs(root)
    body = root.find("body")
    body = root if body is None else body
    manual = find_manual(root, text, facts.meta.get("generator", ""))
    if manual is not None:
        written = _write_manual(manual, body)
    else:
        written = _write(root, body, facts, comments=comments)
    headings, code = outline(written.markdown)
    headline = written.headline
    if written.markdown.lstrip("#*_ ").casefold().startswith(headline.casefold()):
        headline = ""  # it stands there as a paragraph
    title = facts.title or headline or next(iter(headings), name)
    return MainText(title, written.markdown, headings, code, written.left_out, about, headline)


def _write(root: Element, body: Element, facts: Facts, *, comments: bool) -> _Written:
    repair_tree(body)
    runs = read_runs(body)
    links = _link_share(runs)
    if links <= FEW_LINKS and sum(len(run.text) for run in runs) < SHORT_CHARS:
        return _write_whole(_marked_main(body), runs, facts, comments=comments)
    chosen = choose_text(root, comments=comments)
    if chosen is None:
        return _write_whole(body, runs, facts, comments=comments)
    count = len(words_of(chosen.text))
    share = count / max(1, sum(len(run.words) for run in runs))
    is_partial = links <= NO_LINKS and LEAST_CHOSEN <= share <= MOST_CHOSEN
    if is_partial and (comments or not has_comments(body)):
        return _write_whole(body, runs, facts, comments=comments)
    projection = project(runs, chosen.text)
    found = projection.word_count if projection is not None else 0
    if projection is None or not LEAST_FOUND * count <= found <= MOST_FOUND * count:
        markdown = tidy(clean_text(chosen.as_markdown()))
        return _Written(markdown, headline=_headline(runs, None, markdown, facts.title))
    left_out = projection.left_out()
    headline = _headline(runs, projection, "", facts.title)
    projection.cut(body)
    return _Written(write_markdown(body, is_chosen=True), left_out, headline)


def _write_manual(manual: Element, body: Element) -> _Written:
    leave_out_links(manual)
    repair_tree(manual)
    markdown = write_markdown(manual)
    if manual is body:
        return _Written(markdown)
    drop(manual)
    return _Written(markdown, join_runs(read_runs(body)))


def _write_whole(part: Element, runs: list[Run], facts: Facts, *, comments: bool) -> _Written:
    """A page, or its ``main``, less what its own names call no text."""
    leave_out_boilerplate(part, comments=comments)
    left_out = _outside(part, runs)
    structured = _article_body(facts)
    markdown = write_markdown(part)
    return _Written(structured if len(structured) > 2 * len(markdown) else markdown, left_out)


def _outside(part: Element, runs: list[Run]) -> str:
    """Runs that do not stand in the part, or in a menu inside it, a line each."""
    inside = set(part.iter())
    for placed in part.iter("nav", "footer", "menu"):
        inside.difference_update(placed.iter())
    return join_runs(run for run in runs if run.element not in inside)


def _marked_main(body: Element) -> Element:
    """A short page's ``main``, where it has one that holds most of its text; else all of it."""
    marked = body.xpath(".//main | .//*[@role='main']")
    if len(marked) == 1 and len(marked[0].text_content()) >= _MOST_OF_SHORT * len(
        body.text_content()
    ):
        return marked[0]
    return body


def _link_share(runs: list[Run]) -> float:
    """The share of a page's words that stand in links."""
    words = sum(len(run.words) for run in runs)
    return sum(run.link_share * len(run.words) for run in runs) / max(1, words)


def _article_body(facts: Facts) -> str:
    """The text in a page's structured data, for a page that a script fills."""
    bodies = (thing.get("articleBody") for thing in facts.things)
    longest = max((b for b in bodies if isinstance(b, str)), key=len, default="")
    return tidy(clean_text(longest)) if len(longest) >= _LEAST_BODY else ""


def _headline(runs: list[Run], projection: Projection | None, markdown: str, title: str) -> str:
    """The page's first ``h1`` that stands before the text and is no part of it; else empty.

    Not the site's name: a link as a whole, which leads home, or the end of the page's ``title``,
    as in "Old bridge to close | The Paper".
    """
    kept = projection.kept if projection is not None else [False] * len(runs)
    first = kept.index(True) if True in kept else len(runs)
    is_h1 = [_is_h1(run.element) for run in runs]
    if any(k and h for k, h in zip(kept, is_h1, strict=True)) or markdown.startswith("# "):
        return ""
    for index, run in enumerate(runs[:first]):
        line = " ".join(run.text.split())
        if is_h1[index] and run.link_share < 1 and not _is_site(line, title):
            return clean_text(line)
    return ""


def _is_h1(element: Element) -> bool:
    headings = [element, *list(element.iterancestors())[:3]]
    return any(outer.tag == "h1" for outer in headings) and not _IS_ASIDE(element)


def _is_site(line: str, title: str) -> bool:
    """Whether a page's title ends in ``line``, set apart from more than as much again."""
    rest = title.casefold().removesuffix(line.casefold()).rstrip()
    return len(rest) > len(line) and len(rest) < len(title) and rest.endswith(_APART)
