"""Schemas of the rows in Parquet shards. A document is one page's main text, without clocks."""

from __future__ import annotations

import hashlib

import pyarrow as pa

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # host, or the file it was read from
        pa.field("ordinal", pa.int64(), nullable=False),  # which crawl brought it, 0 first
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # Markdown: headings, lists, fenced code
        pa.field("headings", pa.list_(pa.string()), nullable=False),
        pa.field("code", pa.list_(pa.string()), nullable=False),  # code blocks, verbatim
        pa.field("navigation", pa.string(), nullable=False),  # menus, footers: kept apart
        # What the page says of itself; empty where it does not, null in a corpus from elsewhere.
        pa.field("author", pa.string()),
        pa.field("date", pa.string()),  # YYYY-MM-DD, of publication
        pa.field("language", pa.string()),  # BCP 47
        pa.field("licence", pa.string()),  # its address
        pa.field(
            "licence_source", pa.string()
        ),  # where that and others stand, as written, a line each
    ]
)

SPAN_TYPE = pa.struct(
    [
        pa.field("start", pa.int64()),  # offsets in characters of ``text``
        pa.field("end", pa.int64()),
        pa.field("kind", pa.string()),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def document_id(url: str, text: str) -> str:
    """Id of one version of one page: 32 hex digits."""
    return hashlib.sha256(f"{url}\0{text}".encode(errors="surrogatepass")).hexdigest()[:32]


def shard_of(identifier: str, shards: int) -> int:
    """Shard of a document: sha256(id) mod n."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big") % shards
