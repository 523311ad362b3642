"""Addresses that a page names: links, frames, series, other languages, in HTML and in headers.

Those that a reader can go to, or sees as a part of the page, are followed. Each of the others has
its reason, for the ledger: a login in an address is not shown, nor what follows another scheme (a
person's mail address, a script), but for its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from components.collect.extraction.tree.html_tree import Element, parse_html
from components.collect.web.media_types import may_be_page, unreadable_reason
from components.collect.web.urls import MAX_URL_CHARS, host_of, resolve_link

NOFOLLOW = "a nofollow link"
"""Reason of a link that its page asks robots not to follow."""
FOREIGN_FRAME = "a frame of another host"
TOO_LONG = f"an address of more than {MAX_URL_CHARS} characters"
HAS_LOGIN = "an address with a login"
BAD_ADDRESS = "not a valid address"
_SHOWN_CHARS = 200
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_SOURCES = {
    "a": "href",
    "area": "href",
    "embed": "src",
    "frame": "src",
    "iframe": "src",
    "link": "href",
    "object": "data",
}
_FRAMES = frozenset({"embed", "iframe", "object"})
"""Elements that show another document within the page; those of other hosts are mostly ads."""
_XLINK = ("xlink:href", "{http://www.w3.org/1999/xlink}href")
_SERIES = frozenset({"next", "prev", "previous"})
"""Relations of a ``link`` element that lead to a page a reader could go to."""
_LINK_VALUE = re.compile(r'<([^<>]{0,4000})>((?:\s*;\s*[^;,"\s]+(?:"[^"]*")?)*)')
_LINK_PARAMETER = re.compile(r';\s*([\w*-]+)\s*(?:=\s*(?:"([^"]*)"|([^;,"\s]*)))?')


def read_links(root: Element, base: str, url: str, codec: str) -> tuple[list[str], dict[str, str]]:
    """Addresses that a reader of the page can go to, and those of the frames it consists of.

    Beside them address -> reason of those that are not followed.

    Args:
        root: The page's tree.
        base: Base of its links.
        url: Where it was fetched.
        codec: Python's name for its charset.
    """
    links: dict[str, None] = {}
    unfollowed: dict[str, str] = {}
    for element in _elements(root):
        href = _written_address(element)
        target = resolve_link(href, base, codec) if href else None
        if target is None:
            shown, reason = explain_unfollowed(href or "", base)
            unfollowed |= {shown: reason} if shown else {}
        elif reason := _reason_against(element, target, url):
            unfollowed[target] = reason
        else:
            links.setdefault(target)
    return list(links), {
        address: why for address, why in unfollowed.items() if address not in links
    }


def read_header_links(header: str, url: str) -> list[str]:
    """Addresses of a ``Link`` header (RFC 8288) that a page's ``link`` elements could name."""
    links: dict[str, None] = {}
    for match in _LINK_VALUE.finditer(header):
        parameters: dict[str, str] = {}
        for name, quoted, plain in _LINK_PARAMETER.findall(match[2]):
            parameters.setdefault(name.lower(), quoted or plain)
        relations = parameters.get("rel", "").lower().split()
        target = resolve_link(match[1].strip(), url)
        if target is not None and _leads_on(relations, "hreflang" in parameters):
            links.setdefault(target)
    return list(links)


def decode_utf8_header(header: str) -> str:
    """Header whose bytes are UTF-8 and were read as Latin-1, as HTTP has it; others as they are."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _elements(root: Element) -> Iterator[Element]:
    """Elements that may name an address, those inside ``srcdoc`` frames included."""
    for element in root.iter(*_SOURCES):
        relations = (element.get("rel") or "").lower().split()
        if element.tag == "link" and not _leads_on(relations, element.get("hreflang") is not None):
            continue
        if element.tag != "iframe" or not (source := element.get("srcdoc")):
            yield element
            continue
        try:
            inner = parse_html(source)
        except ValueError:  # built to be slow to parse
            inner = None
        for part in inner.iter(*_SOURCES) if inner is not None else ():
            if part.tag not in ("iframe", "link"):
                yield part


def _leads_on(relations: list[str], has_language: bool) -> bool:
    """True for the relation of a page that follows, or of the same one in another language."""
    return bool(_SERIES.intersection(relations)) or ("alternate" in relations and has_language)


def _written_address(element: Element) -> str | None:
    names = (_SOURCES[element.tag], *_XLINK)
    return next((value for name in names if (value := element.get(name))), None)


def _reason_against(element: Element, target: str, url: str) -> str:
    """Reason against following an element's address; empty for none.

    Args:
        element: The element.
        target: Its address.
        url: The page.
    """
    if "nofollow" in (element.get("rel") or "").lower():
        return NOFOLLOW
    if element.tag in _FRAMES and host_of(target) != host_of(url):
        return FOREIGN_FRAME
    media_type = element.get("type") or ""
    if element.tag in ("embed", "object") and media_type and not may_be_page(media_type):
        return unreadable_reason(media_type)
    return ""


def explain_unfollowed(href: str, page: str) -> tuple[str, str]:
    """(address as it may be shown, reason) of a link that ``resolve_link`` gives no address for.

    Both are empty for a link to the page itself.
    """
    href = href.strip()
    if not href or href.startswith("#"):
        return "", ""
    try:
        address = urljoin(page, href)
        parts = urlsplit(address)
        has_login = parts.username is not None or parts.password is not None
    except ValueError:
        return href[:_SHOWN_CHARS], BAD_ADDRESS
    scheme = _SCHEME.match(address)
    if scheme is not None and scheme[0].lower() not in ("http", "https"):
        return f"{scheme[0].lower()}:", f"no page: a {scheme[0].lower()}: link"
    if has_login:
        authority = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://***@{authority}{parts.path}"[:_SHOWN_CHARS], HAS_LOGIN
    if len(address) > MAX_URL_CHARS:
        return f"{address[:_SHOWN_CHARS]}…", TOO_LONG
    return address[:_SHOWN_CHARS], BAD_ADDRESS
