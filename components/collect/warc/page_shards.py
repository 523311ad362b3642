"""WARC 1.1 shards with the same bytes for the same pages, and reading them again.

A fetched page is a response and the request it answers. A page that is as it was in an earlier
crawl is the earlier response, as it was, and a revisit (WARC 1.1, section 6.7) that says how that
is known: so a file is whole without the earlier crawl's, and honest about when the bytes came. A
page that was read from a file is a resource.
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

from components.collect.web.http_fetcher import KEPT
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.document_rows import shard_of

COMPRESSION = 4
"""Of gzip: larger saves little on pages and costs much."""
_TITLE = "Modelmill-Title"
"""A header of our own: the standard has none for it."""
Headers = tuple[tuple[str, str], ...]
_PROFILE = "http://netpreserve.org/warc/1.1/revisit/"
_INFO = (
    "software: Modelmill\r\n"
    "format: WARC File Format 1.1\r\n"
    "conformsTo: http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/\r\n"
    "robots: obey\r\n"
)


@dataclass(frozen=True)
class Revisit:
    """How it is known that a page is as it was."""

    profile: str
    """``server-not-modified`` or ``identical-payload-digest``."""
    headers: Headers
    """What came with this answer."""


@dataclass(frozen=True)
class WebPage:
    """One page as it was found."""

    url: str
    body: bytes
    content_type: str
    digest: str
    """sha256 of the body."""
    headers: Headers = ()
    """HTTP headers that are equal when the page is; none for a page that was read from a file."""
    date: str = ""
    """When it was fetched, where that is not the moment of the crawl."""
    request: Headers = ()
    """What was sent for it."""
    revisit: Revisit | None = None
    title: str = ""
    """What the row of a user's file that it was read from says, in one line."""


def shard_name(index: int) -> str:
    """``00003.warc.gz``."""
    return f"{index:05d}.warc.gz"


def write_shards(folder: Path, pages: Iterable[WebPage], shards: int, date: str) -> int:
    """Spread ``pages`` over the shards by URL, in the order given; how many there were.

    ``date`` is written to every record, since the moment of a fetch differs from run to run.
    """
    count = 0
    with ExitStack() as stack:
        writers = []
        for index in range(shards):
            path = stack.enter_context(atomic_path(folder / shard_name(index)))
            file = stack.enter_context(path.open("wb"))
            writer = stack.enter_context(GzipWriter(file, compression_level=COMPRESSION))
            _write(_info(shard_name(index), date), writer)
            writers.append(writer)
        for page in pages:
            write_page(page, date, writers[shard_of(page.url, shards)])
            count += 1
    return count


def write_page(page: WebPage, date: str, writer: WarcWriter) -> None:
    """Write all records of one page."""
    for record in _records(page, date):
        _write(record, writer)


def _write(record: WarcRecord, writer: WarcWriter) -> None:
    """Write a record as a gzip member of its own (WARC 1.1, annex D), so that it can be found."""
    record.write(writer, checksum_data=True)
    writer.finish()


def _info(name: str, date: str) -> WarcRecord:
    record = _record(WarcRecordType.warcinfo, f"{name}#{date}", "", date, _INFO.encode())
    record.headers["Content-Type"] = "application/warc-fields"
    record.headers["WARC-Filename"] = name
    return record


def _records(page: WebPage, date: str) -> Iterator[WarcRecord]:
    """The page's records: what holds it first."""
    then = page.date or date
    holder, kind = _holder(page, then), "response"
    yield holder
    if page.revisit is not None:
        holder, kind = _revisit(page, then, date, holder), "revisit"
        yield holder
    if page.request:
        parts = urlsplit(page.url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        content = _http(f"GET {target} HTTP/1.1", (("Host", parts.netloc), *page.request))
        name = f"{page.url}#{page.digest}#request#{kind}"
        request = _record(WarcRecordType.request, name, page.url, date, content)
        request.headers["Content-Type"] = "application/http; msgtype=request"
        request.headers["WARC-Concurrent-To"] = holder.headers["WARC-Record-ID"]
        yield request


def _holder(page: WebPage, date: str) -> WarcRecord:
    name = f"{page.url}#{page.digest}"
    if not page.headers:
        record = _record(WarcRecordType.resource, name, page.url, date, page.body)
        record.headers["Content-Type"] = page.content_type or "application/octet-stream"
        if page.title:
            record.headers[_TITLE] = page.title
        return record
    head = _http("HTTP/1.1 200 OK", (*page.headers, ("content-length", str(len(page.body)))))
    record = _record(WarcRecordType.response, name, page.url, date, head + page.body)
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.headers["WARC-Payload-Digest"] = payload_digest(page.body)
    return record


def _revisit(page: WebPage, then: str, date: str, original: WarcRecord) -> WarcRecord:
    assert page.revisit is not None
    same = page.revisit.profile == "server-not-modified"
    line = "HTTP/1.1 304 Not Modified" if same else "HTTP/1.1 200 OK"
    name = f"{page.url}#{page.digest}#{date}"
    content = _http(line, page.revisit.headers)
    record = _record(WarcRecordType.revisit, name, page.url, date, content)
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.headers["WARC-Payload-Digest"] = payload_digest(page.body)
    record.headers["WARC-Profile"] = f"{_PROFILE}{page.revisit.profile}"
    record.headers["WARC-Refers-To"] = original.headers["WARC-Record-ID"]
    record.headers["WARC-Refers-To-Target-URI"] = page.url
    record.headers["WARC-Refers-To-Date"] = then
    return record


def _record(kind: WarcRecordType, name: str, url: str, date: str, content: bytes) -> WarcRecord:
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, name)
    record = WarcRecord()
    record.init_headers(kind, f"uuid:{identifier}".encode(), content_length=len(content))
    record.headers["WARC-Date"] = date
    if url:
        record.headers["WARC-Target-URI"] = url
    record.set_bytes_content(content)
    return record


def _http(first: str, headers: Headers) -> bytes:
    """The head of an HTTP message."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{first}\r\n{lines}\r\n".encode("latin-1", "replace")


def payload_digest(body: bytes) -> str:
    """As other tools write and compare it: SHA-1 in base 32."""
    sha1 = hashlib.sha1(body, usedforsecurity=False).digest()
    return f"sha1:{base64.b32encode(sha1).decode()}"


def read_pages(path: Path) -> Iterator[WebPage]:
    """Pages of one WARC file of our own, plain or compressed, that answered 200.

    Raises:
        DataError: it is no WARC, or is damaged; names the file.
    """
    found = False
    try:
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, auto_decode="all", strict_mode=False):
                found = True
                page = _page(record)
                if page is not None:
                    yield page
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be read as WARC: {error}") from error
    if not found and path.stat().st_size > 64:
        raise DataError(f"{path.name}: holds no WARC record")


def read_page_at(path: Path, offset: int) -> WebPage:
    """The page whose record starts at ``offset``.

    Raises:
        DataError: there is none.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            record = next(iter(ArchiveIterator(stream, auto_decode="all", strict_mode=False)))
            page = _page(record)
    except (OSError, ValueError, RuntimeError, EOFError, StopIteration) as error:
        raise DataError(f"{path.name}: cannot be read at {offset}: {error}") from error
    if page is None:
        raise DataError(f"{path.name}: holds no page at {offset}")
    return page


def _page(record: WarcRecord) -> WebPage | None:
    if record.record_type not in (WarcRecordType.response, WarcRecordType.resource):
        return None
    headers: Headers = ()
    kind = record.headers.get("Content-Type") or ""
    if record.is_http:
        if record.http_headers.status_code != 200:
            return None
        kind = record.http_headers.get("Content-Type") or ""
        given = {name.lower(): value for name, value in record.http_headers.items()}
        headers = tuple((name, given[name]) for name in KEPT if name in given)
        headers = headers or (("content-type", kind),)
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    body, date = record.reader.read(), record.headers.get("WARC-Date") or ""
    title = record.headers.get(_TITLE) or ""
    digest = hashlib.sha256(body).hexdigest()
    return WebPage(url, body, kind, digest, headers, date, title=title)
