"""Page facts that a crawl needs: links, canonical URL, robots directives, opt-outs, fingerprint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.collect.extraction.tree.html_tree import Element, parse_html
from components.collect.optouts.optout_policy import OptoutConfig, OptoutSignal
from components.collect.optouts.page_signals import parse_page_signals
from components.collect.warc.page_shards import WebPage
from components.collect.web.charset import decode_page
from components.collect.web.media_types import HTML, XHTML, judge_media_type
from components.collect.web.robots_directives import (
    directives_for,
    forbids_following,
    forbids_indexing,
)
from components.collect.web.urls import normalise_url, resolve_link

_CANONICAL = re.compile(
    r"<([^<>]{1,2000})>\s*;[^<]{0,200}\brel\s*=\s*\"?canonical\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class PageFacts:
    """Facts of one page, read once, when it is fetched."""

    links: list[str] = field(default_factory=list)
    """URLs of its links, each once, in their order; none where the page forbids following."""
    canonical: str = ""
    """The page's canonical URL (RFC 6596), where it is another one."""
    noindex: bool = False
    words: str = ""
    """Fingerprint of the set of words on the page; empty for none."""
    signals: list[OptoutSignal] = field(default_factory=list)


def read_page_facts(
    body: bytes, url: str, headers: Mapping[str, str], agent: str, optouts: OptoutConfig
) -> PageFacts:
    """Read all facts of one fetched page.

    Args:
        body: The page, decompressed.
        url: Where it was fetched.
        headers: Its HTTP headers, names in lower case.
        agent: The crawler's product token, which robots directives may address.
        optouts: The opt-out policy.
    """
    content_type = headers.get("content-type", "")
    text = decode_page(body, content_type)
    kind = judge_media_type(content_type, body).media_type
    plain = not _is_html(kind)
    root = None if plain else _parse_tree(text, kind)
    directives = directives_for(headers.get("x-robots-tag", ""), {agent.lower()})
    signals = parse_page_signals(root, headers, url, optouts)
    if root is None:
        words = _fingerprint(text) if plain else ""
        return PageFacts([], "", forbids_indexing(directives), words, signals)
    for meta in root.iter("meta"):
        if (meta.get("name") or "").strip().lower() in ("robots", agent.lower()):
            directives |= directives_for(meta.get("content") or "", {agent.lower()})
    base = _base_url(root, url)
    return PageFacts(
        [] if forbids_following(directives) else _links(root, base),
        _canonical(root, base, headers.get("link", ""), url),
        forbids_indexing(directives),
        _fingerprint(" ".join(_visible_texts(root))),
        signals,
    )


def read_page_signals(page: WebPage, optouts: OptoutConfig) -> list[OptoutSignal]:
    """Read the opt-out signals of a page that was not crawled."""
    kind = judge_media_type(page.content_type, page.body).media_type
    text = decode_page(page.body, page.content_type) if _is_html(kind) else ""
    root = _parse_tree(text, kind) if text else None
    return parse_page_signals(root, dict(page.headers), page.url, optouts)


def _parse_tree(text: str, media_type: str) -> Element | None:
    """Tree of a page; None for one built to be slow to parse, which extraction rejects by name."""
    try:
        return parse_html(text, is_xhtml=media_type == XHTML)
    except ValueError:
        return None


def _is_html(media_type: str) -> bool:
    return media_type in (HTML, XHTML)


def _base_url(root: Element, url: str) -> str:
    first = next((element.get("href") for element in root.iter("base")), None)
    return (normalise_url(first, url) if first else None) or url


def _links(root: Element, base: str) -> list[str]:
    links: dict[str, None] = {}
    for anchor in root.iter("a", "area"):
        href = anchor.get("href")
        if not href or "nofollow" in (anchor.get("rel") or "").lower():
            continue
        target = resolve_link(href, base)
        if target is not None:
            links.setdefault(target)
    return list(links)


def _canonical(root: Element, base: str, header: str, url: str) -> str:
    """First canonical link of the page, else of the ``Link`` header; empty for its own URL."""
    candidates = [
        element.get("href") or ""
        for element in root.iter("link")
        if "canonical" in (element.get("rel") or "").lower().split()
    ]
    match = _CANONICAL.search(header)
    candidates += [match[1]] if match else []
    target = resolve_link(candidates[0], base) if candidates and candidates[0] else None
    return target if target is not None and target != url else ""


def _visible_texts(root: Element) -> list[str]:
    """Texts of all elements but scripts, styles and templates."""
    texts: list[str] = []
    for element in root.iter():
        if element.tag not in ("script", "style", "noscript", "template"):
            texts.append(element.text or "")
        texts.append(element.tail or "")
    return texts


def _fingerprint(text: str) -> str:
    words = sorted(set(_WORD.findall(text.lower())))
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32] if words else ""
