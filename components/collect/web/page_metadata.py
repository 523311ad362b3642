"""Page metadata: author, publication date, language and licence.

Sources, the first with a value wins: JSON-LD (schema.org), ``meta`` elements (OpenGraph, Dublin
Core), ``itemprop`` and ``rel``, ``time``, the URL.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.web.page_licences import (
    StatedLicence,
    find_stated_licences,
    is_creative_commons,
    json_evidence,
    licence_name,
    licence_values,
)

MAX_LICENCE_SOURCES = 5
"""Statements kept of one page: one that lists works of others may name hundreds."""
MAX_JSON_CHARS = 500_000
"""Longest JSON-LD that is parsed; longer ones are data sets, and parsing costs memory."""
_MAX_NODES = 10_000
"""Objects read of one JSON-LD, at most."""
_DATE = re.compile(r"\b((?:19|20)\d\d)[-/.]?(0[1-9]|1[0-2])[-/.]?(0[1-9]|[12]\d|3[01])(?!\d)")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}|[A-Za-z]{2}|\d{3}))?\b")
_AUTHOR = ("author", "article:author", "dc.creator", "parsely-author", "sailthru.author")
_DATES = (
    *("article:published_time", "datepublished", "dc.date", "dc.date.issued", "date", "pubdate"),
    *("parsely-pub-date", "sailthru.date", "og:published_time", "publishdate"),
)
_MARKED_AUTHORS: Any = etree.XPath("//@rel[. = 'author']/.. | //@itemprop[. = 'author']/..")
_ARTICLE_KINDS = re.compile(r"(?:Article|Posting|Report|Review|Recipe)$")


@dataclass(frozen=True)
class PageMetadata:
    """Metadata of a page; a field is empty where the page does not state it."""

    author: str = ""
    date: str = ""
    """YYYY-MM-DD, of publication."""
    language: str = ""
    """BCP 47: ``en``, ``pt-BR``."""
    licence: str = ""
    """Address or text of the page's licence."""
    licence_source: str = ""
    """Evidence of all licences that the page states, a line each."""


@dataclass(frozen=True)
class PageHead:
    """Raw metadata of a page: ``meta`` elements, JSON-LD objects and title, read once."""

    meta: dict[str, str]
    json_objects: list[dict[str, Any]]
    """Every object of its JSON-LD, nested ones included."""
    title: str


def read_page_head(root: Element) -> PageHead:
    """Read a page's ``meta`` elements, title and JSON-LD."""
    meta: dict[str, str] = {}
    things: list[dict[str, Any]] = []
    title = ""
    for element in root.iter("meta", "script", "title"):
        if element.tag == "meta":
            name = element.get("property") or element.get("name") or element.get("itemprop")
            content = (element.get("content") or "").strip()
            if name and content:
                meta.setdefault(name.strip().lower(), content)
        elif element.tag == "title":
            title = title or " ".join((element.text or "").split())
        elif "ld+json" in (element.get("type") or "") and len(element.text or "") <= MAX_JSON_CHARS:
            things += _parse_json_objects(element.text or "")
    return PageHead(meta, things, title)


def read_page_metadata(root: Element, facts: PageHead, url: str) -> PageMetadata:
    """Read author, date, language and licence of a page.

    Args:
        root: The page's tree.
        facts: Its raw metadata.
        url: Its URL, which may hold the date of publication.
    """
    articles = [thing for thing in facts.json_objects if _is_article(thing)] or facts.json_objects
    authors = (_author_name(thing.get("author") or thing.get("creator")) for thing in articles)
    author = next(filter(None, authors), "") or _first_value(facts.meta, _AUTHOR)
    if author.startswith(("http://", "https://")):
        author = ""
    licence, licence_source = _licence(root, articles)
    return PageMetadata(
        author=" ".join(author.split())[:200] or _marked_author(root),
        date=_date(root, facts, articles, url),
        language=_language(root, facts, articles),
        licence=licence,
        licence_source=licence_source,
    )


def iso_date(text: str) -> str:
    """First valid calendar date in ``text``, as YYYY-MM-DD; empty without one."""
    for match in _DATE.finditer(text):
        try:
            return datetime.date(int(match[1]), int(match[2]), int(match[3])).isoformat()
        except ValueError:
            continue
    return ""


def _parse_json_objects(text: str) -> list[dict[str, Any]]:
    try:
        queue = [json.loads(text, strict=False)]
    except (ValueError, RecursionError):
        return []
    objects: list[dict[str, Any]] = []
    while queue and len(objects) < _MAX_NODES:
        node = queue.pop(0)
        if isinstance(node, dict):
            objects.append(node)
            queue += [value for value in node.values() if isinstance(value, dict | list)]
        elif isinstance(node, list):
            queue += node[:_MAX_NODES]
    return objects


def _is_article(thing: dict[str, Any]) -> bool:
    kinds = thing.get("@type")
    kinds_listed = kinds if isinstance(kinds, list) else [kinds]
    return any(isinstance(kind, str) and _ARTICLE_KINDS.search(kind) for kind in kinds_listed)


def _author_name(value: Any) -> str:
    """Name of an author, or names of several, in a JSON-LD value."""
    if isinstance(value, list):
        return ", ".join(filter(None, (_author_name(item) for item in value[:10])))
    if isinstance(value, dict):
        value = value.get("name")
    return value.strip() if isinstance(value, str) else ""


def _first_value(meta: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((meta[key] for key in keys if key in meta), "")


def _marked_author(root: Element) -> str:
    for element in _MARKED_AUTHORS(root)[:3]:
        text = " ".join("".join(element.itertext()).split())
        if 0 < len(text) <= 100:
            return text
    return ""


def _date(root: Element, facts: PageHead, articles: list[dict[str, Any]], url: str) -> str:
    return next(filter(None, map(iso_date, _dates(root, facts, articles, url))), "")


def _dates(
    root: Element, facts: PageHead, articles: list[dict[str, Any]], url: str
) -> Iterator[str]:
    for thing in articles:
        yield from (str(thing.get(key) or "") for key in ("datePublished", "dateCreated"))
    yield from (facts.meta[key] for key in _DATES if key in facts.meta)
    for element in root.iter("time"):
        yield element.get("datetime") or ""
        break
    yield url


def _language(root: Element, facts: PageHead, articles: list[dict[str, Any]]) -> str:
    candidates = [root.get("lang"), root.get("xml:lang"), *(t.get("inLanguage") for t in articles)]
    candidates += [facts.meta.get("og:locale"), facts.meta.get("content-language")]
    for text in candidates:
        match = _LANGUAGE.match(text) if isinstance(text, str) else None
        if match:
            region = match[2] or ""
            region = region.title() if len(region) == 4 else region.upper()
            return match[1].lower() + (f"-{region}" if region else "")
    return ""


def _licence(root: Element, articles: list[dict[str, Any]]) -> tuple[str, str]:
    """Licence of the page, and the evidence of all licences that it states.

    A declared licence comes before a link to Creative Commons, which may be that of a picture;
    where such links differ, none of them is taken.
    """
    values = (value for thing in articles for value in licence_values(thing.get("license")))
    statements = [StatedLicence(value, json_evidence(value), True) for value in values]
    statements += find_stated_licences(root, ("a", "link", "meta"))
    statements.sort(key=lambda statement: not statement.is_declared)  # stable
    by_name: dict[str, StatedLicence] = {}
    for statement in statements:
        by_name.setdefault(licence_name(statement.value), statement)
    by_name.pop("", None)
    licences = list(by_name.values())
    links = [
        statement
        for statement in licences
        if statement.is_declared or is_creative_commons(statement.value)
    ]
    is_clear = len(links) == 1 or any(statement.is_declared for statement in links)
    evidence = (
        " ".join(statement.evidence.split()) for statement in licences[:MAX_LICENCE_SOURCES]
    )
    return links[0].value[:500] if is_clear else "", "\n".join(evidence)
