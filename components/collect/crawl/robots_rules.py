"""Robots rules of a site: robots.txt (RFC 9309, parsed by Protego) with its crawl delay."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from components.collect.optouts.robots_groups import decode_site_file, extract_agent_rules
from components.collect.web.http_fetcher import FetchResult
from components.collect.web.transfer.http_message import has_page_status
from components.collect.web.urls import origin_of

MAX_ROBOTS_BYTES = 2 * 1024 * 1024
"""RFC 9309, section 2.5: at least 500 KiB have to be read, and a rule behind them is one too."""
MAX_REDIRECTS = 5
"""RFC 9309, section 2.3.1.2: at least five consecutive redirects are followed."""
FetchText = Callable[[str, int], Awaitable[FetchResult]]
"""Fetches a URL as text: (URL, largest number of bytes) -> response."""


@dataclass(frozen=True)
class RobotsRules:
    """One site's robots.txt."""

    protego: Protego | None
    """None where robots.txt cannot be read, so that nothing may be fetched."""
    reason: str
    """Why a page is not fetched that the rules forbid."""
    text: str = ""
    transient: bool = False
    """True where robots.txt could not be read and another try may read it."""

    def forbids_url(self, url: str, agent: str) -> bool:
        """True where ``agent`` may not fetch ``url``."""
        return self.protego is None or not self.protego.can_fetch(url, agent)

    def crawl_delay(self, agent: str) -> float:
        """Seconds between requests that the site asks for, by Crawl-delay or Request-rate."""
        if self.protego is None:
            return 0.0
        seconds = float(self.protego.crawl_delay(agent) or 0.0)
        rate = self.protego.request_rate(agent)
        if rate is not None and rate.requests > 0:
            seconds = max(seconds, rate.seconds / rate.requests)
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0

    def sitemap_urls(self) -> list[str]:
        """URLs of the sitemaps that robots.txt names."""
        return list(self.protego.sitemaps) if self.protego is not None else []


async def fetch_robots_rules(url: str, fetch_text: FetchText, agent: str) -> RobotsRules:
    """Fetch and parse the robots rules of a site.

    A missing robots.txt allows all; one that fails forbids all (RFC 9309, section 2.3.1).

    Args:
        url: Any URL of the site.
        fetch_text: Fetches a text.
        agent: The product token that the rules are read for.
    """
    fetched = await fetch_following_redirects(
        f"{origin_of(url)}/robots.txt", MAX_ROBOTS_BYTES, fetch_text
    )
    if has_page_status(fetched.status) and not fetched.reason:
        text = decode_site_file(fetched.body)
        return RobotsRules(
            Protego.parse(extract_agent_rules(text, agent)), "robots.txt forbids it", text
        )
    is_empty = fetched.status in (204, 205)  # a success (RFC 9309, section 2.3.1.1) without rules
    if is_empty or (400 <= fetched.status < 500 and fetched.status != 429):
        return RobotsRules(Protego.parse(""), "")
    reason = f"its robots.txt cannot be read: {fetched.reason or 'too many redirects'}"
    if fetched.status == 0:  # the site itself cannot be reached
        reason = fetched.reason
    return RobotsRules(None, reason, transient=fetched.transient)


async def fetch_following_redirects(url: str, limit: int, fetch_text: FetchText) -> FetchResult:
    """Fetch a text, following up to ``MAX_REDIRECTS`` redirects.

    Args:
        url: Where to begin.
        limit: Bytes to read at most.
        fetch_text: Fetches a text without following redirects.
    """
    fetched = await fetch_text(url, limit)
    for _ in range(MAX_REDIRECTS):
        if not fetched.location:
            break
        fetched = await fetch_text(fetched.location, limit)
    return fetched
