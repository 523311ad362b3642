"""Shards of all conversations as they were read, before any of them is judged.

Rows go to the shard that the digest of their content determines, so that equal ones meet; memory
holds a buffer of every shard, then one shard at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from components.clean.conversations.chat_rows.conversation import (
    Conversation,
    dump_json,
)
from components.core.store.document_rows import DOCUMENT_SCHEMA, document_id, shard_of
from components.core.store.shards import shard_name, write_shard
from components.text.heldout_split import heldout_pages

HELDOUT_SEED = 1 << 22
"""Seed of the draw of held-out conversations, another than those of held-out and alignment pages
and of the halves, so that the draws are independent."""
_BUFFERED_ROWS = 256
READ_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("url", pa.string()),
        pa.field("source", pa.string()),  # the file
        pa.field("ordinal", pa.int64()),  # of the file
        pa.field("number", pa.int64()),  # of the row in its file
        pa.field("drawn_by", pa.string()),  # identity by which it is drawn into a split
        pa.field("text", pa.string()),
        pa.field("compared", pa.string()),  # the text without the system's
        pa.field("questions", pa.string()),  # the user's text
        pa.field("answers", pa.string()),  # the assistant's text
        pa.field("exchanges", pa.list_(pa.binary(16))),  # digest of the turns up to each answer
        pa.field("messages", pa.string()),
        pa.field("tools", pa.string()),
        pa.field("cut_turns", pa.int64()),
    ]
)


@dataclass(frozen=True)
class RowPlace:
    """Place of a row in the user's files."""

    file: str
    """Name of the file, percent-encoded."""
    ordinal: int
    """Position of the file in the config."""
    number: int

    @property
    def label(self) -> str:
        """Place as a person writes it: ``chats.jsonl:17``."""
        return f"{unquote(self.file).rpartition('/')[2]}:{self.number}"


def label_row(row: Mapping[str, Any]) -> str:
    """Place of a row of ``READ_SCHEMA`` as a person writes it."""
    return RowPlace(row["source"], 0, row["number"]).label


class ShardWriter:
    """Writer of rows to their shards, a few at a time.

    Args:
        folder: gets a file for every shard.
        shards: number of shards.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writers = [
            pq.ParquetWriter(folder / shard_name(index), READ_SCHEMA) for index in range(shards)
        ]
        self._buffers: list[list[dict[str, Any]]] = [[] for _ in range(shards)]
        self.draws: set[str] = set()

    def add(self, place: RowPlace, conversation: Conversation) -> None:
        """Add a conversation to its shard."""
        url = f"file:///{place.file}#{conversation.digest}"
        tools = conversation.tools
        identifier = document_id(url, conversation.text)
        row = {
            "id": identifier,
            "url": url,
            "source": place.file,
            "ordinal": place.ordinal,
            "number": place.number,
            "drawn_by": conversation.drawn_by,
            "text": conversation.text,
            "compared": conversation.compared_text,
            "questions": conversation.side("user"),
            "answers": conversation.side("assistant"),
            "exchanges": conversation.exchange_digests(),
            "messages": dump_json(conversation.messages),
            "tools": None if tools is None else dump_json(tools),
            "cut_turns": conversation.cut_turns,
        }
        self.draws.add(conversation.drawn_by)
        shard = shard_of(identifier, len(self._writers))
        self._buffers[shard].append(row)
        if len(self._buffers[shard]) >= _BUFFERED_ROWS:
            self._flush(shard)

    def close(self) -> None:
        """Write what is left, and end the files."""
        for shard, writer in enumerate(self._writers):
            self._flush(shard)
            writer.close()

    def _flush(self, shard: int) -> None:
        rows, self._buffers[shard] = self._buffers[shard], []
        if rows:
            self._writers[shard].write_table(pa.Table.from_pylist(rows, schema=READ_SCHEMA))


@dataclass(frozen=True)
class ShardFolders:
    """Folders of the conversations that were read, in the scratch of the stage."""

    rows: Path
    """All rows of ``READ_SCHEMA``, in no order."""
    documents: Path
    """A document for each distinct conversation, sorted by id, with the columns of its row."""
    compared: Path
    """The same documents without the system's text, by which they are compared."""


def sort_shards(folders: ShardFolders, draws: Iterable[str], heldout_share: float) -> None:
    """Write documents of the distinct rows, the first of equal ones, and fix the split.

    Args:
        folders: ``rows`` is read, the others are written.
        draws: ``drawn_by`` of all rows.
        heldout_share: share of them to hold out.
    """
    heldout = heldout_pages(draws, heldout_share, HELDOUT_SEED)
    folders.documents.mkdir(parents=True, exist_ok=True)
    folders.compared.mkdir(parents=True, exist_ok=True)
    for path in sorted(folders.rows.glob("*.parquet")):
        rows = _sorted_rows(path)
        documents = [
            {
                **row,
                "title": "",  # of the redacted text, later
                "headings": [],
                "code": [],
                "navigation": "",
                "heldout": row["drawn_by"] in heldout,
            }
            for row in _first_of_each(rows)
        ]
        table = pa.Table.from_pylist(documents, schema=SORTED_SCHEMA)
        write_shard(folders.documents / path.name, table)
        compared = table.select(["id", "ordinal"]).append_column("text", table["compared"])
        write_shard(folders.compared / path.name, compared)


def repeated_rows(folders: ShardFolders, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a shard behind the first of equal ones."""
    seen: set[str] = set()
    for row in _sorted_rows(folders.rows / name):
        if row["id"] in seen:
            yield row
        seen.add(row["id"])


def _sorted_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
    return sorted(rows, key=lambda row: (row["id"], row["ordinal"], row["number"]))


def _first_of_each(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    last = ""
    for row in rows:
        if row["id"] != last:
            yield row
        last = row["id"]


SORTED_SCHEMA = pa.schema(
    [
        *DOCUMENT_SCHEMA,
        *(field for field in READ_SCHEMA if field.name not in DOCUMENT_SCHEMA.names),
        pa.field("heldout", pa.bool_()),
    ]
)
