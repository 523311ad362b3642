"""Links that a crawl cannot follow, with the reason: what the ledger says of them.

A login in an address is not shown, nor what follows another scheme (a person's mail address, a
script), but for its name.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from components.collect.web.urls import MAX_URL_CHARS

NOFOLLOW = "a nofollow link"
"""Reason of a link that its page asks robots not to follow."""
FOREIGN_FRAME = "a frame of another host"
TOO_LONG = f"an address of more than {MAX_URL_CHARS} characters"
HAS_LOGIN = "an address with a login"
BAD_ADDRESS = "not a valid address"
_SHOWN_CHARS = 200
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")


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
