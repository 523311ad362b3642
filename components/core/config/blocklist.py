"""Which pages are not to be taken in: addresses with all below them, and domains."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_ENDS = re.compile(r"[/?#]")


class Blocklist:
    """Answers for one address in time that does not grow with the list.

    An entry with ``://`` is an address: it covers itself and whatever goes on after it with ``/``,
    ``?`` or ``#``. Any other entry is a domain: it covers its host and all subdomains.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        given = list(entries)
        self._addresses = {_bare(entry) for entry in given if "://" in entry}
        self._domains = {entry.lower().strip(".") for entry in given if "://" not in entry}

    def __bool__(self) -> bool:
        return bool(self._addresses or self._domains)

    def covers(self, url: str) -> bool:
        """Whether an entry names ``url``, something above it, or its host."""
        return (bool(self._addresses) and self._below(url)) or self._within(url)

    def _below(self, url: str) -> bool:
        start = url.find("://") + 3
        ends = [match.start() for match in _ENDS.finditer(url, start)]
        return any(_bare(url[:end]) in self._addresses for end in [*ends, len(url)])

    def _within(self, url: str) -> bool:
        if not self._domains:
            return False
        try:
            parts = (urlsplit(url).hostname or "").split(".")
        except ValueError:
            return False
        return any(".".join(parts[index:]) in self._domains for index in range(len(parts)))


def _bare(url: str) -> str:
    """Without closing slashes; those behind a scheme stay."""
    head, separator, rest = url.partition("://")
    return f"{head}{separator}{rest.rstrip('/')}" if rest.strip("/") else url
