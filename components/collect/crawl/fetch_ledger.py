"""The fetch ledger: one line for every address a crawl met, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.collect.optouts.optout_policy import SIGNAL, Signal
from components.core.store.shards import write_shard

LEDGER_FILE = "ledger.parquet"
BLOCKED = "on the blocklist"
"""The reason of a page that was not to be fetched."""
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
        # Against the crawl before: new, same, changed, moved, gone, kept; empty without one.
        pa.field("change", pa.string(), nullable=False),
        # Why no answer about a page came that is therefore kept as the crawl before has it.
        pa.field("trouble", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),  # links from a seed
        pa.field("optouts", pa.list_(SIGNAL), nullable=False),
    ]
)


@dataclass
class Entry:
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
    depth: int = 0
    optouts: list[Signal] = field(default_factory=list)
    failed: bool = False
    """Whether the page should have come and did not, also where an earlier copy is kept."""

    def row(self, date: str) -> dict[str, Any]:
        """As a row of ``ledger.parquet``; ``date`` is the crawl's."""
        values = {name: value for name, value in vars(self).items() if name != "failed"}
        return {**values, "optouts": [signal.row(date) for signal in self.optouts]}


def write_ledger(folder: Path, ledger: Mapping[str, Entry], date: str) -> None:
    """Write all lines, sorted by address."""
    write_rows(folder, {url: entry.row(date) for url, entry in ledger.items()})


def write_rows(folder: Path, rows: Mapping[str, dict[str, Any]]) -> None:
    """Write lines that are rows already, sorted by address."""
    table = pa.Table.from_pylist([rows[url] for url in sorted(rows)], schema=LEDGER)
    write_shard(folder / LEDGER_FILE, table)
