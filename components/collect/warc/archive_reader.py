"""Reader of pages in third-party WARC and ARC files, Common Crawl's text extracts (WET) included.

Nothing in such a file is trusted: not its lengths, not its encodings, not that it ends. A payload
may still be chunked and compressed as it came, or be stored plain under headers that say otherwise,
as several crawlers do; the content decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.collect.warc.arc_records import read_records
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver
from components.collect.warc.warc_records import ArchiveDamage, ArchiveRecord
from components.collect.web.http_fetcher import PAGE_HEADERS, too_large_reason
from components.collect.web.media_types import (
    judge_media_type,
    may_be_page,
    unreadable_reason,
)
from components.collect.web.transfer.content_codings import decode_content
from components.collect.web.transfer.http_message import (
    MAX_HEAD_BYTES,
    decode_chunks,
    describe_part,
    has_page_status,
    join_headers,
    split_http_message,
)

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_PAGE_RECORD_KINDS = ("response", "resource", "conversion")
"""Record types that hold a page."""


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
            except ValueError as error:
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
        has_start, missing = describe_part(status, headers)
        if not has_page_status(status):
            return None
        if not has_start:
            return SkippedRecord(record.url, record.at, f"HTTP {status}: {missing}", True)
        content_type = headers.get("content-type", "")
    elif record.kind == "response":
        return None  # a DNS, FTP or similar response
    if not may_be_page(content_type):
        return SkippedRecord(record.url, record.at, unreadable_reason(content_type), False)
    if len(body) > max_bytes or not record.is_whole:
        return SkippedRecord(record.url, record.at, too_large_reason(max_bytes), True)
    verdict = judge_media_type(content_type, body)
    if verdict.reason:
        return SkippedRecord(record.url, record.at, verdict.reason, verdict.is_misdeclared)
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
        head, _ = split_http_message(record.block)
        if head.status != 304 and not has_page_status(head.status):
            return None
        response_headers = join_headers(head.lines)
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
        ValueError: the payload is broken.
    """
    head, body = split_http_message(record.block)
    status, headers = head.status, join_headers(head.lines)
    if has_page_status(status) and record.is_whole:
        body = _decode_payload(body, headers, limit, "warc-truncated" in record.headers)
    return status, headers, body


def _decode_payload(body: bytes, headers: dict[str, str], limit: int, is_cut: bool) -> bytes:
    """Body without the encodings that it really has; at most ``limit`` + 1 bytes.

    Raises:
        ValueError: it is damaged, or ends early though the record does not say that it was cut.
    """
    if headers.get("transfer-encoding", "").strip().lower() == "chunked":
        body = decode_chunks(body)
    decoded = decode_content(body, headers.get("content-encoding", ""), limit)
    if decoded.note and not is_cut:
        raise ValueError(decoded.note)
    return decoded.body
