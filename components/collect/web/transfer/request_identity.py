"""Headers, cookies, proxy and authorities of a crawl's own, and the sites they are sent to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from components.core.config.env_references import is_secret, list_references

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Token of RFC 9110, section 5.6.2."""
COOKIE_NAME = HEADER_NAME
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED_HEADERS = {
    "cookie": "set scrape.cookies",
    "user-agent": "set scrape.user_agent",
    "proxy-authorization": "write the login into scrape.proxy",
    **dict.fromkeys(
        (
            "accept-encoding",
            "connection",
            "content-length",
            "expect",
            "host",
            "if-modified-since",
            "if-none-match",
            "range",
            "te",
            "transfer-encoding",
            "upgrade",
        ),
        "the crawl sets it itself",
    ),
}
"""Header -> the way on for a user who wants to set it."""
_PROXY_SCHEMES = ("http", "https", "socks5h")
Site = tuple[str, str]
"""(scheme, host)."""


@dataclass(frozen=True)
class RequestIdentity:
    """Values that a user adds to requests, secrets included: none of it may be written anywhere."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str = field(default="", repr=False)
    ca_file: str = ""
    sites: frozenset[Site] = frozenset()
    """Sites that headers and cookies are sent to; a redirect to another site gets none."""

    def headers_for(self, url: str) -> dict[str, str]:
        """Headers of a request."""
        return dict(self.headers) if self._knows_site(url) else {}

    def cookies_for(self, url: str) -> list[str]:
        """Cookies of a request, as lines of a Netscape cookie file."""
        if not self.cookies or not self._knows_site(url):
            return []
        host = urlsplit(url).hostname or ""
        return [f"{host}\tFALSE\t/\tFALSE\t0\t{name}\t{v}" for name, v in self.cookies.items()]

    def _knows_site(self, url: str) -> bool:
        parts = urlsplit(url)
        return (parts.scheme, parts.hostname or "") in self.sites


def explain_bad_header(name: str, value: str) -> str:
    """Explain why a user's header cannot be sent; empty where it can. Shows no value."""
    if not HEADER_NAME.fullmatch(name):
        return f"{name!r} is no name of a header"
    way_on = _RESERVED_HEADERS.get(name.lower())
    if way_on:
        return f"{name} cannot be set here: {way_on}"
    if _CONTROL.search(value):
        return f"the value of {name} holds a line break or another control character"
    if is_secret(name.replace("-", "_"), "") or name.lower() == "authorization":
        return _explain_open_secret(f"the value of {name}", value)
    return ""


def explain_bad_cookie(name: str, value: str) -> str:
    """Explain why a user's cookie cannot be sent; empty where it can. Shows no value."""
    if not COOKIE_NAME.fullmatch(name):
        return f"{name!r} is no name of a cookie"
    if _CONTROL.search(value) or ";" in value:
        return f"the value of {name} holds a semicolon or a control character"
    return _explain_open_secret(f"the value of {name}", value)


def explain_bad_proxy(proxy: str) -> str:
    """Explain why a proxy cannot be used; empty where it can. Shows no password."""
    if not proxy or proxy.startswith("${"):
        return ""
    scheme, mark, rest = proxy.partition("://")
    if not mark or scheme.lower() not in _PROXY_SCHEMES or not rest or _CONTROL.search(proxy):
        return (
            f"not the address of a proxy: {', '.join(f'{s}://HOST:PORT' for s in _PROXY_SCHEMES)}"
        )
    return _explain_open_secret("a login", proxy) if "@" in rest else ""


def _explain_open_secret(what: str, value: str) -> str:
    """Refusal of a secret that stands in the config itself, which records would show."""
    if any(list_references(value)):
        return ""
    way_on = "name a variable of the environment, ${NAME}"
    return f"{what} is a secret, which records would show: {way_on}"
