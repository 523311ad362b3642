"""Pages that wait for their cookies: asked for once more with the cookies that they set.

A page that redirects to itself, at once or by way of a page that sets the cookie, is gone after as
browsers do. One that says in a line or two that cookies are needed, and sets one that the request
did not have, is asked for once more. Banners on pages with something to read are none of these.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from components.collect.web.cookie_jar import cookie_name, is_deletion, merge_cookies
from components.collect.web.http_fetcher import FetchResult
from components.collect.web.urls import host_of

_MAX_ROUNDS = 3
"""Times that a page may send its reader back to itself with another cookie."""
_MAX_WALL_CHARS = 32_768
"""Longest page, with its scripts, that is taken for a request to accept cookies."""
_MAX_SAID_CHARS = 300
"""Longest text of one: what needs more to be said is there to be read."""
_NAMES_COOKIES = re.compile("cookie|куки|クッキー|쿠키", re.IGNORECASE)
FetchWithCookies = Callable[[str, Sequence[str]], Awaitable[FetchResult]]
"""(URL, cookies) -> response."""


def asks_for_cookies(source: str, visible: str, links: Sequence[str], url: str) -> bool:
    """True for a page that says little, names cookies, and leads nowhere else.

    Args:
        source: The page's source.
        visible: Its text.
        links: Its links.
        url: Its address.
    """
    is_short = len(source) <= _MAX_WALL_CHARS and len(visible) <= _MAX_SAID_CHARS
    return is_short and set(links) <= {url} and bool(_NAMES_COOKIES.search(source))


@dataclass(frozen=True)
class CookieWall:
    """Response of a page that may wait for its cookies."""

    url: str
    location: str | None
    """Target of its redirect."""
    cookies: Sequence[str]
    """Cookies that it set or deleted."""
    asks: bool
    """True where its text asks for cookies (``asks_for_cookies``)."""

    def way_behind(self, sent: Sequence[str]) -> list[str]:
        """Addresses to ask next with the page's cookies, the page last; none for no wall.

        Args:
            sent: Cookies of the request.
        """
        new = [line for line in self.cookies if not is_deletion(line)]
        if not new:
            return []
        target = self.location
        if target is not None:
            way = [target, self.url] if _names_return(target, self.url) else []
            return [self.url] if target == self.url else way
        # A value that changes with each response opens nothing: the name was sent already.
        has_new_name = {cookie_name(line) for line in new} - {cookie_name(line) for line in sent}
        return [self.url] if self.asks and has_new_name else []


@dataclass
class WallPassage:
    """Outcome of a try to get behind a wall."""

    fetched: FetchResult | None = None
    """The page behind it; None where the first response stands."""
    requests: int = 0
    cookies: tuple[str, ...] = ()
    """Cookies set or deleted on the way, those of the first response included."""


async def pass_cookie_wall(
    wall: CookieWall, sent: Sequence[str], fetch: FetchWithCookies, most: int
) -> WallPassage:
    """Fetch the page behind a wall, with the cookies that it sets.

    Args:
        wall: The first response.
        sent: Cookies of its request.
        fetch: Fetches a URL with cookies.
        most: Requests to make, at most.
    """
    passage = WallPassage(cookies=tuple(wall.cookies))
    current, cookies = wall, list(sent)
    for _ in range(_MAX_ROUNDS):
        way = current.way_behind(cookies)
        if not way or passage.requests + len(way) > most:
            break
        for address in way:
            cookies = merge_cookies(sent, passage.cookies)
            fetched = await fetch(address, cookies)
            passage.requests += 1
            passage.cookies = tuple(dict.fromkeys((*passage.cookies, *fetched.cookies)))
            if address != wall.url and fetched.location != wall.url:
                return passage  # it leads elsewhere: the crawl goes on from the first response
        if fetched.reason:
            break
        passage.fetched = fetched
        current = CookieWall(wall.url, fetched.location, fetched.cookies, asks=False)
    return passage


def _names_return(target: str, url: str) -> bool:
    """True where a redirect's target holds the address to come back to."""
    path = urlsplit(url).path
    query = unquote(urlsplit(target).query)
    return host_of(target) == host_of(url) and len(path) > 1 and path in query
