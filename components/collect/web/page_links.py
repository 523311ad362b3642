"""Page facts that a crawl needs: links, refresh, canonical URL, directives, opt-outs, words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.collect.extraction.tree.html_tree import Element, parse_html
from components.collect.optouts.optout_policy import OptoutConfig, OptoutSignal
from components.collect.optouts.page_signals import parse_page_signals
from components.collect.warc.page_shards import WebPage
from components.collect.web.charset import decode_page, decode_with_codec
from components.collect.web.cookie_walls import asks_for_cookies
from components.collect.web.media_types import HTML, XHTML, judge_media_type
from components.collect.web.named_links import (
    NOFOLLOW,
    decode_utf8_header,
    explain_unfollowed,
    read_header_links,
    read_links,
)
from components.collect.web.page_fingerprint import PageFingerprint, fingerprint_page
from components.collect.web.refresh import parse_refresh
from components.collect.web.robots_directives import (
    directives_for,
    forbids_following,
    forbids_indexing,
)
from components.collect.web.urls import normalise_url, resolve_link

_CANONICAL = re.compile(
    r"<([^<>]{1,2000})>\s*;[^<]{0,200}\brel\s*=\s*\"?canonical\b", re.IGNORECASE
)
_META_NAMES = ("name", "property", "http-equiv")
_MAX_REDIRECT_SECONDS = 10
_MAX_REDIRECT_CHARS = 200
"""A page that says no more than this before it goes on, "you are being redirected", is no page."""


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
    refresh: str = ""
    """URL that the page sends its readers on to; empty for a page that is there to be read."""
    signals: list[OptoutSignal] = field(default_factory=list)
    asks_for_cookies: bool = False
    """True for a page that says little more than that it wants cookies."""


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
    decoded = decode_with_codec(body, content_type)
    kind = judge_media_type(content_type, body).media_type
    plain = not _is_html(kind)
    root = None if plain else _parse_tree(decoded.text, kind)
    directives = directives_for(headers.get("x-robots-tag", ""), {agent.lower()})
    signals = parse_page_signals(root, headers, url, optouts)
    header_links = read_header_links(decode_utf8_header(headers.get("link", "")), url)
    if root is None:
        is_nofollow = forbids_following(directives)
        fingerprint = fingerprint_page(decoded.text if plain else "", url)
        return PageFacts(
            links=[] if is_nofollow else header_links,
            unfollowed=dict.fromkeys(header_links, NOFOLLOW) if is_nofollow else {},
            noindex=forbids_indexing(directives),
            fingerprint=fingerprint,
            signals=signals,
            asks_for_cookies=plain and asks_for_cookies(decoded.text, decoded.text, [], url),
        )
    for meta in root.iter("meta"):
        # The name belongs into ``name``; an owner who wrote it elsewhere meant the same.
        names = {(meta.get(key) or "").strip().lower() for key in _META_NAMES}
        if names & {"robots", "x-robots-tag", agent.lower()}:
            directives |= directives_for(meta.get("content") or "", {agent.lower()})
    base = _base_url(root, url)
    visible = " ".join(" ".join(_visible_texts(root)).split())
    links, unfollowed = read_links(root, base, url, decoded.codec)
    links += [link for link in header_links if link not in links]
    seconds, refresh, refused = _meta_refresh(root, base, url, decoded.codec)
    unfollowed |= refused
    is_wall = asks_for_cookies(decoded.text, visible, links, url)
    is_nofollow = forbids_following(directives)
    if is_nofollow or seconds > _MAX_REDIRECT_SECONDS or len(visible) > _MAX_REDIRECT_CHARS:
        links, refresh = [*links, *({refresh} - {"", *links})], ""
    if is_nofollow:
        links, unfollowed = [], {**dict.fromkeys(links, NOFOLLOW), **unfollowed}
    return PageFacts(
        links,
        _canonical(root, base, headers.get("link", ""), url),
        forbids_indexing(directives),
        fingerprint_page(visible, url),
        unfollowed,
        refresh,
        signals,
        is_wall,
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
    """Base of the page's links: of the first ``base`` with an address, where that is a good one."""
    addresses = (element.get("href") for element in root.iter("base"))
    first = next((address for address in addresses if address is not None), None)
    return (normalise_url(first, url) if first is not None else None) or url


def _meta_refresh(
    root: Element, base: str, url: str, codec: str
) -> tuple[float, str, dict[str, str]]:
    """(seconds, URL) of the page's refresh; an empty URL for none, and for the page itself.

    Beside them address -> reason of one that cannot be followed.
    """
    for meta in root.iter("meta"):
        if (meta.get("http-equiv") or "").strip().lower() != "refresh":
            continue
        refresh = parse_refresh(meta.get("content") or "")
        # Readers with scripts, which is nearly all of them, do not see what ``noscript`` holds.
        if refresh is None or any(parent.tag == "noscript" for parent in meta.iterancestors()):
            continue
        target = resolve_link(refresh[1], base, codec) if refresh[1] else None
        if target is None:
            shown, reason = explain_unfollowed(refresh[1], base)
            return refresh[0], "", {shown: reason} if shown else {}
        return refresh[0], target if target != url else "", {}
    return 0.0, "", {}


def _canonical(root: Element, base: str, header: str, url: str) -> str:
    """First canonical link of the page, else of the ``Link`` header; empty for its own URL."""
    candidates = [
        element.get("href") or ""
        for element in root.iter("link")
        if "canonical" in (element.get("rel") or "").lower().split()
    ]
    match = _CANONICAL.search(decode_utf8_header(header))
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
