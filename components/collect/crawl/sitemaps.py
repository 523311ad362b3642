"""Sitemaps (sitemaps.org 0.9): lists of a site's pages, plain or gzipped, and indexes of lists."""

from __future__ import annotations

import html
import re
import zlib

from components.collect.crawl.robots_rules import Get, Rules, get_text
from components.collect.web.http_fetcher import Decoder
from components.collect.web.urls import host_of, link, normalise, origin

MAX_BYTES = 50 * 1024 * 1024
"""The largest that the protocol allows, unpacked."""
MAX_FILES = 100
"""Sitemaps of one site, indexes among them."""
_PLACE = re.compile(r"<(?:\w{1,20}:)?loc>")
_MAX_PLACE = 4096


async def read_sitemaps(url: str, rules: Rules, get: Get, limit: int) -> list[str]:
    """Page addresses of a site's sitemaps, in their order; an index of sitemaps is followed.

    A list that an index names has to lie on the index's host; robots.txt may name any.
    """
    waiting = rules.sitemaps() or [f"{origin(url)}/sitemap.xml"]
    seen: set[str] = set()
    pages: dict[str, None] = {}
    while waiting and len(seen) < MAX_FILES and len(pages) < limit:
        address = normalise(waiting.pop(0), url)
        if address is None or address in seen:
            continue
        seen.add(address)
        fetched = await get_text(address, MAX_BYTES, get)
        text = unpacked(fetched.body) if not fetched.reason else ""
        places = read_places(text, limit)
        if "sitemapindex" in text[:4096]:
            named = [normalise(place, address) for place in places]
            waiting += [n for n in named if n is not None and host_of(n) == host_of(address)]
            continue
        for place in places:
            page = link(place, address)
            if page is not None:
                pages.setdefault(page)
    return list(pages)[:limit]


def read_places(text: str, limit: int) -> list[str]:
    """Addresses in a sitemap's XML, or one a line in a plain text, in time linear in its length."""
    if not text.lstrip().startswith("<"):
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line.startswith(("http://", "https://"))][:limit]
    found: list[str] = []
    for match in _PLACE.finditer(text):
        if len(found) >= limit:
            break
        inside = text[match.end() : match.end() + _MAX_PLACE]
        place, end, _ = inside.partition("</")
        if end:
            place = place.strip().removeprefix("<![CDATA[").removesuffix("]]>")
            found.append(html.unescape(place.strip()))
    return found


def unpacked(body: bytes) -> str:
    """The text of a sitemap; empty where it is no good gzip."""
    if body.startswith(b"\x1f\x8b"):
        decoder = Decoder("gzip", MAX_BYTES)
        try:
            decoder.feed(body)
        except zlib.error:
            return ""
        body = bytes(decoder.body[:MAX_BYTES])
    return body.decode("utf-8", errors="replace")
