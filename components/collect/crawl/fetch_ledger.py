"""Fetch ledger: one row for every URL that a crawl met, with its outcome.

A row without a ``reason`` is a page that was stored. Every other row says why its page was not, so
that ``modelmill trace`` and a later crawl can answer for each URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.collect.optouts.optout_policy import SIGNAL_TYPE, OptoutSignal
from components.core.store.shards import write_shard

LEDGER_FILE = "ledger.parquet"
BLOCKED_REASON = "on the blocklist"
"""Reason of a page that the blocklist keeps from being fetched."""
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
    optouts: list[OptoutSignal] = field(default_factory=list)
    failed: bool = False
    """True where the page should have come and did not, also where an earlier copy is kept."""

    def ledger_row(self, date: str) -> dict[str, Any]:
        """Row of ``ledger.parquet``; ``date`` is the crawl's."""
        values = {name: value for name, value in vars(self).items() if name != "failed"}
        return {**values, "optouts": [signal.ledger_row(date) for signal in self.optouts]}


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
