"""What a site asks of crawlers: robots.txt (RFC 9309), robots headers and meta elements."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from components.collect.fetch import Fetched
from components.collect.urls import link, normalise, origin

MAX_ROBOTS_BYTES = 512 * 1024
MAX_SITEMAP_BYTES = 50 * 1024 * 1024
MAX_REDIRECTS = 5
_LOCATION = re.compile(r"<loc>\s*(?:<!\[CDATA\[)?\s*(.*?)\s*(?:\]\]>)?\s*</loc>", re.DOTALL)
Get = Callable[[str], Awaitable[Fetched]]


@dataclass(frozen=True)
class Rules:
    """One site's robots.txt."""

    protego: Protego | None
    """None where it cannot be read, so that nothing may be fetched."""
    reason: str
    """Why pages are not fetched."""

    def forbids(self, url: str, agent: str) -> bool:
        """Whether ``agent`` may not fetch ``url``."""
        return self.protego is None or not self.protego.can_fetch(url, agent)

    def delay(self, agent: str) -> float:
        """Seconds the site asks to leave between two requests."""
        asked = self.protego.crawl_delay(agent) if self.protego is not None else None
        return float(asked or 0.0)

    def sitemaps(self) -> list[str]:
        """Addresses of sitemaps it names."""
        return list(self.protego.sitemaps) if self.protego is not None else []


async def read_rules(url: str, get: Get) -> Rules:
    """The rules of the site of ``url``. No robots.txt allows all; one that fails forbids all."""
    start = f"{origin(url)}/robots.txt"
    fetched, at = await get(start), start
    for _ in range(MAX_REDIRECTS):
        if not fetched.location:
            break
        at = fetched.location
        fetched = await get(at)
    if fetched.status == 200 and not fetched.reason:
        text = fetched.body[:MAX_ROBOTS_BYTES].decode("utf-8", errors="replace")
        return Rules(Protego.parse(text), "robots.txt forbids it")
    if 400 <= fetched.status < 500 and fetched.status != 429:
        return Rules(Protego.parse(""), "")
    if fetched.status == 0:  # the site itself cannot be reached
        return Rules(None, fetched.reason)
    return Rules(None, f"its robots.txt cannot be read: {fetched.reason or 'too many redirects'}")


async def read_sitemaps(url: str, rules: Rules, get: Get, limit: int) -> list[str]:
    """Page addresses of a site's sitemaps, in their order; an index of sitemaps is followed."""
    waiting = rules.sitemaps() or [f"{origin(url)}/sitemap.xml"]
    seen: set[str] = set()
    pages: dict[str, None] = {}
    while waiting and len(seen) < 100 and len(pages) < limit:
        address = normalise(waiting.pop(0), url)
        if address is None or address in seen:
            continue
        seen.add(address)
        fetched = await get(address)
        text = _unpacked(fetched.body) if not fetched.reason else ""
        found = [_unescape(place) for place in _LOCATION.findall(text)]
        if "<sitemapindex" in text:
            waiting.extend(found)
            continue
        for place in found:
            page = link(place, address)
            if page is not None:
                pages.setdefault(page)
    return list(pages)[:limit]


def _unpacked(body: bytes) -> str:
    if body.startswith(b"\x1f\x8b"):
        try:
            body = zlib.decompressobj(31).decompress(body, MAX_SITEMAP_BYTES)
        except zlib.error:
            return ""
    return body.decode("utf-8", errors="replace")


def _unescape(text: str) -> str:
    return text.replace("&amp;", "&").replace("&apos;", "'").replace("&quot;", '"')


def forbids_indexing(directives: str) -> bool:
    """Whether a robots header or meta element says ``noindex`` or ``none``, to everyone."""
    words = {word.strip().lower() for word in directives.split(",")}
    return bool(words & {"noindex", "none"})


def forbids_following(directives: str) -> bool:
    """Whether it says ``nofollow`` or ``none``."""
    words = {word.strip().lower() for word in directives.split(",")}
    return bool(words & {"nofollow", "none"})
