"""Cookies that sites set on the way, kept for one crawl.

A cookie is a line of a Netscape cookie file, parsed and matched by libcurl. What the pages of a
wave set is sent from the next wave on: which pages are fetched at the same moment differs from
crawl to crawl, and a crawl that goes on after a kill has to see what the first try saw.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from urllib.parse import unquote, urlsplit

from components.collect.web.http_fetcher import FetchResult
from components.collect.web.urls import host_of

MAX_COOKIES_PER_DOMAIN = 180
"""As in browsers; RFC 6265, section 6.1 asks for 50 at least."""
_MAX_WALL_ROUNDS = 3
"""Requests that a page which asks for cookies is given besides the first."""
_MAX_WALL_BYTES = 32_768
"""Largest page that is taken for a request to accept cookies."""
_ASKS_FOR_COOKIES = re.compile(rb"cookie", re.IGNORECASE)
_HTTP_ONLY = "#HttpOnly_"
FetchWithCookies = Callable[[str, Sequence[str]], Awaitable[FetchResult]]
"""(URL, cookies) -> response."""


class CookieJar:
    """Cookies by domain; those that ``note_cookies`` collects count from ``begin_wave`` on."""

    def __init__(self) -> None:
        self._domains: dict[str, dict[tuple[str, ...], str]] = {}
        self._noted: dict[str, tuple[str, ...]] = {}

    def note_cookies(self, url: str, lines: Iterable[str]) -> None:
        """Note the cookies that the response of a page set."""
        if noted := tuple(lines):
            self._noted[url] = noted

    def begin_wave(self) -> None:
        """Let the noted cookies count, in the order of their pages' URLs."""
        for url in sorted(self._noted):
            for line in self._noted[url]:
                fields = line.removeprefix(_HTTP_ONLY).split("\t")
                cookies = self._domains.setdefault(fields[0].lstrip(".").lower(), {})
                cookies[fields[2], fields[5]] = line
                while len(cookies) > MAX_COOKIES_PER_DOMAIN:
                    del cookies[next(iter(cookies))]
        self._noted.clear()

    def cookies_for(self, url: str) -> list[str]:
        """Cookies of a URL's host and of the domains above it, for libcurl to choose from."""
        labels = host_of(url).split(".")
        domains = (".".join(labels[at:]) for at in range(len(labels)))
        return [line for name in domains for line in self._domains.get(name, {}).values()]


async def fetch_through_cookie_walls(
    url: str, cookies: Sequence[str], fetch: FetchWithCookies
) -> FetchResult:
    """Fetch a page, and again with the cookies that it sets where it waits for them.

    It does so where it redirects to itself, at once or by way of a page that sets the cookie, and
    where it is short, sets a cookie and speaks of cookies.

    Args:
        url: The page.
        cookies: Cookies to choose from.
        fetch: Fetches a URL with cookies.
    """
    fetched = await fetch(url, cookies)
    all_new = fetched.cookies
    for _ in range(_MAX_WALL_ROUNDS):
        way = _way_behind_wall(url, fetched)
        if not way:
            break
        for address in way:
            following = await fetch(address, [*cookies, *all_new])
            all_new = tuple(dict.fromkeys((*all_new, *following.cookies)))
            if address != url and following.location != url:
                return fetched  # it leads elsewhere: the crawl goes on from the first response
        if following.reason:
            break
        fetched = following
    fetched.cookies = all_new
    return fetched


def _way_behind_wall(url: str, fetched: FetchResult) -> list[str]:
    """Addresses to ask next with the response's cookies, the page last; none for no wall."""
    if not fetched.cookies or fetched.reason:
        return []
    target = fetched.location
    if target is not None:
        return [url] if target == url else [target, url] if _names_return(target, url) else []
    is_short = len(fetched.body) <= _MAX_WALL_BYTES
    return [url] if is_short and _ASKS_FOR_COOKIES.search(fetched.body) else []


def _names_return(target: str, url: str) -> bool:
    """True where a redirect's target holds the address to come back to."""
    path = urlsplit(url).path
    query = unquote(urlsplit(target).query)
    return host_of(target) == host_of(url) and len(path) > 1 and path in query
