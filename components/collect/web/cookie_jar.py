"""Cookies that sites set on the way, kept for one crawl.

A cookie is a line of a Netscape cookie file, parsed and matched by libcurl. One that a site deletes
is a line whose time is over, which takes the cookie of the same domain, path and name away. What
the pages of a wave set is sent from the next wave on: which pages are fetched at the same moment
differs from crawl to crawl, and a crawl that goes on after a kill has to see what the first try
saw.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from components.collect.web.urls import host_of

MAX_COOKIES_PER_DOMAIN = 180
"""As in browsers; RFC 6265, section 6.1 asks for 50 at least."""
_HTTP_ONLY = "#HttpOnly_"
_EXPIRES = 4
_OVER = "1"
"""Time of a deleted cookie, in seconds of the epoch: libcurl takes 0 for one of the session."""
_SHORT_YEAR = re.compile(
    r";\s*expires\s*=\s*\"?((?:[A-Za-z]+,\s*)?\d{1,2}[ -][A-Za-z]{3}[ -]\d\d [^;]*)", re.IGNORECASE
)
_MAX_AGE = re.compile(r";\s*max-age\s*=", re.IGNORECASE)
"""An age in seconds comes before a date (RFC 6265, section 5.3)."""
CookieName = tuple[str, str, str]
"""(domain, path, name): cookies that share it replace each other (RFC 6265, section 5.3)."""


def cookie_name(line: str) -> CookieName:
    """Identity of a cookie, without its value."""
    fields = line.removeprefix(_HTTP_ONLY).split("\t")
    return fields[0].lstrip(".").lower(), fields[2], fields[5]


def delete_cookie(line: str) -> str:
    """Line that deletes a cookie."""
    fields = line.split("\t")
    return "\t".join([*fields[:_EXPIRES], _OVER, fields[5], ""])


def is_deletion(line: str) -> bool:
    """True for a line that deletes a cookie."""
    return line.split("\t")[_EXPIRES] == _OVER


def is_over(set_cookie: str) -> bool:
    """True for a ``Set-Cookie`` header with a year of two digits that is past.

    libcurl reads no such year; servers delete cookies by ``01-Jan-70`` (RFC 6265, section 5.1.1).
    """
    match = _SHORT_YEAR.search(set_cookie)
    if match is None or _MAX_AGE.search(set_cookie):
        return False
    try:
        moment = email.utils.parsedate_to_datetime(match[1])
    except ValueError:
        return False
    return moment.replace(tzinfo=moment.tzinfo or UTC) < datetime.now(UTC)


def find_changes(
    sent: Sequence[str], left: Sequence[str], expired: Collection[str] = ()
) -> list[str]:
    """Lines of the cookies that a response set or deleted, sorted.

    Args:
        sent: Cookies that libcurl was given for the request.
        left: Cookies that it holds after the response.
        expired: Names of cookies among the new ones that are over (``is_over``).
    """
    known = {(cookie_name(line), line.rpartition("\t")[2]) for line in sent}
    new = [line for line in left if (cookie_name(line), line.rpartition("\t")[2]) not in known]
    over = {line for line in new if cookie_name(line)[2] in expired}
    names = {cookie_name(line) for line in left if line not in over}
    new = [line for line in new if line not in over]
    deleted = [delete_cookie(line) for line in sent if cookie_name(line) not in names]
    return sorted({*new, *deleted})


def merge_cookies(lines: Sequence[str], changes: Iterable[str]) -> list[str]:
    """Cookies after changes, in their order."""
    cookies = {cookie_name(line): line for line in lines}
    for line in changes:
        cookies.pop(cookie_name(line), None)
        if not is_deletion(line):
            cookies[cookie_name(line)] = line
    return list(cookies.values())


class CookieJar:
    """Cookies by domain; those that ``note_cookies`` collects count from ``begin_wave`` on."""

    def __init__(self) -> None:
        self._domains: dict[str, dict[CookieName, str]] = {}
        self._noted: dict[str, tuple[str, ...]] = {}

    def note_cookies(self, url: str, lines: Iterable[str]) -> None:
        """Note the cookies that the response of a page set or deleted."""
        if noted := tuple(lines):
            self._noted[url] = noted

    def begin_wave(self) -> None:
        """Let the noted cookies count, in the order of their pages' URLs."""
        for url in sorted(self._noted):
            for line in self._noted[url]:
                name = cookie_name(line)
                cookies = self._domains.setdefault(name[0], {})
                if is_deletion(line):
                    cookies.pop(name, None)
                    continue
                cookies[name] = line
                while len(cookies) > MAX_COOKIES_PER_DOMAIN:
                    del cookies[next(iter(cookies))]
        self._noted.clear()

    def cookies_for(self, url: str) -> list[str]:
        """Cookies of a URL's host and of the domains above it, for libcurl to choose from."""
        labels = host_of(url).split(".")
        domains = (".".join(labels[at:]) for at in range(len(labels)))
        return [line for name in domains for line in self._domains.get(name, {}).values()]
