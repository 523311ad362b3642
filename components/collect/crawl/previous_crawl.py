"""The crawl before this one: what was seen then, so that what has not changed costs a 304.

A page is asked for under the conditions of RFC 9110 (section 13: the entity tag, else the date of
its last change). Where the server says 304, or sends the very bytes again, the page is carried
over: its record is copied as it was fetched, and a revisit says how it is known to be the same.
Where the server is ill (a 5xx, no answer in time) the page is not gone: it is kept as it was then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.collect.crawl.fetch_ledger import LEDGER_FILE
from components.collect.crawl.response_store import Carried
from components.collect.optouts.optout_policy import Signal
from components.collect.optouts.site_signals import AI_TXT, ROBOTS, TDMREP
from components.collect.warc.cdxj_index import INDEX_FILE, Index
from components.collect.warc.page_shards import WebPage, read_page_at
from components.collect.web.http_fetcher import Fetched
from components.collect.web.urls import origin
from components.core.errors import DataError
from components.core.store.shards import read_shard

_WANTED = ["url", "reason", "digest", "etag", "last_modified", "optouts"]


class Earlier:
    """Pages that a sealed crawl kept."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError: the crawl is gone, or is no crawl."""
        self._folder = folder
        try:
            table = read_shard(folder / LEDGER_FILE, _WANTED)
        except DataError as error:
            raise DataError(
                f"scrape.previous: crawl {folder.name[:12]}, which this one compares itself with, "
                "is gone or damaged; crawl again with --refresh"
            ) from error
        self._kept = {row["url"]: row for row in table.to_pylist() if not row["reason"]}
        index = folder / INDEX_FILE
        self._index = Index(index) if index.exists() else None

    def __contains__(self, url: str) -> bool:
        return url in self._kept

    @property
    def urls(self) -> list[str]:
        """Addresses of its pages, sorted."""
        return sorted(self._kept)

    def conditions(self, url: str) -> dict[str, str]:
        """Request headers that let the server answer 304."""
        row: dict[str, Any] = self._kept.get(url, {})
        if self._index is None:
            return {}
        given = {"If-None-Match": row.get("etag"), "If-Modified-Since": row.get("last_modified")}
        return {name: value for name, value in given.items() if value}

    def carried(self, url: str, fetched: Fetched) -> Carried | None:
        """How the page came then, where it is the same now; fills in what a 304 leaves out.

        None where it is not the same, or the earlier copy cannot be read.
        """
        row = self._kept.get(url)
        if row is None or fetched.reason or not (fetched.unchanged or fetched.status == 200):
            return None
        if not fetched.unchanged and fetched.digest != row["digest"]:
            return None
        page = self._page(url)
        if page is None or page.digest != row["digest"]:
            return None
        before = dict(page.headers)
        if fetched.unchanged:  # RFC 9111, section 4.3.4: the stored headers, freshened
            fetched.body, fetched.headers = page.body, {**before, **fetched.headers}
        how = "server-not-modified" if fetched.unchanged else "identical-payload-digest"
        return Carried(page.date, before, how)

    def kept(self, url: str, fetched: Fetched) -> Carried | None:
        """How the page came then, where ``fetched`` is a failure that may pass.

        Puts the page into ``fetched``. None where the earlier copy cannot be read.
        """
        row = self._kept.get(url)
        page = self._page(url) if row is not None else None
        if row is None or page is None or page.digest != row["digest"]:
            return None
        trouble, before = fetched.reason, dict(page.headers)
        fetched.reason, fetched.body, fetched.headers = "", page.body, before
        return Carried(page.date, before, "", trouble)

    def site_signals(self, url: str) -> list[Signal]:
        """What the page's site said of it then, in the files that are about it."""
        files = tuple(f"{origin(url)}{path}" for path in (ROBOTS, TDMREP, AI_TXT))
        given = self._kept.get(url, {}).get("optouts", [])
        return [Signal(**signal) for signal in given if signal["source"] in files]

    def _page(self, url: str) -> WebPage | None:
        captures = self._index.find(url) if self._index is not None else []
        wanted = [c for c in captures if c.url == url and c.mime != "warc/revisit"]
        if not wanted:
            return None
        try:
            return read_page_at(self._folder / wanted[-1].filename, wanted[-1].offset)
        except DataError:
            return None
