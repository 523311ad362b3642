"""CDXJ index of WARC files: one sorted line a record, in which a page is found by bisection.

A line is the URL in SURT order (``com,example)/a?b=1``), the 14-digit timestamp and a JSON object
with media type and place, as pywb and Common Crawl's tools write and read it.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from components.core.io.atomic_write import write_atomically

INDEX_FILE = "index.cdxj"
_INDEXED = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.revisit


@dataclass(frozen=True)
class Capture:
    """One capture of a page, with the place of its record."""

    url: str
    moment: str
    """``YYYYMMDDhhmmss``, UTC."""
    mime: str
    filename: str
    offset: int
    """Offset of the record's gzip member in the file, in bytes."""


def surt_key(url: str) -> str:
    """SURT (Sort-friendly URI Reordering Transform) of a URL: reversed host, then path and query.

    The scheme and ``www`` make no difference; the query's parameters are sorted.
    """
    url = url.replace(" ", "%20")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removeprefix("www."), parts.port
    except ValueError:
        return url
    if not host:
        return url
    reverse = host if host[-1:].isdigit() or ":" in host else ",".join(reversed(host.split(".")))
    shown = f":{port}" if port not in (None, 80, 443) else ""
    query = "&".join(sorted(parts.query.split("&")))
    return f"{reverse}{shown}){parts.path or '/'}{'?' if query else ''}{query}"


def write_index(folder: Path) -> None:
    """Index every ``*.warc.gz`` of a folder in ``index.cdxj``."""
    lines = [line for archive in sorted(folder.glob("*.warc.gz")) for line in _index_lines(archive)]
    write_atomically(folder / INDEX_FILE, b"".join(sorted(lines)))


def _index_lines(archive: Path) -> Iterator[bytes]:
    """Index line of each record that stands for a page; it ends where the next record starts."""
    with archive.open("rb") as stream:
        pending: tuple[str, dict[str, str], int] | None = None
        for record in ArchiveIterator(stream, parse_http=False):
            if pending is not None:
                yield _index_line(*pending, record.stream_pos, archive.name)
            pending = None
            if record.record_type & _INDEXED:
                pending = (*_describe_record(record), record.stream_pos)
        if pending is not None:
            yield _index_line(*pending, archive.stat().st_size, archive.name)


def _describe_record(record: WarcRecord) -> tuple[str, dict[str, str]]:
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    date = "".join(c for c in record.headers.get("WARC-Date") or "" if c.isdigit())[:14]
    is_revisit = record.record_type == WarcRecordType.revisit
    mime, status = record.headers.get("Content-Type") or "unk", "200"
    if record.is_http or mime.startswith("application/http"):
        head = record.reader.read(4096).decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
        status = head[0].split(" ")[1] if head[0].count(" ") else "-"
        fields = (line.partition(":") for line in head[1:])
        kinds = [v.strip() for name, _, v in fields if name.strip().lower() == "content-type"]
        mime = kinds[0].partition(";")[0].strip() if kinds else "unk"
    digest = record.headers.get("WARC-Payload-Digest") or record.headers.get("WARC-Block-Digest")
    description = {
        "url": url,
        "mime": "warc/revisit" if is_revisit else mime,
        "status": status,
        "digest": digest or "-",
    }
    return f"{surt_key(url)} {date}", description


def _index_line(
    key: str, description: dict[str, str], start: int, end: int, filename: str
) -> bytes:
    place = {"length": str(end - start), "offset": str(start), "filename": filename}
    return f"{key} {json.dumps({**description, **place}, ensure_ascii=False)}\n".encode(
        errors="replace"
    )


class CdxjIndex:
    """A CDXJ file, memory-mapped and searched by bisection."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            empty = path.stat().st_size == 0
            self._text = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def find_captures(self, url: str) -> list[Capture]:
        """Find captures of a URL, and of those with the same SURT, the oldest first."""
        key = f"{surt_key(url)} ".encode(errors="replace")
        captures: list[Capture] = []
        offset = self._first_line_from(key)
        while offset < len(self._text):
            end = self._text.find(b"\n", offset)
            end = len(self._text) if end < 0 else end
            line = bytes(self._text[offset:end])
            if not line.startswith(key):
                break
            captures.append(_parse_capture(line))
            offset = end + 1
        return captures

    def _first_line_from(self, key: bytes) -> int:
        """Offset of the first line that does not sort before ``key``."""
        low, high = 0, len(self._text)
        while low < high:
            middle = (low + high) // 2
            start = self._text.rfind(b"\n", 0, middle) + 1
            end = self._text.find(b"\n", middle)
            end = len(self._text) if end < 0 else end
            if bytes(self._text[start:end]) < key:
                low = end + 1
            else:
                high = start
        return low


def _parse_capture(line: bytes) -> Capture:
    _, moment, fields = line.decode().split(" ", 2)
    fields = json.loads(fields)
    return Capture(fields["url"], moment, fields["mime"], fields["filename"], int(fields["offset"]))
