"""What a site asks of crawlers: robots.txt (RFC 9309, read by Protego) with its crawl delay."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from components.collect.optouts.robots_groups import rules_for
from components.collect.web.http_fetcher import Fetched
from components.collect.web.urls import origin

MAX_ROBOTS_BYTES = 512 * 1024
"""RFC 9309, section 2.5: at least 500 KiB have to be read."""
MAX_REDIRECTS = 5
Get = Callable[[str, int], Awaitable[Fetched]]
"""Fetches an address as text, so many bytes of it."""


@dataclass(frozen=True)
class Rules:
    """One site's robots.txt."""

    protego: Protego | None
    """None where it cannot be read, so that nothing may be fetched."""
    reason: str
    """Why pages are not fetched."""
    text: str = ""
    transient: bool = False
    """Whether it may be read another time."""

    def forbids(self, url: str, agent: str) -> bool:
        """Whether ``agent`` may not fetch ``url``."""
        return self.protego is None or not self.protego.can_fetch(url, agent)

    def delay(self, agent: str) -> float:
        """Seconds the site asks to leave between two requests: Crawl-delay or Request-rate."""
        if self.protego is None:
            return 0.0
        asked = float(self.protego.crawl_delay(agent) or 0.0)
        rate = self.protego.request_rate(agent)
        if rate is not None and rate.requests > 0:
            asked = max(asked, rate.seconds / rate.requests)
        return asked if math.isfinite(asked) and asked > 0 else 0.0

    def sitemaps(self) -> list[str]:
        """Addresses of sitemaps it names."""
        return list(self.protego.sitemaps) if self.protego is not None else []


async def read_rules(url: str, get: Get, agent: str) -> Rules:
    """The rules of the site of ``url`` for ``agent``.

    No robots.txt allows all; one that fails forbids all (RFC 9309, section 2.3.1).
    """
    fetched = await get_text(f"{origin(url)}/robots.txt", MAX_ROBOTS_BYTES, get)
    if fetched.status == 200 and not fetched.reason:
        text = fetched.body.decode("utf-8", errors="replace")
        return Rules(Protego.parse(rules_for(text, agent)), "robots.txt forbids it", text)
    if 400 <= fetched.status < 500 and fetched.status != 429:
        return Rules(Protego.parse(""), "")
    reason = f"its robots.txt cannot be read: {fetched.reason or 'too many redirects'}"
    if fetched.status == 0:  # the site itself cannot be reached
        reason = fetched.reason
    return Rules(None, reason, transient=fetched.transient)


async def get_text(url: str, limit: int, get: Get) -> Fetched:
    """Fetch a text, and where a few redirects lead to."""
    fetched = await get(url, limit)
    for _ in range(MAX_REDIRECTS):
        if not fetched.location:
            break
        fetched = await get(fetched.location, limit)
    return fetched
