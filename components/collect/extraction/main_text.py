"""Main text extraction: a page as Markdown, with title, headings, code and the text left out.

Strategies, in this order: the container of a known documentation generator; all of a short page
with few links; the text that trafilatura chooses, projected onto the page's own tree and written
from there. Where projection and chosen text differ too much, trafilatura's own Markdown is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from components.collect.extraction.boilerplate_elements import drop_boilerplate, has_comments
from components.collect.extraction.content_chooser import choose_text
from components.collect.extraction.manual_generators import (
    drop_manual_navigation,
    find_manual_container,
)
from components.collect.extraction.markdown_source import MarkdownPage, normalise_markdown
from components.collect.extraction.markdown_writer import repair_tree, tidy_markdown, write_markdown
from components.collect.extraction.outline import read_outline
from components.collect.extraction.text_projection import TextProjection, project_text
from components.collect.extraction.text_runs import (
    TextBlock,
    join_block_texts,
    read_text_blocks,
    words_of,
)
from components.collect.extraction.tree.html_tree import Element, drop_scripts, parse_html
from components.collect.extraction.tree.tree_edits import clean_text, drop_element
from components.collect.web.media_types import HTML, MARKDOWN, PLAIN, XHTML
from components.collect.web.page_metadata import (
    PageHead,
    PageMetadata,
    iso_date,
    read_page_head,
    read_page_metadata,
)

SHORT_PAGE_CHARS = 900
"""Length of text below which a page is short: an extractor has too little to compare."""
MAX_SHORT_LINK_SHARE = 0.4
"""Share of words in links above which a short page is a menu, a teaser or an error page."""
MAX_LINKLESS_SHARE = 0.06
MIN_CHOSEN_SHARE, MAX_CHOSEN_SHARE = 0.1, 0.8
"""A page with so small a share of its words in links has no menus to leave out. Where trafilatura
leaves out more than a fifth of it, all of it is text; where it takes next to nothing, most is data.
"""
MIN_PROJECTED_SHARE, MAX_PROJECTED_SHARE = 0.7, 1.25
"""Bounds of a projection's words, relative to the words that trafilatura chose: beyond them the
projection failed."""
_MIN_MAIN_SHARE = 0.5
"""Share of a short page's text that its ``main`` element holds; with less it marks another part."""
_MIN_ARTICLE_BODY_CHARS = 200
"""Length of ``articleBody`` in a page's JSON-LD from which it is no teaser."""
_TITLE_SEPARATORS = ("|", "-", "–", "—", "·", "•", "»", "::")
"""Separators between a page's own title and its site's name."""
_IS_ASIDE: Any = etree.XPath("boolean(ancestor::nav or ancestor::footer or ancestor::aside)")


@dataclass
class MainText:
    """Main text of a page, with its structure and metadata."""

    title: str
    text: str
    """Markdown."""
    headings: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    """Contents of fenced code blocks, verbatim."""
    navigation: str = ""
    about: PageMetadata = field(default_factory=PageMetadata)
    headline: str = ""
    """The page's first ``h1``, where it is not part of ``text``."""


@dataclass(frozen=True)
class _ExtractedText:
    """Markdown of a page, and the text that was left out."""

    markdown: str
    left_out: str = ""
    headline: str = ""


def extract_main_text(
    text: str, media_type: str, name: str, url: str = "", *, comments: bool = False
) -> MainText:
    """Extract the main text of a page.

    Args:
        text: The page, decoded.
        media_type: HTML, XHTML, plain text or Markdown (``media_types.judge_media_type``).
        name: Title of a page that has none of its own.
        url: Its URL, which may hold the date of a page without one.
        comments: Include readers' comments, as for a forum.

    Raises:
        ValueError: The page holds no text, is of another media type, or is built to be slow to
            read; the message says which.
    """
    if media_type not in (HTML, XHTML, PLAIN, MARKDOWN):
        raise ValueError(f"no page: {media_type}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if media_type in (HTML, XHTML):
        extracted = _extract_html(text, name, url, is_xhtml=media_type == XHTML, comments=comments)
    else:
        extracted = _extract_plain(text, name, is_markdown=media_type == MARKDOWN)
    if not extracted.text.strip():
        raise ValueError("holds no text")
    return extracted


def _extract_plain(text: str, name: str, *, is_markdown: bool) -> MainText:
    page = normalise_markdown(text) if is_markdown else MarkdownPage(text)
    headings, code = read_outline(page.text)
    title = page.title or next(iter(headings), name)
    about = PageMetadata(date=iso_date(page.date))
    return MainText(title, page.text.strip("\n"), headings, code, about=about)


def _extract_html(text: str, name: str, url: str, *, is_xhtml: bool, comments: bool) -> MainText:
    root = parse_html(text, is_xhtml=is_xhtml)
    if root is None:
        raise ValueError("holds no text")
    facts = read_page_head(root)
    about = read_page_metadata(root, facts, url)
    drop_scripts(root)
    body = root.find("body")
    body = root if body is None else body
    manual = find_manual_container(root, text, facts.meta.get("generator", ""))
    if manual is not None:
        written = _write_manual(manual, body)
    else:
        written = _write_page(root, body, facts, comments=comments)
    headings, code = read_outline(written.markdown)
    headline = written.headline
    if written.markdown.lstrip("#*_ ").casefold().startswith(headline.casefold()):
        headline = ""  # the text begins with it, as a paragraph
    title = facts.title or headline or next(iter(headings), name)
    return MainText(title, written.markdown, headings, code, written.left_out, about, headline)


def _write_page(root: Element, body: Element, facts: PageHead, *, comments: bool) -> _ExtractedText:
    repair_tree(body)
    blocks = read_text_blocks(body)
    links = _link_share(blocks)
    if (
        links <= MAX_SHORT_LINK_SHARE
        and sum(len(block.text) for block in blocks) < SHORT_PAGE_CHARS
    ):
        return _write_whole(_main_element(body), blocks, facts, comments=comments)
    chosen = choose_text(root, comments=comments)
    if chosen is None:
        return _write_whole(body, blocks, facts, comments=comments)
    chosen_words = len(words_of(chosen.text))
    share = chosen_words / max(1, sum(len(block.words) for block in blocks))
    is_partial = links <= MAX_LINKLESS_SHARE and MIN_CHOSEN_SHARE <= share <= MAX_CHOSEN_SHARE
    if is_partial and (comments or not has_comments(body)):
        return _write_whole(body, blocks, facts, comments=comments)
    projection = project_text(blocks, chosen.text)
    projected_words = projection.word_count if projection is not None else 0
    if (
        projection is None
        or not MIN_PROJECTED_SHARE * chosen_words
        <= projected_words
        <= MAX_PROJECTED_SHARE * chosen_words
    ):
        markdown = tidy_markdown(clean_text(chosen.as_markdown()))
        return _ExtractedText(
            markdown, headline=_find_headline(blocks, None, markdown, facts.title)
        )
    left_out = projection.left_out_text()
    headline = _find_headline(blocks, projection, "", facts.title)
    projection.prune_tree(body)
    return _ExtractedText(write_markdown(body, is_chosen=True), left_out, headline)


def _write_manual(manual: Element, body: Element) -> _ExtractedText:
    drop_manual_navigation(manual)
    repair_tree(manual)
    markdown = write_markdown(manual)
    if manual is body:
        return _ExtractedText(markdown)
    drop_element(manual)
    return _ExtractedText(markdown, join_block_texts(read_text_blocks(body)))


def _write_whole(
    part: Element, blocks: list[TextBlock], facts: PageHead, *, comments: bool
) -> _ExtractedText:
    """Markdown of a page or its ``main`` element, without boilerplate."""
    drop_boilerplate(part, comments=comments)
    left_out = _text_outside(part, blocks)
    structured = _article_body(facts)
    markdown = write_markdown(part)
    return _ExtractedText(structured if len(structured) > 2 * len(markdown) else markdown, left_out)


def _text_outside(part: Element, blocks: list[TextBlock]) -> str:
    """Blocks outside of the part, or in a menu inside it, a line each."""
    inside = set(part.iter())
    for placed in part.iter("nav", "footer", "menu"):
        inside.difference_update(placed.iter())
    return join_block_texts(block for block in blocks if block.element not in inside)


def _main_element(body: Element) -> Element:
    """The only ``main`` element of a short page, if it holds most of its text; else the body."""
    marked = body.xpath(".//main | .//*[@role='main']")
    if len(marked) == 1 and len(marked[0].text_content()) >= _MIN_MAIN_SHARE * len(
        body.text_content()
    ):
        return marked[0]
    return body


def _link_share(blocks: list[TextBlock]) -> float:
    """Share of a page's words that are in links."""
    words = sum(len(block.words) for block in blocks)
    return sum(block.link_share * len(block.words) for block in blocks) / max(1, words)


def _article_body(facts: PageHead) -> str:
    """Longest ``articleBody`` in a page's JSON-LD, for a page that a script fills."""
    bodies = (thing.get("articleBody") for thing in facts.json_objects)
    longest = max((b for b in bodies if isinstance(b, str)), key=len, default="")
    return tidy_markdown(clean_text(longest)) if len(longest) >= _MIN_ARTICLE_BODY_CHARS else ""


def _find_headline(
    blocks: list[TextBlock], projection: TextProjection | None, markdown: str, title: str
) -> str:
    """First ``h1`` before the text that is not part of it; empty for none.

    A site's name does not count: an ``h1`` that is a link as a whole, which leads home, or that
    ends the page's ``title``, as in "Old bridge to close | The Paper".
    """
    is_kept = projection.is_kept if projection is not None else [False] * len(blocks)
    first_kept = is_kept.index(True) if True in is_kept else len(blocks)
    is_h1 = [_is_h1(block.element) for block in blocks]
    if any(k and h for k, h in zip(is_kept, is_h1, strict=True)) or markdown.startswith("# "):
        return ""
    for index, block in enumerate(blocks[:first_kept]):
        line = " ".join(block.text.split())
        if is_h1[index] and block.link_share < 1 and not _is_site_name(line, title):
            return clean_text(line)
    return ""


def _is_h1(element: Element) -> bool:
    headings = [element, *list(element.iterancestors())[:3]]
    return any(outer.tag == "h1" for outer in headings) and not _IS_ASIDE(element)


def _is_site_name(line: str, title: str) -> bool:
    """True where a page's title ends in ``line`` behind a separator and a longer text."""
    rest = title.casefold().removesuffix(line.casefold()).rstrip()
    return len(rest) > len(line) and len(rest) < len(title) and rest.endswith(_TITLE_SEPARATORS)
