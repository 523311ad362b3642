"""Addresses: one spelling each, and what a crawl may look at."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from components.collect.crawl.crawl_traps import goes_in_circles, without_session

MAX_LENGTH = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_PAGE = (
    ".7z .avi .bmp .bz2 .css .dmg .doc .docx .eps .exe .gif .gz .ico .iso .jar .jpeg .jpg .js .m4a "
    ".mov .mp3 .mp4 .mpeg .odt .ogg .pdf .png .ppt .pptx .ps .rar .rpm .svg .tar .tgz .tif .tiff "
    ".ttf .wav .webm .webp .whl .woff .woff2 .xls .xlsx .xz .zip .zst"
)
_NO_PAGE_SUFFIXES = tuple(_NO_PAGE.split())
_NO_HOST = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
"""What no host name holds (of the URL standard's forbidden host code points, those that get by)."""


@lru_cache(maxsize=1 << 16)
def normalise(url: str, base: str = "") -> str | None:
    """An absolute http(s) URL in one spelling, without fragment; None when it is none.

    Scheme and host are in lower case, a default port and dot segments are gone, an empty path is
    ``/``, and characters that no URL holds are percent-encoded. Logins in URLs are refused.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
        return None
    if _NO_HOST.search(host):
        return None
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        shown += f":{port}"
    path = quote(_without_dots(parts.path), safe="/%:@!$&'()*+,;=~-._") or "/"
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    whole = urlunsplit((parts.scheme, shown, path, query, ""))
    return whole if len(whole) <= MAX_LENGTH else None


def why_no_address(url: str) -> str:
    """What is wrong with an address that a user gave; empty where it is one. Shows no password."""
    if normalise(url) is not None:
        return ""
    scheme, mark, rest = url.strip().partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A password may hold the signs that end a host: all before the last @ may belong to it.
    shown = f"{scheme}://***@{rest.rpartition('@')[2]}" if mark and "@" in rest else url
    if mark and "@" in authority:
        return (
            f"{shown!r}: a login in an address is refused, as addresses are written into all that "
            "is made of the pages, and a crawl logs in nowhere; give such pages as scrape.files"
        )
    if mark and _NO_HOST.search(authority):
        return f"{shown!r}: its host holds a space or another unfit character"
    return f"{shown!r} is no http:// or https:// address"


def _without_dots(path: str) -> str:
    """A path without its dot segments (RFC 3986, section 5.2.4), spelled ``%2e`` too.

    A server would take them out; then robots rules would have been asked about another page.
    """
    if "." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    names = path.split("/")
    for at, name in enumerate(names):
        plain = name.lower().replace("%2e", ".")
        if plain not in (".", ".."):
            kept.append(name)
            continue
        if plain == ".." and len(kept) > 1:
            kept.pop()
        if at == len(names) - 1:
            kept.append("")  # what it names is a folder
    return "/".join(kept)


def link(href: str, page: str) -> str | None:
    """Where a link on ``page`` leads; None for no page: mail, scripts, images, archives, circles.

    Without session identifiers, so that a page has the same name whoever is shown it.
    """
    if href.startswith("#"):
        return None
    if href.startswith("/") and not href.startswith("//"):
        url = normalise(href, origin(page))
    else:
        url = normalise(href, page)
    if url is None or urlsplit(url).path.lower().endswith(_NO_PAGE_SUFFIXES):
        return None
    return None if goes_in_circles(url) else without_session(url)


@lru_cache(maxsize=1 << 12)
def origin(url: str) -> str:
    """``http://host:port`` of a normalised URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=1 << 12)
def host_of(url: str) -> str:
    """Host name of a normalised URL."""
    return urlsplit(url).hostname or ""
