"""What sites say of a use for AI, from the robots.txt and the like that archives of others hold.

Common Crawl keeps robots.txt in files of their own: given together with the pages' files, they
count. Archives are gone through once for this, and for what revisits want, before any page is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from components.collect.optouts.robots_groups import read_groups
from components.collect.optouts.site_signals import (
    AI_TXT,
    MAX_BYTES,
    ROBOTS,
    TDMREP,
    SiteSignals,
    read_reservations,
)
from components.collect.warc.archive_reader import HEAD_BYTES, UNREADABLE, read_message
from components.collect.warc.damaged_stream import open_stream
from components.collect.warc.warc_records import Record, read_records
from components.collect.web.urls import normalise, origin

_FILES = (ROBOTS, AI_TXT, TDMREP)


def is_about_a_site(url: str) -> bool:
    """Whether an address is that of a file about its site, which is no page."""
    return url.endswith(_FILES) and urlsplit(url).path in _FILES


def read_sites(
    archives: Iterable[Path], noticed: Callable[[Record], None]
) -> dict[str, SiteSignals]:
    """``https://host`` -> its statements; of several copies of a file the last one counts.

    ``noticed`` is shown every record.
    """
    texts: dict[str, dict[str, str]] = {}
    for archive in archives:
        for url, text in _site_files(archive, noticed):
            texts.setdefault(origin(url), {})[urlsplit(url).path] = text
    return {
        start: SiteSignals(
            start,
            read_groups(found.get(ROBOTS, "")),
            read_reservations(found.get(TDMREP, "")),
            read_groups(found.get(AI_TXT, "")),
        )
        for start, found in texts.items()
    }


def _site_files(archive: Path, noticed: Callable[[Record], None]) -> Iterator[tuple[str, str]]:
    with archive.open("rb") as file:
        for record in read_records(open_stream(archive, file), MAX_BYTES + HEAD_BYTES):
            if not isinstance(record, Record):
                continue
            noticed(record)
            if record.kind != "response":
                continue
            url = normalise(record.url)
            if url is None or not is_about_a_site(url):
                continue
            try:
                status, _, body = read_message(record, MAX_BYTES)
            except UNREADABLE:
                continue  # the page that it would be is entered with its reason
            if status == 200:
                yield url, body[:MAX_BYTES].decode("utf-8", errors="replace")
