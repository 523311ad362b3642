"""URL normalisation: one spelling for each URL, and the links that a crawl may follow."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

MAX_URL_CHARS = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORBIDDEN_IN_HOST = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
"""Forbidden host code points (URL standard) that ``urlsplit`` lets pass."""


@lru_cache(maxsize=1 << 16)
def normalise_url(url: str, base: str = "") -> str | None:
    """Normalise an http(s) URL, relative to ``base``, without its fragment; None for no such URL.

    Scheme and host are in lower case, a default port and dot segments are removed, an empty path is
    ``/``, and characters that no URL holds are percent-encoded. URLs with credentials are refused.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
        return None
    if _FORBIDDEN_IN_HOST.search(host):
        return None
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        shown += f":{port}"
    path = quote(_remove_dot_segments(parts.path), safe="/%:@!$&'()*+,;=~-._") or "/"
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    whole = urlunsplit((parts.scheme, shown, path, query, ""))
    return whole if len(whole) <= MAX_URL_CHARS else None


def explain_bad_url(url: str) -> str:
    """Explain why a user's URL cannot be crawled; empty where it can. Shows no password."""
    if normalise_url(url) is not None:
        return ""
    scheme, mark, rest = url.strip().partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A password may hold the characters that end a host: all before the last @ may belong to it.
    shown = f"{scheme}://***@{rest.rpartition('@')[2]}" if mark and "@" in rest else url
    if mark and "@" in authority:
        return (
            f"{shown!r}: a login in an address is refused, since addresses are written into "
            "everything made from the pages, and a crawl never logs in; download such pages and "
            "give them as scrape.files"
        )
    if mark and _FORBIDDEN_IN_HOST.search(authority):
        return f"{shown!r}: its host contains a space or another forbidden character"
    return f"{shown!r} is not an http:// or https:// address"


def _remove_dot_segments(path: str) -> str:
    """Path without its dot segments (RFC 3986, section 5.2.4), those spelled ``%2e`` included.

    A server would remove them, so robots rules would have been consulted about another page.
    """
    if "." not in path and "%2" not in path:
        return path
    segments: list[str] = []
    names = path.split("/")
    for index, name in enumerate(names):
        plain = name.lower().replace("%2e", ".")
        if plain not in (".", ".."):
            segments.append(name)
            continue
        if plain == ".." and len(segments) > 1:
            segments.pop()
        if index == len(names) - 1:
            segments.append("")  # a final dot segment names a folder
    return "/".join(segments)


def resolve_link(href: str, page: str) -> str | None:
    """Resolve a link on ``page``; None where it leads to no page (mail, scripts, the page)."""
    if href.startswith("#"):
        return None
    if href.startswith("/") and not href.startswith("//"):
        return normalise_url(href, origin_of(page))
    return normalise_url(href, page)


@lru_cache(maxsize=1 << 12)
def origin_of(url: str) -> str:
    """Origin (``http://host:port``) of a normalised URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=1 << 12)
def host_of(url: str) -> str:
    """Host name of a normalised URL."""
    return urlsplit(url).hostname or ""
