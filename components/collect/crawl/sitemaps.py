"""Sitemaps (sitemaps.org 0.9): a site's lists of pages, plain or gzipped, and indexes of lists."""

from __future__ import annotations

import html
import re

from components.collect.crawl.robots_rules import FetchText, RobotsRules, fetch_following_redirects
from components.collect.web.transfer.content_codings import ContentCodingError, decode_content
from components.collect.web.urls import host_of, normalise_url, origin_of, resolve_link

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
"""Largest size that the protocol allows, decompressed."""
MAX_SITEMAPS = 100
"""Sitemaps read of one site, indexes included."""
_LOC_TAG = re.compile(r"<(?:\w{1,20}:)?loc>")
_MAX_LOC = 4096


async def fetch_sitemap_pages(
    url: str, rules: RobotsRules, fetch_text: FetchText, limit: int
) -> list[str]:
    """Fetch page URLs of a site's sitemaps, in their order, following sitemap indexes.

    A sitemap that an index names has to lie on the index's host; robots.txt may name any.

    Args:
        url: Any URL of the site.
        rules: Its robots rules, which may name sitemaps.
        fetch_text: Fetches a text.
        limit: Page URLs to return, at most.
    """
    sitemap_queue = rules.sitemap_urls() or [f"{origin_of(url)}/sitemap.xml"]
    seen: set[str] = set()
    pages: dict[str, None] = {}
    while sitemap_queue and len(seen) < MAX_SITEMAPS and len(pages) < limit:
        address = normalise_url(sitemap_queue.pop(0), url)
        if address is None or address in seen:
            continue
        seen.add(address)
        fetched = await fetch_following_redirects(address, MAX_SITEMAP_BYTES, fetch_text)
        text = decode_sitemap(fetched.body) if not fetched.reason else ""
        locations = parse_sitemap_urls(text, limit)
        if "sitemapindex" in text[:4096]:
            nested = [normalise_url(location, address) for location in locations]
            sitemap_queue += [n for n in nested if n is not None and host_of(n) == host_of(address)]
            continue
        for location in locations:
            page = resolve_link(location, address)
            if page is not None:
                pages.setdefault(page)
    return list(pages)[:limit]


def parse_sitemap_urls(text: str, limit: int) -> list[str]:
    """Parse URLs of a sitemap, XML or one a line in plain text, in time linear in its length."""
    if not text.lstrip().startswith("<"):
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line.startswith(("http://", "https://"))][:limit]
    urls: list[str] = []
    for match in _LOC_TAG.finditer(text):
        if len(urls) >= limit:
            break
        content = text[match.end() : match.end() + _MAX_LOC]
        location, end, _ = content.partition("</")
        if end:
            location = location.strip().removeprefix("<![CDATA[").removesuffix("]]>")
            urls.append(html.unescape(location.strip()))
    return urls


def decode_sitemap(body: bytes) -> str:
    """Text of a sitemap, decompressed where it is gzip; empty where that is broken."""
    try:
        body = decode_content(body, "", MAX_SITEMAP_BYTES).body[:MAX_SITEMAP_BYTES]
    except ContentCodingError:
        return ""
    return body.decode("utf-8", errors="replace")
