"""Replay of a sealed crawl under a longer blocklist or another opt-out policy.

No page that is stored is fetched again: records are copied byte by byte, so everything made from
the pages differs by those that are reassessed otherwise, and by nothing where there are none. The
ledger holds every opt-out signal, so a page is reassessed without being read. Only a page that was
left out for an opt-out and is now permitted is *due* for fetching, as it was never stored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import ArchiveIterator

from components.collect.crawl.fetch_ledger import (
    BLOCKED_REASON,
    LEDGER_FILE,
    LedgerEntry,
    write_ledger_rows,
)
from components.collect.optouts.optout_policy import (
    OPTED_OUT,
    OptoutConfig,
    OptoutSignal,
    denial_reason,
)
from components.collect.optouts.site_signals import ROBOTS_PATH
from components.collect.warc.cdxj_index import write_index
from components.collect.warc.page_shards import GZIP_LEVEL, WebPage, write_page
from components.collect.web.page_licences import licence_verdict
from components.core.config.blocklist import Blocklist
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.artifact import MANIFEST_FILE, Pages
from components.core.store.document_rows import shard_of
from components.core.store.shards import read_shard

Row = dict[str, Any]


class ReplayedCrawl:
    """A sealed crawl reassessed: the ledger ``rows`` that stay, and the URLs that are ``due``."""

    def __init__(self, folder: Path, blocklist: Blocklist, optouts: OptoutConfig) -> None:
        """Read and reassess the ledger.

        Args:
            folder: The sealed crawl.
            blocklist: Addresses never to be fetched, as configured now.
            optouts: Opt-out policy, as configured now.

        Raises:
            DataError: the crawl is gone or damaged.
        """
        self._folder = folder
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
            assert manifest["format"] == Pages.format
            self._stats: dict[str, float] = manifest["artifact"]["stats"]
            earlier_rows = [
                _with_all_columns(row) for row in read_shard(folder / LEDGER_FILE).to_pylist()
            ]
        except (OSError, ValueError, KeyError, AssertionError, DataError) as error:
            raise DataError(
                f"scrape.repeats: crawl {folder.name[:12]}, which was to be repeated, "
                "is gone or damaged; crawl again with --refresh"
            ) from error
        self._kept_urls = {row["url"] for row in earlier_rows if not row["reason"]}
        reassessed = {row["url"]: _reassess_row(row, blocklist, optouts) for row in earlier_rows}
        self.due = {
            row["url"]: int(row["depth"])
            for row in earlier_rows
            if row["reason"].startswith(OPTED_OUT) and not reassessed[row["url"]]["reason"]
        }
        """URL -> depth (links from a seed) of pages to fetch now."""
        self.rows = {url: row for url, row in reassessed.items() if url not in self.due}

    def ledger_entries(self) -> dict[str, LedgerEntry]:
        """``rows`` as ledger entries by URL."""
        return {
            url: LedgerEntry(
                url,
                row["status"],
                row["reason"],
                row["bytes"],
                row["digest"],
                canonical=row["canonical"],
                depth=row["depth"],
                unasked=row["unasked"],
            )
            for url, row in self.rows.items()
        }

    def write_replay(
        self,
        target: Path,
        ledger: Mapping[str, LedgerEntry],
        date: str,
        pages: Callable[[list[str]], Iterable[WebPage]],
    ) -> dict[str, float]:
        """Write archives, ledger and index of the replay; its stats.

        Args:
            target: The folder to write to.
            ledger: Outcome of every URL, replayed and newly fetched.
            date: Moment of the new pages' fetch.
            pages: Gives the newly fetched pages of a list of URLs.

        Raises:
            DataError: no page may stay.
        """
        rows = {url: self._ledger_row(url, entry, date) for url, entry in ledger.items()}
        kept_rows = [row for row in rows.values() if not row["reason"]]
        if not kept_rows:
            first_row = next(iter(rows.values()))
            why = "is on the blocklist" if first_row["reason"] == BLOCKED_REASON else "is left out"
            raise DataError(
                f"scrape: every page of the crawl {why}: {first_row['url']}: {first_row['reason']}"
            )
        excluded_urls = {url for url in self._kept_urls if rows[url]["reason"]}
        new_urls = sorted(row["url"] for row in kept_rows if row["url"] not in self._kept_urls)
        archives = sorted(self._folder.glob("*.warc.gz"))
        for index, archive in enumerate(archives):
            shard_urls = [url for url in new_urls if shard_of(url, len(archives)) == index]
            _copy_archive(archive, target / archive.name, excluded_urls, pages(shard_urls), date)
        write_ledger_rows(target, rows)
        write_index(target)
        failed = self._stats.get("failed", 0.0) + sum(
            entry.failed and bool(entry.reason) for entry in ledger.values()
        )
        return {
            "pages": float(len(kept_rows)),
            "bytes": float(sum(row["bytes"] for row in kept_rows)),
            "failed": failed,
            "left_out": float(sum(not r["unasked"] for r in rows.values()) - len(kept_rows))
            - failed,
            "unasked": float(sum(row["unasked"] for row in rows.values())),
            "opted_out": float(sum(r["reason"].startswith(OPTED_OUT) for r in rows.values())),
            "unchanged": float(sum(row["change"] == "same" for row in rows.values())),
            "gone": float(sum(row["change"] == "gone" for row in rows.values())),
            "kept": float(sum(row["change"] == "kept" for row in rows.values())),
        }

    def _ledger_row(self, url: str, entry: LedgerEntry, date: str) -> Row:
        row = self.rows.get(url)
        if row is None or row["unasked"]:
            return entry.ledger_row(date)
        return row if row["reason"] == entry.reason else {**row, **_excluded(entry.reason)}


def _with_all_columns(row: Row) -> Row:
    """Ledger row with every column of today's schema, as older ledgers lack some."""
    return {**LedgerEntry(row["url"]).ledger_row(""), **row}


def _excluded(reason: str) -> Row:
    return {"reason": reason, "change": ""}


def _reassess_row(row: Row, blocklist: Blocklist, optouts: OptoutConfig) -> Row:
    """Ledger row as a crawl under this blocklist and opt-out policy would have written it."""
    if row["unasked"]:
        return row
    if blocklist.covers(row["url"]):
        return LedgerEntry(row["url"], reason=BLOCKED_REASON).ledger_row("")
    row = {**row, "optouts": [_reassess_signal(signal, optouts) for signal in row["optouts"]]}
    if row["reason"] and not row["reason"].startswith(OPTED_OUT):
        return row
    reason = ""
    if optouts.policy == "honour":
        fields = OptoutSignal.__dataclass_fields__
        reason = denial_reason(
            [OptoutSignal(**{name: s[name] for name in fields}) for s in row["optouts"]]
        )
    return {**row, **_excluded(reason)} if reason else {**row, "reason": ""}


def _reassess_signal(signal: Row, optouts: OptoutConfig) -> Row:
    """Signal with its verdict under today's ``refused_licences``; a site's licence stays noted."""
    if signal["kind"] != "licence" or signal["source"].endswith(ROBOTS_PATH):
        return signal
    return {**signal, "verdict": licence_verdict(signal["value"], optouts.refused_licences)}


def _copy_archive(
    source: Path, target: Path, excluded_urls: set[str], new_pages: Iterable[WebPage], date: str
) -> None:
    """Copy an archive without some pages' records, and append new pages.

    An archive that holds none of the excluded pages is copied byte by byte.
    """
    with atomic_path(target) as temporary:
        if not excluded_urls & _record_urls(source):
            shutil.copyfile(source, temporary)
        else:
            with (
                source.open("rb") as stream,
                temporary.open("wb") as file,
                GzipWriter(file, compression_level=GZIP_LEVEL) as writer,
            ):
                for record in ArchiveIterator(stream, parse_http=False):
                    if record.headers.get("WARC-Target-URI") not in excluded_urls:
                        record.write(writer)
                        writer.finish()  # each record a gzip member of its own
        for page in new_pages:
            with (
                temporary.open("ab") as file,
                GzipWriter(file, compression_level=GZIP_LEVEL) as writer,
            ):
                write_page(page, date, writer)


def _record_urls(archive: Path) -> set[str]:
    with archive.open("rb") as stream:
        records = ArchiveIterator(stream, parse_http=False)
        return {record.headers.get("WARC-Target-URI") or "" for record in records}
