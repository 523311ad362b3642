"""Blocklist of pages: addresses with everything below them, and domains."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_BOUNDARY = re.compile(r"[/?#]")


class Blocklist:
    """Set of entries, looked up in time independent of their number.

    An entry with ``://`` is an address: it covers itself and whatever continues it with ``/``,
    ``?`` or ``#``. Any other entry is a domain: it covers its host and all subdomains.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        lines = list(entries)
        self._addresses = {_strip_slashes(entry) for entry in lines if "://" in entry}
        self._domains = {entry.lower().strip(".") for entry in lines if "://" not in entry}

    def __bool__(self) -> bool:
        return bool(self._addresses or self._domains)

    def covers(self, url: str) -> bool:
        """True if an entry names ``url``, an address above it, or its host."""
        return (bool(self._addresses) and self._covered_by_address(url)) or self._covered_by_domain(
            url
        )

    def _covered_by_address(self, url: str) -> bool:
        start = url.find("://") + 3
        ends = [match.start() for match in _BOUNDARY.finditer(url, start)]
        return any(_strip_slashes(url[:end]) in self._addresses for end in [*ends, len(url)])

    def _covered_by_domain(self, url: str) -> bool:
        if not self._domains:
            return False
        try:
            parts = (urlsplit(url).hostname or "").split(".")
        except ValueError:
            return False
        return any(".".join(parts[index:]) in self._domains for index in range(len(parts)))


def _strip_slashes(url: str) -> str:
    """Address without trailing slashes; those of a bare scheme stay."""
    head, separator, rest = url.partition("://")
    return f"{head}{separator}{rest.rstrip('/')}" if rest.strip("/") else url
