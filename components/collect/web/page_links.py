"""What a crawl wants to know of a page: its links, its own address, what it asks of robots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.collect.extraction.tree.html_tree import Element, parse_html
from components.collect.optouts.optout_policy import OptoutConfig, Signal
from components.collect.optouts.page_signals import read_signals
from components.collect.warc.page_shards import WebPage
from components.collect.web.charset import decode
from components.collect.web.robots_directives import (
    directives_for,
    forbids_following,
    forbids_indexing,
)
from components.collect.web.urls import link, normalise

_CANONICAL = re.compile(
    r"<([^<>]{1,2000})>\s*;[^<]{0,200}\brel\s*=\s*\"?canonical\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_TEXTS = ("text/plain", "text/markdown", "text/x-markdown")


@dataclass(frozen=True)
class PageFacts:
    """Read once, when a page comes in."""

    links: list[str] = field(default_factory=list)
    """Where they lead, each once, in their order; none where the page asks not to follow them."""
    canonical: str = ""
    """The address that the page says is its own (RFC 6596), where it is another."""
    noindex: bool = False
    words: str = ""
    """Fingerprint of the words on the page, in whatever order and number; empty for none."""
    signals: list[Signal] = field(default_factory=list)


def read_page(
    body: bytes, url: str, headers: Mapping[str, str], agent: str, optouts: OptoutConfig
) -> PageFacts:
    """All facts of one page that was fetched from ``url``."""
    kind = headers.get("content-type", "")
    text = decode(body, kind)
    plain = not _is_html(kind)
    root = None if plain else _tree(text, kind)
    directives = directives_for(headers.get("x-robots-tag", ""), {agent.lower()})
    signals = read_signals(root, headers, url, optouts)
    if root is None:
        words = _fingerprint(text) if plain else ""
        return PageFacts([], "", forbids_indexing(directives), words, signals)
    for meta in root.iter("meta"):
        if (meta.get("name") or "").strip().lower() in ("robots", agent.lower()):
            directives |= directives_for(meta.get("content") or "", {agent.lower()})
    base = _base(root, url)
    return PageFacts(
        [] if forbids_following(directives) else _links(root, base),
        _canonical(root, base, headers.get("link", ""), url),
        forbids_indexing(directives),
        _fingerprint(" ".join(_texts(root))),
        signals,
    )


def signals_of(page: WebPage, optouts: OptoutConfig) -> list[Signal]:
    """What a page says of its use; for one that was not crawled."""
    kind = page.content_type
    root = _tree(decode(page.body, kind), kind) if _is_html(kind) else None
    return read_signals(root, dict(page.headers), page.url, optouts)


def _tree(text: str, content_type: str) -> Element | None:
    """A page's tree; None for one built to be slow to read, which extraction refuses by name."""
    try:
        return parse_html(text, is_xhtml="xhtml" in content_type.lower())
    except ValueError:
        return None


def _is_html(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() not in _TEXTS


def _base(root: Element, url: str) -> str:
    first = next((element.get("href") for element in root.iter("base")), None)
    return (normalise(first, url) if first else None) or url


def _links(root: Element, base: str) -> list[str]:
    found: dict[str, None] = {}
    for anchor in root.iter("a", "area"):
        href = anchor.get("href")
        if not href or "nofollow" in (anchor.get("rel") or "").lower():
            continue
        target = link(href, base)
        if target is not None:
            found.setdefault(target)
    return list(found)


def _canonical(root: Element, base: str, header: str, url: str) -> str:
    """The first one counts; several that differ are a mistake, as is one on another scheme."""
    given = [
        element.get("href") or ""
        for element in root.iter("link")
        if "canonical" in (element.get("rel") or "").lower().split()
    ]
    match = _CANONICAL.search(header)
    given += [match[1]] if match else []
    target = link(given[0], base) if given and given[0] else None
    return target if target is not None and target != url else ""


def _texts(root: Element) -> list[str]:
    """All text but scripts and styles."""
    found: list[str] = []
    for element in root.iter():
        if element.tag not in ("script", "style", "noscript", "template"):
            found.append(element.text or "")
        found.append(element.tail or "")
    return found


def _fingerprint(text: str) -> str:
    words = sorted(set(_WORD.findall(text.lower())))
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32] if words else ""
