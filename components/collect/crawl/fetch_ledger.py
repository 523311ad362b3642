"""Fetch ledger: one row for every URL that a crawl met or left unasked, with its outcome.

A row without a ``reason`` is a page that was stored. Every other row says why its page was not, so
that ``modelmill trace`` and a later crawl can answer for each URL.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.collect.crawl.crawl_traps import file_kind
from components.collect.crawl.frontier import Visit
from components.collect.crawl.response_store import StoredResponse
from components.collect.optouts.optout_policy import SIGNAL_TYPE, OptoutSignal
from components.collect.web.urls import origin_of
from components.core.store.shards import write_shard

LEDGER_FILE = "ledger.parquet"
BLOCKED_REASON = "on the blocklist"
"""Reason of a page that the blocklist keeps from being fetched."""
MAX_LINES_OF_HOST = 1_000
"""Unasked addresses of one reason and host that have a line each; the next line counts the rest."""
MAX_LINES_OF_REASON = 20_000
"""The same over all hosts: a ledger of some megabytes for a site of any size."""
MAX_COUNT_LINES = 1_000
"""Hosts of a reason whose further addresses are counted by a line each."""
AT_FURTHER_HOSTS = ", as is more at further hosts"
"""End of the reason of a line that counts links to many hosts."""
LEDGER = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("status", pa.int32(), nullable=False),  # 0 where no answer came
        pa.field("reason", pa.string(), nullable=False),  # empty for a page that was kept
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),  # sha256 of the body
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
        pa.field("redirected_from", pa.string(), nullable=False),
        pa.field("canonical", pa.string(), nullable=False),  # what the page says is its address
        # Since the previous crawl: new, same, changed, moved, gone, kept; empty without one.
        pa.field("change", pa.string(), nullable=False),
        # Why no response came about a page that is therefore kept as the previous crawl has it.
        pa.field("trouble", pa.string(), nullable=False),
        # Oddity of a page that was kept nevertheless, such as a missing end.
        pa.field("note", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),  # links from a seed
        # Links that were not followed and that the row stands for; 0 for an address that was met.
        pa.field("unasked", pa.int64(), nullable=False),
        pa.field("optouts", pa.list_(SIGNAL_TYPE), nullable=False),
    ]
)


@dataclass
class LedgerEntry:
    """One line of the fetch ledger."""

    url: str
    status: int = 0
    reason: str = ""
    bytes: int = 0
    digest: str = ""
    etag: str = ""
    last_modified: str = ""
    redirected_from: str = ""
    canonical: str = ""
    change: str = ""
    trouble: str = ""
    note: str = ""
    depth: int = 0
    unasked: int = 0
    optouts: list[OptoutSignal] = field(default_factory=list)
    failed: bool = False
    """True where the page should have come and did not, also where an earlier copy is kept."""

    def ledger_row(self, date: str) -> dict[str, Any]:
        """Row of ``ledger.parquet``; ``date`` is the crawl's."""
        values = {name: value for name, value in vars(self).items() if name != "failed"}
        return {**values, "optouts": [signal.ledger_row(date) for signal in self.optouts]}


class UnaskedAddresses:
    """Addresses that pages, sitemaps or redirects name and that are not asked for.

    Each has a ledger entry of its own, up to a number by reason and host; the next one's entry
    stands for all further links too, and counts them. Hosts beyond a number share one entry.
    """

    def __init__(self) -> None:
        self._entries: dict[str, LedgerEntry] = {}
        self._count_entries: dict[str, dict[str, LedgerEntry]] = defaultdict(dict)
        """Reason -> host -> the entry that counts; under an empty host that of further hosts."""
        self._lines: Counter[tuple[str, str]] = Counter()
        """(reason, host) -> entries; under an empty host those of the reason."""

    def record_address(self, url: str, reason: str, depth: int = 0) -> None:
        """Enter an address; further entries for one address change nothing.

        Args:
            url: The address, or the part of it that may be shown.
            reason: Why it is not asked for.
            depth: Links from a seed.
        """
        if url in self._entries:
            return
        host = _authority(url)
        has_room = self._lines[reason, host] < MAX_LINES_OF_HOST
        if has_room and self._lines[reason, ""] < MAX_LINES_OF_REASON:
            self._entries[url] = LedgerEntry(url, reason=reason, depth=depth, unasked=1)
            self._lines.update([(reason, host), (reason, "")])
            return
        counts = self._count_entries[reason]
        if host not in counts and len(counts) >= MAX_COUNT_LINES:
            host, reason = "", f"{reason}{AT_FURTHER_HOSTS}"
        if host not in counts:
            counts[host] = self._entries[url] = LedgerEntry(url, reason=reason, depth=depth)
        counts[host].unasked += 1

    def restore_entry(self, entry: LedgerEntry) -> None:
        """Take over the entry of an earlier crawl."""
        host = _authority(entry.url)
        self._entries[entry.url] = entry
        self._lines.update([(entry.reason, host), (entry.reason, "")])
        if entry.unasked > 1:
            is_shared = entry.reason.endswith(AT_FURTHER_HOSTS)
            counts = self._count_entries[entry.reason.removesuffix(AT_FURTHER_HOSTS)]
            counts["" if is_shared else host] = entry

    def entries_beside(self, ledger: Mapping[str, LedgerEntry]) -> dict[str, LedgerEntry]:
        """Entries by URL of all that ``ledger`` has no entry for."""
        return {url: entry for url, entry in self._entries.items() if url not in ledger}


def _authority(url: str) -> str:
    """Host and port of an address, which may be malformed."""
    return url.partition("://")[2].partition("/")[0]


def make_entry(visit: Visit, response: StoredResponse) -> LedgerEntry:
    """Ledger entry of a visit by its response."""
    # A broken link to an image or an archive is no page that failed.
    is_lost_file = 400 <= response.status < 500 and bool(file_kind(visit.url)) and not visit.is_seed
    trouble = response.previous_capture.trouble if response.previous_capture is not None else ""
    return LedgerEntry(
        visit.url,
        response.status,
        response.reason,
        response.bytes,
        response.digest if response.bytes else "",
        response.headers.get("etag", ""),
        response.headers.get("last-modified", ""),
        visit.chain[0] if visit.chain else "",
        response.facts.canonical,
        trouble=trouble,
        note=response.note,
        depth=visit.depth,
        failed=bool(trouble)
        or (
            response.asked
            and bool(response.reason)
            and not 0 < response.status < 400
            and not is_lost_file
        ),
    )


def fold_canonicals(ledger: Mapping[str, LedgerEntry]) -> None:
    """Of pages with one canonical URL (RFC 6596), keep the canonical page alone.

    Only where the canonical page is stored too. A site whose every page declares the home page as
    canonical is misconfigured, so a home page stands for equal pages alone.
    """
    for url in sorted(ledger):
        entry = ledger[url]
        target = ledger.get(entry.canonical)
        if entry.reason or target is None or target.reason:
            continue
        if entry.canonical == f"{origin_of(url)}/" and entry.digest != target.digest:
            continue
        entry.reason = f"canonical is {entry.canonical}"


def write_ledger(folder: Path, ledger: Mapping[str, LedgerEntry], date: str) -> None:
    """Write ``ledger.parquet``, sorted by URL.

    Args:
        folder: The artifact's folder.
        ledger: Entries by URL.
        date: The crawl's ``as_of``, the date of signals that have none of their own.
    """
    write_ledger_rows(folder, {url: entry.ledger_row(date) for url, entry in ledger.items()})


def write_ledger_rows(folder: Path, rows: Mapping[str, dict[str, Any]]) -> None:
    """Write ``ledger.parquet`` from rows by URL, sorted by URL."""
    table = pa.Table.from_pylist([rows[url] for url in sorted(rows)], schema=LEDGER)
    write_shard(folder / LEDGER_FILE, table)
