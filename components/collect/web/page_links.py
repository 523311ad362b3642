"""Page facts that a crawl needs: links, canonical URL, robots directives, opt-outs, fingerprint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.collect.extraction.tree.html_tree import Element, parse_html
from components.collect.optouts.optout_policy import OptoutConfig, OptoutSignal
from components.collect.optouts.page_signals import parse_page_signals
from components.collect.warc.page_shards import WebPage
from components.collect.web.charset import decode_page, media_type_of
from components.collect.web.page_fingerprint import PageFingerprint, fingerprint_page
from components.collect.web.robots_directives import (
    directives_for,
    forbids_following,
    forbids_indexing,
)
from components.collect.web.unfollowed_links import NOFOLLOW, explain_unfollowed
from components.collect.web.urls import normalise_url, resolve_link

_CANONICAL = re.compile(
    r"<([^<>]{1,2000})>\s*;[^<]{0,200}\brel\s*=\s*\"?canonical\b", re.IGNORECASE
)
_TEXT_TYPES = ("text/plain", "text/markdown", "text/x-markdown")


@dataclass(frozen=True)
class PageFacts:
    """Facts of one page, read once, when it is fetched."""

    links: list[str] = field(default_factory=list)
    """URLs of its links, each once, in their order; none where the page forbids following."""
    canonical: str = ""
    """The page's canonical URL (RFC 6596), where it is another one."""
    noindex: bool = False
    fingerprint: PageFingerprint = field(default_factory=PageFingerprint)
    unfollowed: dict[str, str] = field(default_factory=dict)
    """Address of each link that is not followed, as it may be shown -> reason."""
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
    kind = headers.get("content-type", "")
    text = decode_page(body, kind)
    plain = not _is_html(kind)
    root = None if plain else _parse_tree(text, kind)
    directives = directives_for(headers.get("x-robots-tag", ""), {agent.lower()})
    signals = parse_page_signals(root, headers, url, optouts)
    if root is None:
        fingerprint = fingerprint_page(text if plain else "", url)
        return PageFacts([], "", forbids_indexing(directives), fingerprint, signals=signals)
    for meta in root.iter("meta"):
        if (meta.get("name") or "").strip().lower() in ("robots", agent.lower()):
            directives |= directives_for(meta.get("content") or "", {agent.lower()})
    base = _base_url(root, url)
    links, unfollowed = _links(root, base)
    if forbids_following(directives):
        links, unfollowed = [], {**dict.fromkeys(links, NOFOLLOW), **unfollowed}
    return PageFacts(
        links,
        _canonical(root, base, headers.get("link", ""), url),
        forbids_indexing(directives),
        fingerprint_page(" ".join(_visible_texts(root)), url),
        unfollowed,
        signals,
    )


def read_page_signals(page: WebPage, optouts: OptoutConfig) -> list[OptoutSignal]:
    """Read the opt-out signals of a page that was not crawled."""
    kind = page.content_type
    root = _parse_tree(decode_page(page.body, kind), kind) if _is_html(kind) else None
    return parse_page_signals(root, dict(page.headers), page.url, optouts)


def _parse_tree(text: str, content_type: str) -> Element | None:
    """Tree of a page; None for one built to be slow to parse, which extraction rejects by name."""
    try:
        return parse_html(text, is_xhtml="xhtml" in content_type.lower())
    except ValueError:
        return None


def _is_html(content_type: str) -> bool:
    return media_type_of(content_type) not in _TEXT_TYPES


def _base_url(root: Element, url: str) -> str:
    first = next((element.get("href") for element in root.iter("base")), None)
    return (normalise_url(first, url) if first else None) or url


def _links(root: Element, base: str) -> tuple[list[str], dict[str, str]]:
    """URLs of a page's links, each once; and address -> reason of those that are not followed."""
    links: dict[str, None] = {}
    unfollowed: dict[str, str] = {}
    for anchor in root.iter("a", "area"):
        href = anchor.get("href")
        if not href:
            continue
        target = resolve_link(href, base)
        if target is None:
            shown, reason = explain_unfollowed(href, base)
            unfollowed |= {shown: reason} if shown else {}
        elif "nofollow" in (anchor.get("rel") or "").lower():
            unfollowed[target] = NOFOLLOW
        else:
            links.setdefault(target)
    return list(links), {url: why for url, why in unfollowed.items() if url not in links}


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
