"""Site opt-outs from third-party archives: the robots.txt, tdmrep.json and ai.txt that they hold.

Common Crawl keeps robots.txt in archives of their own: given together with the pages' archives,
they count. All archives are scanned once for this, and for the records that revisits refer to,
before any page is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from components.collect.optouts.robots_groups import decode_site_file, parse_robots_groups
from components.collect.optouts.site_signals import (
    AI_TXT_PATH,
    MAX_SITE_FILE_BYTES,
    ROBOTS_PATH,
    TDMREP_PATH,
    SiteSignals,
    parse_reservations,
)
from components.collect.warc.arc_records import read_records
from components.collect.warc.archive_reader import read_http_message
from components.collect.warc.warc_records import ArchiveRecord
from components.collect.web.transfer.http_message import MAX_HEAD_BYTES, has_page_status
from components.collect.web.urls import normalise_url, origin_of

_SITE_FILES = (ROBOTS_PATH, AI_TXT_PATH, TDMREP_PATH)


def is_site_file(url: str) -> bool:
    """True for the URL of a file about its site, which is no page."""
    return url.endswith(_SITE_FILES) and urlsplit(url).path in _SITE_FILES


def read_archived_signals(
    archives: Iterable[Path], on_record: Callable[[ArchiveRecord], None]
) -> dict[str, SiteSignals]:
    """Read opt-out signals by site origin; of several copies of a file the last one counts.

    ``on_record`` is called with every record.
    """
    texts: dict[str, dict[str, str]] = {}
    for archive in archives:
        for url, text in _site_files(archive, on_record):
            texts.setdefault(origin_of(url), {})[urlsplit(url).path] = text
    return {
        site: SiteSignals(
            site,
            parse_robots_groups(site_texts.get(ROBOTS_PATH, "")),
            parse_reservations(site_texts.get(TDMREP_PATH, "")),
            parse_robots_groups(site_texts.get(AI_TXT_PATH, "")),
        )
        for site, site_texts in texts.items()
    }


def _site_files(
    archive: Path, on_record: Callable[[ArchiveRecord], None]
) -> Iterator[tuple[str, str]]:
    with archive.open("rb") as file:
        for record in read_records(archive, file, MAX_SITE_FILE_BYTES + MAX_HEAD_BYTES):
            if not isinstance(record, ArchiveRecord):
                continue
            on_record(record)
            if record.kind != "response":
                continue
            url = normalise_url(record.url)
            if url is None or not is_site_file(url):
                continue
            try:
                status, _, body = read_http_message(record, MAX_SITE_FILE_BYTES)
            except ValueError:
                continue  # reading the pages reports this record with its reason
            if has_page_status(status):
                yield url, decode_site_file(body[:MAX_SITE_FILE_BYTES])
