"""URL normalisation by the WHATWG's URL standard: one spelling for each URL that browsers know."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urlsplit

from ada_url import join_url, normalize_url

MAX_URL_CHARS = 2000
_SCHEMES = ("http://", "https://")
_HOST_PORT = re.compile(r"\A[^:\[\]]*:[^:]*\Z|\]:")
"""A host with a port; an IPv6 address has more than one colon."""
_NO_HOST = re.compile(r"[/?#@*\\\s]|\.\.")
_AUTHORITY = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?(\[[^\]]*\]|[^/?#:]*)(?::\d*)?(?:[/?#]|\Z)"
)
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")


@lru_cache(maxsize=1 << 16)
def normalise_url(url: str, base: str = "", codec: str = "utf-8") -> str | None:
    """Normalise an http(s) URL, relative to ``base``, without its fragment; None for no such URL.

    The spelling is that of a browser's request: hosts by IDNA (UTS 46), backslashes as slashes, dot
    segments resolved, percent-encoding as the author wrote it. Three things are stricter, since
    they make two addresses of one page: an empty query and the dot that ends a host's name are
    removed, and URLs with credentials are refused.

    Args:
        url: The address as it was written.
        base: The normalised URL it is relative to; empty where it has to be absolute.
        codec: Python's name for the charset of its page, in which a query is sent.
    """
    if not url.isascii():
        # Lone surrogates become the replacement character (Infra standard, scalar value strings).
        url = url.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        url = url if codec == "utf-8" else _encode_query(url, codec)
    try:
        href = join_url(base, url) if base else normalize_url(url)
    except ValueError:
        return None
    if not href.startswith(_SCHEMES):
        return None
    href = href.partition("#")[0].removesuffix("?")
    start = href.index("/") + 2
    end = href.index("/", start)
    authority = href[start:end]
    if "@" in authority:
        return None
    host, colon, port = authority.partition(":")
    if host.endswith("."):
        host = host.rstrip(".")
        href = f"{href[:start]}{host}{colon}{port}{href[end:]}"
    return href if host and len(href) <= MAX_URL_CHARS else None


def _encode_query(url: str, codec: str) -> str:
    """Percent-encode a query's characters in the charset of its page (URL standard, 4.4).

    Characters that the charset lacks become numeric references, as browsers send them.
    """
    address, mark, fragment = url.partition("#")
    path, question, query = address.partition("?")
    query = _NON_ASCII.sub(
        lambda part: quote(part[0].encode(codec, "xmlcharrefreplace"), safe=""), query
    )
    return f"{path}{question}{query}{mark}{fragment}"


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
    if len(url) > MAX_URL_CHARS:
        return f"{shown[:80]!r}…: longer than {MAX_URL_CHARS} characters"
    if authority and scheme.lower() in ("http", "https"):
        return (
            f"{shown!r}: its host contains a space or another forbidden character, or its port is "
            "above 65535"
        )
    return f"{shown!r} is not an http:// or https:// address"


def resolve_link(href: str, page: str, codec: str = "utf-8") -> str | None:
    """Resolve a link on ``page``; None where it leads to no other page (mail, scripts, anchors).

    Args:
        href: The link as it was written.
        page: URL of the page, or its base.
        codec: Python's name for the page's charset.
    """
    if href.startswith("#"):
        return None
    if href.startswith("/") and not href.startswith("//"):
        return normalise_url(href, origin_of(page), codec)
    return normalise_url(href, page, codec)


@lru_cache(maxsize=1 << 12)
def origin_of(url: str) -> str:
    """Origin (``http://host:port``) of a normalised URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=1 << 12)
def host_of(url: str) -> str:
    """Host name of a normalised URL."""
    return urlsplit(url).hostname or ""


def read_host(name: str) -> str:
    """Host as addresses have it, of a name as a user writes it; empty for anything but a host.

    Names are put into IDNA, lower case and without a dot at the end; IPv6 may go without brackets.
    """
    name = name.strip()
    if _HOST_PORT.search(name) or _NO_HOST.search(name) or name.startswith("."):
        return ""
    bare = name.removeprefix("[").removesuffix("]")
    url = normalise_url(f"http://[{bare}]/" if ":" in bare else f"http://{bare}/")
    return host_of(url) if url is not None else ""


def explain_bad_host(name: str) -> str:
    """Explain why a user's text is no host; empty where it is one. Shows no password."""
    if read_host(name):
        return ""
    shown = f"***@{name.rpartition('@')[2]}" if "@" in name else name
    address = name if "://" in name else f"http://{name}"
    parts = _AUTHORITY.match(address.strip())
    host = read_host(parts[1]) if parts else ""
    if host and "*" not in name:
        return f"{shown!r}: a host alone is needed, without scheme, port and path: {host}"
    if "*" in name or name.strip().startswith("."):
        return f"{shown!r}: there are no patterns here; name each host, as in www.acme.example"
    return f"{shown!r} is not the name of a host, as in www.acme.example"
