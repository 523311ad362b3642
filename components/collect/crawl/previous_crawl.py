"""Previous crawl of the same sites, for conditional requests: an unchanged page costs a 304.

A page is requested under the conditions of RFC 9110 (section 13: its entity tag, else the date of
its last change). Where the server answers 304, or sends the same bytes again, the page is carried
over: its record is copied as it was captured, and a revisit record says how it is known to be the
same. Where the server fails (a 5xx, no answer in time) the page is not gone: the previous capture
is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.collect.crawl.fetch_ledger import LEDGER_FILE
from components.collect.crawl.response_store import PreviousCapture
from components.collect.optouts.optout_policy import OptoutSignal
from components.collect.optouts.site_signals import AI_TXT_PATH, ROBOTS_PATH, TDMREP_PATH
from components.collect.warc.cdxj_index import INDEX_FILE, CdxjIndex
from components.collect.warc.page_shards import WebPage, read_page_at
from components.collect.web.http_fetcher import FetchResult
from components.collect.web.urls import origin_of
from components.core.errors import DataError
from components.core.store.shards import read_shard

_LEDGER_COLUMNS = ["url", "reason", "digest", "etag", "last_modified", "optouts"]


class PreviousCrawl:
    """Stored pages of a sealed crawl, by URL."""

    def __init__(self, folder: Path) -> None:
        """Read the ledger and open the index.

        Raises:
            DataError: the crawl is gone, or is no crawl.
        """
        self._folder = folder
        try:
            table = read_shard(folder / LEDGER_FILE, _LEDGER_COLUMNS)
        except DataError as error:
            raise DataError(
                f"scrape.previous: crawl {folder.name[:12]}, which this one is compared with, "
                "is gone or damaged; crawl again with --refresh"
            ) from error
        self._kept_rows = {row["url"]: row for row in table.to_pylist() if not row["reason"]}
        index = folder / INDEX_FILE
        self._index = CdxjIndex(index) if index.exists() else None

    def __contains__(self, url: str) -> bool:
        return url in self._kept_rows

    @property
    def urls(self) -> list[str]:
        """URLs of its pages, sorted."""
        return sorted(self._kept_rows)

    def request_conditions(self, url: str) -> dict[str, str]:
        """Request headers that let the server answer 304."""
        row: dict[str, Any] = self._kept_rows.get(url, {})
        if self._index is None:
            return {}
        conditions = {
            "If-None-Match": row.get("etag"),
            "If-Modified-Since": row.get("last_modified"),
        }
        return {name: value for name, value in conditions.items() if value}

    def match_unchanged(self, url: str, fetched: FetchResult) -> PreviousCapture | None:
        """Previous capture of a page that is unchanged; None where it changed or cannot be read.

        ``fetched`` is the new response; a 304 is completed with the stored body and headers.
        """
        row = self._kept_rows.get(url)
        if row is None or fetched.reason or fetched.location is not None:
            return None
        if not fetched.is_not_modified and fetched.digest != row["digest"]:
            return None
        page = self._load_page(url)
        if page is None or page.digest != row["digest"]:
            return None
        stored_headers = dict(page.headers)
        if fetched.is_not_modified:  # RFC 9111, section 4.3.4: the stored headers, freshened
            fetched.body, fetched.headers = page.body, {**stored_headers, **fetched.headers}
        profile = "server-not-modified" if fetched.is_not_modified else "identical-payload-digest"
        return PreviousCapture(page.date, stored_headers, profile)

    def reuse_after_failure(self, url: str, fetched: FetchResult) -> PreviousCapture | None:
        """Previous capture of a page whose request failed; None where it cannot be read.

        ``fetched`` is the failed response, into which the stored body and headers are put.
        """
        row = self._kept_rows.get(url)
        page = self._load_page(url) if row is not None else None
        if row is None or page is None or page.digest != row["digest"]:
            return None
        trouble, stored_headers = fetched.reason or fetched.note, dict(page.headers)
        fetched.reason, fetched.body, fetched.headers = "", page.body, stored_headers
        fetched.note = ""
        return PreviousCapture(page.date, stored_headers, "", trouble)

    def site_signals(self, url: str) -> list[OptoutSignal]:
        """Opt-out signals of the page's site (robots.txt, tdmrep.json, ai.txt) as heard then."""
        files = tuple(f"{origin_of(url)}{path}" for path in (ROBOTS_PATH, TDMREP_PATH, AI_TXT_PATH))
        signals = self._kept_rows.get(url, {}).get("optouts", [])
        return [OptoutSignal(**signal) for signal in signals if signal["source"] in files]

    def _load_page(self, url: str) -> WebPage | None:
        captures = self._index.find_captures(url) if self._index is not None else []
        page_captures = [c for c in captures if c.url == url and c.mime != "warc/revisit"]
        if not page_captures:
            return None
        try:
            return read_page_at(self._folder / page_captures[-1].filename, page_captures[-1].offset)
        except DataError:
            return None
