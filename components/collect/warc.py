"""WARC shards with the same bytes for the same pages, and reading them again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from components.core.errors import DataError
from components.core.rows import shard_of

COMPRESSION = 4
"""Of gzip: larger saves little on pages and costs much."""


@dataclass(frozen=True)
class WebPage:
    """One page as it was found."""

    url: str
    body: bytes
    content_type: str
    digest: str
    """sha256 of the body."""
    headers: tuple[tuple[str, str], ...] = ()
    """HTTP headers that are equal when the page is; none for a page that was read from a file."""


def shard_name(index: int) -> str:
    """``00003.warc.gz``."""
    return f"{index:05d}.warc.gz"


def write_shards(folder: Path, pages: Iterable[WebPage], shards: int, date: str) -> int:
    """Spread ``pages`` over the shards by URL, in the order given; how many there were.

    ``date`` is written to every record, since the moment of a fetch differs from run to run.
    """
    count = 0
    partial = [folder / (shard_name(index) + ".tmp") for index in range(shards)]
    with ExitStack() as stack:
        writers = []
        for path in partial:
            file = stack.enter_context(path.open("wb"))
            writers.append(stack.enter_context(GzipWriter(file, compression_level=COMPRESSION)))
        for page in pages:
            _record(page, date).write(writers[shard_of(page.url, shards)], checksum_data=True)
            count += 1
    for path in partial:
        path.replace(path.with_suffix(""))
    return count


def _record(page: WebPage, date: str) -> WarcRecord:
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{page.url}#{page.digest}")
    record = WarcRecord()
    content = page.body
    kind, media = WarcRecordType.resource, page.content_type or "application/octet-stream"
    if page.headers:
        kind, media = WarcRecordType.response, "application/http; msgtype=response"
        lines = [*page.headers, ("content-length", str(len(page.body)))]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        content = f"HTTP/1.1 200 OK\r\n{head}\r\n".encode("latin-1", "replace") + page.body
    record.init_headers(kind, f"uuid:{identifier}".encode(), content_length=len(content))
    record.headers["WARC-Date"] = date
    record.headers["WARC-Target-URI"] = page.url
    record.headers["Content-Type"] = media
    record.set_bytes_content(content)
    return record


def read_pages(path: Path) -> Iterator[WebPage]:
    """Pages of one WARC file, plain or compressed, that answered 200.

    Raises:
        DataError: it is no WARC, or is damaged; names the file.
    """
    wanted = WarcRecordType.response | WarcRecordType.resource
    found = False
    try:
        with path.open("rb") as stream:
            for record in ArchiveIterator(
                stream, record_types=wanted, auto_decode="all", strict_mode=False
            ):
                found = True
                page = _page(record)
                if page is not None:
                    yield page
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be read as WARC: {error}") from error
    if not found and path.stat().st_size > 64:
        raise DataError(f"{path.name}: holds no WARC record")


def _page(record: WarcRecord) -> WebPage | None:
    url = record.headers.get("WARC-Target-URI") or ""
    headers: tuple[tuple[str, str], ...] = ()
    if record.is_http:
        if record.http_headers.status_code != 200:
            return None
        kind = record.http_headers.get("Content-Type") or ""
        headers = (("content-type", kind),)
    else:
        kind = record.headers.get("Content-Type") or ""
    body = record.reader.read()
    return WebPage(url.strip("<>"), body, kind, "", headers)
