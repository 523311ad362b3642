"""Pages of WARC files of others, Common Crawl's and its text extracts (WET) among them.

Nothing in such a file is trusted: not its lengths, not its encodings, not that it ends. A payload
may still be chunked and compressed as it came, or be stored plain under headers that say otherwise,
as several crawlers do; what fits is done.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastwarc.stream_io import BrotliReader, ZstdReader

from components.collect.warc.damaged_stream import open_stream
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import Revisits
from components.collect.warc.warc_records import Damage, Record, read_records
from components.collect.web.http_fetcher import (
    KEPT,
    Decoder,
    is_page_type,
    joined_headers,
    too_large,
)

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_HOLDERS = ("response", "resource", "conversion")
"""Kinds of records that hold a page."""
HEAD_BYTES = 256 * 1024
"""Of an HTTP message, its head's largest size."""
UNREADABLE = (ValueError, zlib.error, OSError, RuntimeError, EOFError)
"""What a payload that is broken raises."""


@dataclass(frozen=True)
class NoPage:
    """Why a record gave no page."""

    url: str
    """Empty where it is not known."""
    at: int
    """Unpacked bytes before the record."""
    reason: str
    is_bad: bool
    """Whether there should have been one."""


def read_archive(
    path: Path, max_bytes: int, revisits: Revisits, name: str = ""
) -> Iterator[WebPage | NoPage]:
    """Pages that answered 200, of at most ``max_bytes`` unpacked, and why others are none.

    ``revisits`` takes in those of the file, which it knows by ``name``, and what others stand for;
    it gives their pages later.
    """
    found = False
    with path.open("rb") as file:
        for record in read_records(open_stream(path, file), max_bytes + HEAD_BYTES):
            found = True
            if isinstance(record, Damage):
                yield NoPage(record.url, record.at, record.reason, True)
                continue
            page: WebPage | NoPage | None
            try:
                if record.kind == "revisit":
                    page = _put_off(record, f"{name}#byte-{record.at}", revisits)
                else:
                    page = _page(record, max_bytes)
            except UNREADABLE as error:
                page = NoPage(record.url, record.at, f"its payload is broken: {error}", True)
            if record.kind in _HOLDERS:
                revisits.offer(record, page if isinstance(page, WebPage) else None)
            if page is not None:
                yield page
    if not found and path.stat().st_size:
        yield NoPage("", 0, "holds no WARC record", True)


def _page(record: Record, max_bytes: int) -> WebPage | NoPage | None:
    """None for a record that is no page's and does not mean to be."""
    if record.kind not in _HOLDERS:
        return None
    if not record.url:
        return NoPage("", record.at, "it does not say of which page it is", True)
    kind = record.headers.get("content-type", "")
    body = record.block
    headers: dict[str, str] = {}
    if kind.startswith("application/http"):
        status, headers, body = read_message(record, max_bytes)
        if status != 200:
            return None
        kind = headers.get("content-type", "")
    elif record.kind == "response":
        return None  # of DNS, FTP and the like
    if not is_page_type(kind):
        return NoPage(record.url, record.at, f"no page: {kind.partition(';')[0].strip()}", False)
    if len(body) > max_bytes or not record.is_whole:
        return NoPage(record.url, record.at, too_large(max_bytes), True)
    kept = tuple((name, headers[name]) for name in KEPT if name in headers)
    digest = hashlib.sha256(body).hexdigest()
    return WebPage(record.url, body, kind, digest, kept, _moment(record))


def _put_off(record: Record, place: str, revisits: Revisits) -> NoPage | None:
    """Take in a revisit, unless it is of something that would be no page either."""
    if not record.url:
        return NoPage("", record.at, "it does not say of which page it is", True)
    headers: dict[str, str] = {}
    if record.block and record.headers.get("content-type", "").startswith("application/http"):
        status, given, _ = _message(record.block)
        if status not in (200, 304):
            return None
        headers = {name: given[name] for name in KEPT if name in given}
    revisits.defer(record, place, _moment(record), headers)
    return None


def _moment(record: Record) -> str:
    date = record.headers.get("warc-date", "")
    return f"{date[:19]}Z" if _DATE.match(date) else ""


def read_message(record: Record, limit: int) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body without its encodings, at most ``limit`` bytes and one).

    Raises:
        ValueError, zlib.error, OSError, RuntimeError, EOFError: as UNREADABLE says.
    """
    status, headers, body = _message(record.block)
    if status == 200 and record.is_whole:
        body = _decoded(body, headers, limit, "warc-truncated" in record.headers)
    return status, headers, body


def _message(block: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of an HTTP response. Raises ValueError: it is none."""
    head, mark, body = block.partition(b"\r\n\r\n")
    if not mark or len(head) > HEAD_BYTES:
        head, mark, body = block.partition(b"\n\n")
    first, *lines = head.splitlines()[:1000] or [b""]
    words = first.split()
    if not first.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        raise ValueError("it is no HTTP response")
    pairs = (line.partition(b":") for line in lines)
    headers = joined_headers((name.strip(), value.strip()) for name, _, value in pairs)
    return int(words[1][:3]), headers, body


def _decoded(body: bytes, headers: dict[str, str], limit: int, is_cut: bool) -> bytes:
    """The body without its encodings, as far as it has them; at most ``limit`` bytes and one."""
    if headers.get("transfer-encoding", "").strip().lower() == "chunked":
        body = _dechunked(body)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("br", "zstd"):
        reader = BrotliReader if encoding == "br" else ZstdReader
        try:
            return _read_some(reader(io.BytesIO(body)), limit)
        except (OSError, ValueError, RuntimeError, EOFError):
            return _plain(body, encoding)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return body
    decoder = Decoder(encoding, limit)
    try:
        decoder.feed(body)
        if not decoder.full and not is_cut:
            decoder.finish()
    except zlib.error:
        return _plain(body, encoding)
    return bytes(decoder.body)


def _read_some(reader: BrotliReader | ZstdReader, limit: int) -> bytes:
    found = bytearray()
    while len(found) <= limit and (chunk := reader.read(min(1 << 16, limit + 1 - len(found)))):
        found += chunk
    return bytes(found)


def _plain(body: bytes, encoding: str) -> bytes:
    """A body that is stored unpacked under a header that says it is packed.

    Raises:
        ValueError: it is no text either.
    """
    start = body[:512].lstrip()
    if start.startswith(b"<") or (start.isascii() and b"\0" not in start):
        return body
    raise ValueError(f"it is no {encoding}")


def _dechunked(body: bytes) -> bytes:
    """A body without its chunks (RFC 9112, section 7.1); as it is where it has none."""
    found, at = bytearray(), 0
    while True:
        end = body.find(b"\r\n", at, at + 1024)
        size = body[at:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() and len(size) <= 12 else -1
        except ValueError:
            length = -1
        if length < 0:
            return bytes(found) if at else body
        if length == 0:
            return bytes(found)
        found += body[end + 2 : end + 2 + length]
        at = end + 2 + length + 2
