"""``Refresh`` of a page: the address that it sends its readers on to, and after how long."""

from __future__ import annotations

import re

_REFRESH = re.compile(
    r"\s*(\d+|(?=\.))[\d.]*(?:\s*[;,]\s*|\s+|$)(?:url\s*=\s*)?(.*)", re.IGNORECASE | re.DOTALL
)


def parse_refresh(value: str) -> tuple[float, str] | None:
    """(seconds, address) of a refresh; None where it makes no sense.

    The address is empty where the page itself is to be loaded again (HTML standard, "shared
    declarative refresh steps").
    """
    match = _REFRESH.fullmatch(value)
    if match is None:
        return None
    address = match[2]
    if address[:1] in ("'", '"'):
        address = address[1:].partition(address[0])[0]
    return float(match[1][:9] or 0), address.strip()
