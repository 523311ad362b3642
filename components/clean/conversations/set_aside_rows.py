"""Rows that hold no conversation, each with its reason, and the bounds on their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.clean.conversations.chat_rows.chat_formats import KNOWN_FIELDS
from components.clean.conversations.conversation_shards import RowPlace
from components.core.errors import DataError
from components.core.log import get_logger
from components.core.store.document_rows import QUARANTINE_SCHEMA, document_id
from components.core.store.shards import write_shard

log = get_logger(__name__)
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class SetAsideRow:
    """A row of a file that is set aside."""

    place: RowPlace
    reason: str

    @property
    def url(self) -> str:
        return f"file:///{self.place.file}#{self.place.number}"

    @property
    def id(self) -> str:
        return document_id(self.url, self.reason)


@dataclass
class SetAsideRows:
    """All rows that are set aside, and how many rows each file has."""

    rows: list[SetAsideRow] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    """Rows of each file, good and bad."""

    def check_file(self, file: str) -> None:
        """Refuse a file that gives nothing.

        Raises:
            DataError: it has no row, or none of a known format.
        """
        mine = [row for row in self.rows if row.place.file == file]
        if not self.read.get(file):
            raise DataError(f"instructions.files: {file} holds no row")
        if len(mine) == self.read[file]:
            raise DataError(
                f"instructions.files: no row of {file} is a conversation, the first: "
                f"{mine[0].place.label} {mine[0].reason}; fields looked for: {KNOWN_FIELDS}"
            )

    def check_share(self, max_bad_share: float) -> None:
        """Refuse too many bad rows, and log those there are.

        Raises:
            DataError: their share is above the bound.
        """
        total = sum(self.read.values())
        first = "; ".join(f"{row.place.label} {row.reason}" for row in self.rows[:_SHOWN_REASONS])
        if len(self.rows) > max_bad_share * total:
            raise DataError(
                f"conversations: {len(self.rows)} of {total} rows hold no conversation to learn "
                f"from (instructions.max_bad_share {max_bad_share:g}), the first: {first}; fields "
                f"looked for: {KNOWN_FIELDS}"
            )
        if self.rows:
            log.warning("conversations: %d of %d rows set aside: %s", len(self.rows), total, first)

    def write_quarantine(self, folder: Path) -> None:
        """Write ``quarantine.parquet``: address, reason and place of each."""
        schema = QUARANTINE_SCHEMA.append(pa.field("row", pa.string()))
        rows = [{"url": row.url, "reason": row.reason, "row": row.place.label} for row in self.rows]
        write_shard(folder / "quarantine.parquet", pa.Table.from_pylist(rows, schema=schema))


def list_verdicts(rows: Sequence[SetAsideRow]) -> list[dict[str, Any]]:
    """Lines of the ledger, which have no score."""
    return [
        {
            "id": row.id,
            "url": row.url,
            "kept": False,
            "reasons": [row.reason],
            "rules": [],
            "spans": [],
            "row": row.place.label,
        }
        for row in rows
    ]
