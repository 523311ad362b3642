"""Writer and reader of the crawl's own WARC 1.1 shards; the same pages give the same bytes.

A fetched page is a response record and the request that it answers. A page that is unchanged since
an earlier crawl is the earlier response as it was, and a revisit record (WARC 1.1, section 6.7)
with the evidence: so a file is complete without the earlier crawl's, and true about when the bytes
were captured. A page that was read from a user's file is a resource record.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastwarc.stream_io import GzipWriter, WarcWriter
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from components.collect.web.http_fetcher import PAGE_HEADERS
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.document_rows import shard_of

GZIP_LEVEL = 4
"""gzip level: higher ones save little on pages and cost much time."""
_TITLE_HEADER = "Modelmill-Title"
"""Header of our own for a page's title: the standard has none."""
Headers = tuple[tuple[str, str], ...]
_PROFILE_PREFIX = "http://netpreserve.org/warc/1.1/revisit/"
_INFO = (
    "software: Modelmill\r\n"
    "format: WARC File Format 1.1\r\n"
    "conformsTo: http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/\r\n"
    "robots: obey\r\n"
)


@dataclass(frozen=True)
class UnchangedResponse:
    """Response that shows a page to be unchanged since an earlier capture."""

    profile: str
    """``server-not-modified`` or ``identical-payload-digest``."""
    headers: Headers
    """HTTP headers of this response."""


@dataclass(frozen=True)
class WebPage:
    """One page as it was captured."""

    url: str
    body: bytes
    content_type: str
    digest: str
    """sha256 of the body."""
    headers: Headers = ()
    """HTTP headers that are equal when the page is; none for a page that was read from a file."""
    date: str = ""
    """Moment of the capture, where that is not the moment of the crawl."""
    request: Headers = ()
    """Headers of the request that it answers."""
    revisit: UnchangedResponse | None = None
    title: str = ""
    """Title in the row of a user's file that it was read from, on one line."""
    note: str = ""
    """Remark for its line in the ledger."""


def warc_shard_name(index: int) -> str:
    """File name of a shard: ``00003.warc.gz``."""
    return f"{index:05d}.warc.gz"


def write_shards(folder: Path, pages: Iterable[WebPage], shards: int, date: str) -> int:
    """Write pages to shards by URL, in the order given; the number of pages.

    Args:
        folder: Where the shards are written.
        pages: The pages.
        shards: Number of shards.
        date: Moment of the crawl, written to every record: the time of a fetch differs from run to
            run.
    """
    count = 0
    with ExitStack() as stack:
        writers = []
        for index in range(shards):
            path = stack.enter_context(atomic_path(folder / warc_shard_name(index)))
            file = stack.enter_context(path.open("wb"))
            writer = stack.enter_context(GzipWriter(file, compression_level=GZIP_LEVEL))
            _write_record(_info_record(warc_shard_name(index), date), writer)
            writers.append(writer)
        for page in pages:
            write_page(page, date, writers[shard_of(page.url, shards)])
            count += 1
    return count


def write_page(page: WebPage, date: str, writer: WarcWriter) -> None:
    """Write all records of one page.

    Args:
        page: The page.
        date: Moment of the crawl, for records without a date of their own.
        writer: The shard.
    """
    for record in _page_records(page, date):
        _write_record(record, writer)


def _write_record(record: WarcRecord, writer: WarcWriter) -> None:
    """Write a record as a gzip member of its own (WARC 1.1, annex D), so that it can be found."""
    record.write(writer, checksum_data=True)
    writer.finish()


def _info_record(name: str, date: str) -> WarcRecord:
    record = _new_record(WarcRecordType.warcinfo, f"{name}#{date}", "", date, _INFO.encode())
    record.headers["Content-Type"] = "application/warc-fields"
    record.headers["WARC-Filename"] = name
    return record


def _page_records(page: WebPage, date: str) -> Iterator[WarcRecord]:
    """Records of a page, the one with its content first."""
    capture_date = page.date or date
    content_record, kind = _content_record(page, capture_date), "response"
    yield content_record
    if page.revisit is not None:
        content_record, kind = _revisit_record(page, capture_date, date, content_record), "revisit"
        yield content_record
    if page.request:
        parts = urlsplit(page.url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        content = _http_head(f"GET {target} HTTP/1.1", (("Host", parts.netloc), *page.request))
        name = f"{page.url}#{page.digest}#request#{kind}"
        request = _new_record(WarcRecordType.request, name, page.url, date, content)
        request.headers["Content-Type"] = "application/http; msgtype=request"
        request.headers["WARC-Concurrent-To"] = content_record.headers["WARC-Record-ID"]
        yield request


def _content_record(page: WebPage, date: str) -> WarcRecord:
    name = f"{page.url}#{page.digest}"
    if not page.headers:
        record = _new_record(WarcRecordType.resource, name, page.url, date, page.body)
        record.headers["Content-Type"] = page.content_type or "application/octet-stream"
        if page.title:
            record.headers[_TITLE_HEADER] = page.title
        return record
    head = _http_head("HTTP/1.1 200 OK", (*page.headers, ("content-length", str(len(page.body)))))
    record = _new_record(WarcRecordType.response, name, page.url, date, head + page.body)
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.headers["WARC-Payload-Digest"] = payload_digest(page.body)
    return record


def _revisit_record(
    page: WebPage, capture_date: str, date: str, original: WarcRecord
) -> WarcRecord:
    assert page.revisit is not None
    is_not_modified = page.revisit.profile == "server-not-modified"
    line = "HTTP/1.1 304 Not Modified" if is_not_modified else "HTTP/1.1 200 OK"
    name = f"{page.url}#{page.digest}#{date}"
    content = _http_head(line, page.revisit.headers)
    record = _new_record(WarcRecordType.revisit, name, page.url, date, content)
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.headers["WARC-Payload-Digest"] = payload_digest(page.body)
    record.headers["WARC-Profile"] = f"{_PROFILE_PREFIX}{page.revisit.profile}"
    record.headers["WARC-Refers-To"] = original.headers["WARC-Record-ID"]
    record.headers["WARC-Refers-To-Target-URI"] = page.url
    record.headers["WARC-Refers-To-Date"] = capture_date
    return record


def _new_record(kind: WarcRecordType, name: str, url: str, date: str, content: bytes) -> WarcRecord:
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, name)
    record = WarcRecord()
    record.init_headers(kind, f"uuid:{identifier}".encode(), content_length=len(content))
    record.headers["WARC-Date"] = date
    if url:
        record.headers["WARC-Target-URI"] = url
    record.set_bytes_content(content)
    return record


def _http_head(first: str, headers: Headers) -> bytes:
    """Head of an HTTP message."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{first}\r\n{lines}\r\n".encode("latin-1", "replace")


def payload_digest(body: bytes) -> str:
    """``WARC-Payload-Digest`` as other tools write and compare it: SHA-1 in base 32."""
    sha1 = hashlib.sha1(body, usedforsecurity=False).digest()
    return f"sha1:{base64.b32encode(sha1).decode()}"


def read_pages(path: Path) -> Iterator[WebPage]:
    """Read the pages of a WARC file of our own, plain or compressed, that answered 200.

    Raises:
        DataError: it is no WARC, or is damaged; names the file.
    """
    has_records = False
    try:
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, auto_decode="all", strict_mode=False):
                has_records = True
                page = _page_of_record(record)
                if page is not None:
                    yield page
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be read as WARC: {error}") from error
    if not has_records and path.stat().st_size > 64:
        raise DataError(f"{path.name}: holds no WARC record")


def read_page_at(path: Path, offset: int) -> WebPage:
    """Read the page whose record starts at ``offset``.

    Raises:
        DataError: there is none.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            record = next(iter(ArchiveIterator(stream, auto_decode="all", strict_mode=False)))
            page = _page_of_record(record)
    except (OSError, ValueError, RuntimeError, EOFError, StopIteration) as error:
        raise DataError(f"{path.name}: cannot be read at {offset}: {error}") from error
    if page is None:
        raise DataError(f"{path.name}: holds no page at {offset}")
    return page


def _page_of_record(record: WarcRecord) -> WebPage | None:
    if record.record_type not in (WarcRecordType.response, WarcRecordType.resource):
        return None
    headers: Headers = ()
    content_type = record.headers.get("Content-Type") or ""
    if record.is_http:
        if record.http_headers.status_code != 200:
            return None
        content_type = record.http_headers.get("Content-Type") or ""
        http_headers = {name.lower(): value for name, value in record.http_headers.items()}
        headers = tuple((name, http_headers[name]) for name in PAGE_HEADERS if name in http_headers)
        headers = headers or (("content-type", content_type),)
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    body, date = record.reader.read(), record.headers.get("WARC-Date") or ""
    title = record.headers.get(_TITLE_HEADER) or ""
    digest = hashlib.sha256(body).hexdigest()
    return WebPage(url, body, content_type, digest, headers, date, title=title)
