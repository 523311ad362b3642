"""Sitemaps (sitemaps.org 0.9): a site's lists of pages, indexes of lists, and feeds of pages.

A file is read by its root element: ``urlset``, ``sitemapindex``, RSS or Atom; one without markup
lists an address a line. What is broken is repaired by libxml2, as sitemaps are written by hand too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from lxml import etree

from components.collect.crawl.robots_rules import FetchText, RobotsRules, fetch_following_redirects
from components.collect.web.charset import decode_page
from components.collect.web.transfer.content_codings import ContentCodingError, decode_content
from components.collect.web.urls import host_of, normalise_url, origin_of, resolve_link
from components.core.log import get_logger

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
"""Largest size that the protocol allows, decompressed."""
MAX_SITEMAPS = 100
"""Sitemaps read of one site, indexes included."""
_CHUNK_BYTES = 65536
_BARE_AMPERSAND = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);)",
    re.IGNORECASE | re.DOTALL,
)
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32)])
_ENTRIES = frozenset({"url", "sitemap", "item", "entry"})
"""Elements that stand for one page or one sitemap."""


@dataclass
class SitemapFile:
    """Addresses that one sitemap lists, as they are written."""

    is_index: bool = False
    """True where they are those of other sitemaps."""
    locations: list[str] = field(default_factory=list)


async def fetch_sitemap_pages(
    url: str, rules: RobotsRules, fetch_text: FetchText, limit: int
) -> list[str]:
    """Fetch page URLs of a site's sitemaps, in their order, following sitemap indexes.

    A sitemap that an index names has to lie on the index's host; robots.txt may name any. Sitemaps
    beyond ``MAX_SITEMAPS`` are left unread with a warning.

    Args:
        url: Any URL of the site.
        rules: Its robots rules, which may name sitemaps.
        fetch_text: Fetches a text.
        limit: Page URLs to return, at most.
    """
    sitemap_queue = deque(rules.sitemap_urls() or [f"{origin_of(url)}/sitemap.xml"])
    seen: set[str] = set()
    pages: dict[str, None] = {}
    while sitemap_queue and len(pages) < limit:
        address = normalise_url(sitemap_queue.popleft(), url)
        if address is None or address in seen:
            continue
        if len(seen) == MAX_SITEMAPS:
            _warn_of_unread(origin_of(url), {address, *sitemap_queue} - seen)
            break
        seen.add(address)
        fetched = await fetch_following_redirects(address, MAX_SITEMAP_BYTES, fetch_text)
        if fetched.reason:
            continue
        try:
            sitemap = parse_sitemap(decode_sitemap(fetched.body), limit)
        except ValueError as error:
            get_logger(__name__).warning("%s: is not read as a sitemap: %s", address, error)
            continue
        if sitemap.is_index:
            nested = [normalise_url(location, address) for location in sitemap.locations]
            sitemap_queue += [n for n in nested if n is not None and host_of(n) == host_of(address)]
            continue
        for location in sitemap.locations:
            page = resolve_link(location, address)
            if page is not None:
                pages.setdefault(page)
    return list(pages)[:limit]


def _warn_of_unread(site: str, unread: set[str]) -> None:
    get_logger(__name__).warning(
        "%s: %d sitemaps were read, the most of one site; %d more that it names were not, %s among "
        "them; name them in scrape.seeds",
        site,
        MAX_SITEMAPS,
        len(unread),
        min(unread),
    )


def decode_sitemap(body: bytes) -> str:
    """Text of a sitemap, decompressed where it is gzip, as far as that can be read."""
    try:
        body = decode_content(body, "", MAX_SITEMAP_BYTES).body[:MAX_SITEMAP_BYTES]
    except ContentCodingError:
        return ""
    return decode_page(body)


def parse_sitemap(text: str, limit: int) -> SitemapFile:
    """Parse a sitemap, a feed or a list of lines, as far as it can be read, up to ``limit``.

    Raises:
        ValueError: it declares entities: no sitemap needs them, and nested ones expand without end.
    """
    text = text.lstrip()
    if not text.startswith("<"):
        lines = (line.strip() for line in text.splitlines())
        addresses = (line for line in lines if line.lower().startswith(("http://", "https://")))
        return SitemapFile(locations=list(islice(addresses, limit)))
    if "<!ENTITY" in text:
        raise ValueError("it declares entities")
    text = _BARE_AMPERSAND.sub(lambda match: "&amp;" if match[0] == "&" else match[0], text)
    content = text.translate(_CONTROLS).encode("utf-8", "replace")
    sitemap = SitemapFile()
    root = ""
    for event, element in _parse_events(content):
        if not root:
            root = _local_name(element)
            sitemap.is_index = root == "sitemapindex"
        if event == "end" and root != "html" and _local_name(element) in _ENTRIES:
            left = limit - len(sitemap.locations)
            sitemap.locations += islice(filter(None, _entry_addresses(element)), left)
        if len(sitemap.locations) >= limit:
            break
    return sitemap


def _parse_events(content: bytes) -> Iterator[tuple[str, Any]]:
    """(event, element) of a document, repaired where it is broken; entries are cleared behind."""
    parser: Any = etree.XMLPullParser(
        ("start", "end"),
        encoding="utf-8",
        recover=True,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )
    # A cut file ends in half an address; the parser would close it as if it were whole.
    is_cut = not content.rstrip().endswith(b">")
    for start in range(0, len(content), _CHUNK_BYTES):
        with suppress(etree.XMLSyntaxError):  # beyond repair, but what was read before is given
            parser.feed(content[start : start + _CHUNK_BYTES])
            if start + _CHUNK_BYTES >= len(content) and not is_cut:
                parser.close()
        for event, element in parser.read_events():
            yield event, element
            if event == "end" and _local_name(element) in _ENTRIES:
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]


def _entry_addresses(element: Any) -> Iterator[str]:
    """Addresses of a closed entry: ``loc`` and alternates, or ``link`` of a feed's entry."""
    for child in element.iterchildren(etree.Element):
        name = _local_name(child)
        relation = child.get("rel", "alternate").strip().lower()
        if name == "loc" or (name == "link" and not child.get("href")):
            yield (child.text or "").strip()
        elif name == "link" and relation == "alternate":
            yield child.get("href").strip()
        elif name == "guid" and child.get("isPermaLink", "true").lower() == "true":
            yield (child.text or "").strip()


def _local_name(element: Any) -> str:
    """Name of an element without its namespace or prefix, in lower case."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2].lower()
