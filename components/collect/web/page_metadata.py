"""What a page says about itself: title, description, author, date, language, licence, its body.

In this order, the first that answers counts: JSON-LD (schema.org), ``meta`` elements (OpenGraph,
Dublin Core), ``itemprop`` and ``rel``, ``time``, the address.
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
    Stated,
    is_deed,
    json_evidence,
    licence_name,
    named_in,
    stated_in,
)

MAX_LICENCES = 5
"""Kept of one page: one that lists works of others may name hundreds."""
MAX_JSON = 500_000
_MAX_NODES = 10_000
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
class Metadata:
    """Empty where the page does not say."""

    author: str = ""
    date: str = ""
    """YYYY-MM-DD, of publication."""
    language: str = ""
    """BCP 47: ``en``, ``pt-BR``."""
    licence: str = ""
    """The licence's address."""
    licence_source: str = ""
    """What that and all other licences that the page names were read from, a line each."""


@dataclass(frozen=True)
class Facts:
    """What the head of a page holds, read once."""

    meta: dict[str, str]
    things: list[dict[str, Any]]
    """Every object of its JSON-LD."""
    title: str

    @property
    def is_article(self) -> bool:
        """The page calls itself an article."""
        return (
            self.meta.get("og:type", "").lower() == "article"
            or "article:published_time" in self.meta
            or any(_is_article(thing) for thing in self.things)
        )

    @property
    def is_published(self) -> bool:
        """It speaks to those who share pages, as articles do and manuals do not."""
        shared = ("og:", "twitter:", "article:")
        return bool(self.things) or any(name.startswith(shared) for name in self.meta)


def read_facts(root: Element) -> Facts:
    """All that the page's head and its JSON-LD say."""
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
        elif "ld+json" in (element.get("type") or "") and len(element.text or "") <= MAX_JSON:
            things += _things(element.text or "")
    return Facts(meta, things, title)


def read_metadata(root: Element, facts: Facts, url: str) -> Metadata:
    """Author, date, language and licence."""
    articles = [thing for thing in facts.things if _is_article(thing)] or facts.things
    authors = (_name(thing.get("author") or thing.get("creator")) for thing in articles)
    author = next(filter(None, authors), "") or _first(facts.meta, _AUTHOR)
    if author.startswith(("http://", "https://")):
        author = ""
    licence, licence_source = _licence(root, articles)
    return Metadata(
        author=" ".join(author.split())[:200] or _marked_author(root),
        date=_date(root, facts, articles, url),
        language=_language(root, facts, articles),
        licence=licence,
        licence_source=licence_source,
    )


def iso_date(text: str) -> str:
    """The first date in ``text`` that the calendar has, as YYYY-MM-DD; empty without one."""
    for found in _DATE.finditer(text):
        try:
            return datetime.date(int(found[1]), int(found[2]), int(found[3])).isoformat()
        except ValueError:
            continue
    return ""


def _things(text: str) -> list[dict[str, Any]]:
    try:
        waiting = [json.loads(text, strict=False)]
    except (ValueError, RecursionError):
        return []
    found: list[dict[str, Any]] = []
    while waiting and len(found) < _MAX_NODES:
        node = waiting.pop(0)
        if isinstance(node, dict):
            found.append(node)
            waiting += [value for value in node.values() if isinstance(value, dict | list)]
        elif isinstance(node, list):
            waiting += node[:_MAX_NODES]
    return found


def _is_article(thing: dict[str, Any]) -> bool:
    kinds = thing.get("@type")
    listed = kinds if isinstance(kinds, list) else [kinds]
    return any(isinstance(kind, str) and _ARTICLE_KINDS.search(kind) for kind in listed)


def _name(value: Any) -> str:
    """Of a person, or of several: the first has it."""
    if isinstance(value, list):
        return ", ".join(filter(None, (_name(one) for one in value[:10])))
    if isinstance(value, dict):
        value = value.get("name")
    return value.strip() if isinstance(value, str) else ""


def _first(meta: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((meta[key] for key in keys if key in meta), "")


def _marked_author(root: Element) -> str:
    for element in _MARKED_AUTHORS(root)[:3]:
        text = " ".join("".join(element.itertext()).split())
        if 0 < len(text) <= 100:
            return text
    return ""


def _date(root: Element, facts: Facts, articles: list[dict[str, Any]], url: str) -> str:
    return next(filter(None, map(iso_date, _dates(root, facts, articles, url))), "")


def _dates(root: Element, facts: Facts, articles: list[dict[str, Any]], url: str) -> Iterator[str]:
    for thing in articles:
        yield from (str(thing.get(key) or "") for key in ("datePublished", "dateCreated"))
    yield from (facts.meta[key] for key in _DATES if key in facts.meta)
    for element in root.iter("time"):
        yield element.get("datetime") or ""
        break
    yield url


def _language(root: Element, facts: Facts, articles: list[dict[str, Any]]) -> str:
    told = [root.get("lang"), root.get("xml:lang"), *(t.get("inLanguage") for t in articles)]
    told += [facts.meta.get("og:locale"), facts.meta.get("content-language")]
    for text in told:
        found = _LANGUAGE.match(text) if isinstance(text, str) else None
        if found:
            region = found[2] or ""
            region = region.title() if len(region) == 4 else region.upper()
            return found[1].lower() + (f"-{region}" if region else "")
    return ""


def _licence(root: Element, articles: list[dict[str, Any]]) -> tuple[str, str]:
    """(address of the page's licence, what it and others were read from).

    What declares a licence comes before a link to one of Creative Commons, which may be that of a
    picture; where such links differ, none of them is the page's.
    """
    values = (value for thing in articles for value in named_in(thing.get("license")))
    stated = [Stated(value, json_evidence(value), True) for value in values]
    stated += stated_in(root, ("a", "link", "meta"))
    stated.sort(key=lambda one: not one.is_declared)  # stable
    found: dict[str, Stated] = {}
    for one in stated:
        found.setdefault(licence_name(one.value), one)
    found.pop("", None)
    all_found = list(found.values())
    links = [one for one in all_found if one.is_declared or is_deed(one.value)]
    is_clear = len(links) == 1 or any(one.is_declared for one in links)
    evidence = (" ".join(one.evidence.split()) for one in all_found[:MAX_LICENCES])
    return links[0].value[:500] if is_clear else "", "\n".join(evidence)
