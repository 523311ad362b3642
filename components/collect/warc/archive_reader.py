"""Reader of pages in third-party WARC and ARC files, Common Crawl's text extracts (WET) included.

Nothing in such a file is trusted: not its lengths, not its encodings, not that it ends. A payload
may still be chunked and compressed as it came, or be stored plain under headers that say otherwise,
as several crawlers do; the content decides.
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

from components.collect.warc.arc_records import read_records
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver
from components.collect.warc.warc_records import ArchiveDamage, ArchiveRecord
from components.collect.web.http_fetcher import (
    PAGE_HEADERS,
    ContentDecoder,
    is_page_type,
    join_headers,
    too_large_reason,
)

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_PAGE_RECORD_KINDS = ("response", "resource", "conversion")
"""Record types that hold a page."""
MAX_HEAD_BYTES = 256 * 1024
"""Largest head of an HTTP message."""
PAYLOAD_ERRORS = (ValueError, zlib.error, OSError, RuntimeError, EOFError)
"""Exceptions that decoding a broken payload raises."""


@dataclass(frozen=True)
class SkippedRecord:
    """A record that gave no page, with the reason."""

    url: str
    """Empty where it is not known."""
    at: int
    """Offset of the record in the decompressed file, in bytes."""
    reason: str
    is_bad: bool
    """True where the record should have given a page."""


def read_archive_pages(
    path: Path, max_bytes: int, revisits: RevisitResolver, name: str = ""
) -> Iterator[WebPage | SkippedRecord]:
    """Read the pages that answered 200, and the records that gave none.

    Args:
        path: The archive.
        max_bytes: Largest page, decompressed.
        revisits: Collects revisit records and the records that they refer to; gives their pages
            when all archives are read.
        name: The archive's name in reasons.
    """
    has_records = False
    with path.open("rb") as file:
        for record in read_records(path, file, max_bytes + MAX_HEAD_BYTES):
            has_records = True
            if isinstance(record, ArchiveDamage):
                yield SkippedRecord(record.url, record.at, record.reason, True)
                continue
            page: WebPage | SkippedRecord | None
            try:
                if record.kind == "revisit":
                    page = _defer_revisit(record, f"{name}#byte-{record.at}", revisits)
                else:
                    page = _record_page(record, max_bytes)
            except PAYLOAD_ERRORS as error:
                page = SkippedRecord(record.url, record.at, f"its payload is broken: {error}", True)
            if record.kind in _PAGE_RECORD_KINDS:
                revisits.offer_record(record, page if isinstance(page, WebPage) else None)
            if page is not None:
                yield page
    if not has_records and path.stat().st_size:
        yield SkippedRecord("", 0, "holds no WARC record", True)


def _record_page(record: ArchiveRecord, max_bytes: int) -> WebPage | SkippedRecord | None:
    """Page of a record, or why it gives none; None for a record that is not meant to hold one."""
    if record.kind not in _PAGE_RECORD_KINDS:
        return None
    if not record.url:
        return SkippedRecord("", record.at, "it does not say of which page it is", True)
    content_type = record.headers.get("content-type", "")
    body = record.block
    headers: dict[str, str] = {}
    if content_type.startswith("application/http"):
        status, headers, body = read_http_message(record, max_bytes)
        if status != 200:
            return None
        content_type = headers.get("content-type", "")
    elif record.kind == "response":
        return None  # a DNS, FTP or similar response
    if not is_page_type(content_type):
        return SkippedRecord(
            record.url, record.at, f"no page: {content_type.partition(';')[0].strip()}", False
        )
    if len(body) > max_bytes or not record.is_whole:
        return SkippedRecord(record.url, record.at, too_large_reason(max_bytes), True)
    stored_headers = tuple((name, headers[name]) for name in PAGE_HEADERS if name in headers)
    digest = hashlib.sha256(body).hexdigest()
    return WebPage(record.url, body, content_type, digest, stored_headers, _record_date(record))


def _defer_revisit(
    record: ArchiveRecord, place: str, revisits: RevisitResolver
) -> SkippedRecord | None:
    """Defer a revisit record, unless it refers to something that is no page either."""
    if not record.url:
        return SkippedRecord("", record.at, "it does not say of which page it is", True)
    headers: dict[str, str] = {}
    if record.block and record.headers.get("content-type", "").startswith("application/http"):
        status, response_headers, _ = _split_http_message(record.block)
        if status not in (200, 304):
            return None
        headers = {
            name: response_headers[name] for name in PAGE_HEADERS if name in response_headers
        }
    revisits.defer_revisit(record, place, _record_date(record), headers)
    return None


def _record_date(record: ArchiveRecord) -> str:
    date = record.headers.get("warc-date", "")
    return f"{date[:19]}Z" if _DATE.match(date) else ""


def read_http_message(record: ArchiveRecord, limit: int) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, decoded body of at most ``limit`` + 1 bytes) of an HTTP response record.

    Raises:
        ValueError, zlib.error, OSError, RuntimeError, EOFError: the payload is broken
            (``PAYLOAD_ERRORS``).
    """
    status, headers, body = _split_http_message(record.block)
    if status == 200 and record.is_whole:
        body = _decode_payload(body, headers, limit, "warc-truncated" in record.headers)
    return status, headers, body


def _split_http_message(block: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of an HTTP response.

    Raises:
        ValueError: it is none.
    """
    head, mark, body = block.partition(b"\r\n\r\n")
    if not mark or len(head) > MAX_HEAD_BYTES:
        head, mark, body = block.partition(b"\n\n")
    first, *lines = head.splitlines()[:1000] or [b""]
    words = first.split()
    if not first.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        raise ValueError("it is no HTTP response")
    pairs = (line.partition(b":") for line in lines)
    headers = join_headers((name.strip(), value.strip()) for name, _, value in pairs)
    return int(words[1][:3]), headers, body


def _decode_payload(body: bytes, headers: dict[str, str], limit: int, is_cut: bool) -> bytes:
    """Body without the encodings that it really has; at most ``limit`` + 1 bytes."""
    if headers.get("transfer-encoding", "").strip().lower() == "chunked":
        body = _decode_chunks(body)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("br", "zstd"):
        reader = BrotliReader if encoding == "br" else ZstdReader
        try:
            return _read_bounded(reader(io.BytesIO(body)), limit)
        except (OSError, ValueError, RuntimeError, EOFError):
            return _plain_payload(body, encoding)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return body
    decoder = ContentDecoder(encoding, limit)
    try:
        decoder.feed(body)
        if not decoder.full and not is_cut:
            decoder.finish()
    except zlib.error:
        return _plain_payload(body, encoding)
    return bytes(decoder.body)


def _read_bounded(reader: BrotliReader | ZstdReader, limit: int) -> bytes:
    content = bytearray()
    while len(content) <= limit and (chunk := reader.read(min(1 << 16, limit + 1 - len(content)))):
        content += chunk
    return bytes(content)


def _plain_payload(body: bytes, encoding: str) -> bytes:
    """Body that is stored plain under a header that says it is compressed.

    Raises:
        ValueError: it is no text either.
    """
    start = body[:512].lstrip()
    if start.startswith(b"<") or (start.isascii() and b"\0" not in start):
        return body
    raise ValueError(f"it is no {encoding}")


def _decode_chunks(body: bytes) -> bytes:
    """Body without its chunked coding (RFC 9112, section 7.1); unchanged where it has none."""
    content, offset = bytearray(), 0
    while True:
        end = body.find(b"\r\n", offset, offset + 1024)
        size = body[offset:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() and len(size) <= 12 else -1
        except ValueError:
            length = -1
        if length < 0:
            return bytes(content) if offset else body
        if length == 0:
            return bytes(content)
        content += body[end + 2 : end + 2 + length]
        offset = end + 2 + length + 2
