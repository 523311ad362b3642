"""CDXJ: an index of WARC files, one line a record, sorted, so that a page is found by bisection.

A line is the address turned around (SURT: ``com,example)/a?b=1``), the 14-digit moment and a JSON
object with what and where, as pywb and Common Crawl's tools write and read it.
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
    """Where one record lies."""

    url: str
    moment: str
    """``YYYYMMDDhhmmss``, UTC."""
    mime: str
    filename: str
    offset: int
    """Bytes before its gzip member."""


def surt(url: str) -> str:
    """The sort-friendly form of an address: host turned around, then path and query.

    Schemes and ``www`` make no difference; the query's parameters are sorted.
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
    lines = [line for archive in sorted(folder.glob("*.warc.gz")) for line in _lines(archive)]
    write_atomically(folder / INDEX_FILE, b"".join(sorted(lines)))


def _lines(archive: Path) -> Iterator[bytes]:
    """A line for each record that stands for a page; a record ends where the next one starts."""
    with archive.open("rb") as stream:
        waiting: tuple[str, dict[str, str], int] | None = None
        for record in ArchiveIterator(stream, parse_http=False):
            if waiting is not None:
                yield _line(*waiting, record.stream_pos, archive.name)
            waiting = None
            if record.record_type & _INDEXED:
                waiting = (*_described(record), record.stream_pos)
        if waiting is not None:
            yield _line(*waiting, archive.stat().st_size, archive.name)


def _described(record: WarcRecord) -> tuple[str, dict[str, str]]:
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
    told = {
        "url": url,
        "mime": "warc/revisit" if is_revisit else mime,
        "status": status,
        "digest": digest or "-",
    }
    return f"{surt(url)} {date}", told


def _line(key: str, told: dict[str, str], start: int, end: int, filename: str) -> bytes:
    place = {"length": str(end - start), "offset": str(start), "filename": filename}
    return f"{key} {json.dumps({**told, **place}, ensure_ascii=False)}\n".encode(errors="replace")


class Index:
    """A CDXJ file, read where it lies."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            empty = path.stat().st_size == 0
            self._text = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def find(self, url: str) -> list[Capture]:
        """Captures of an address and those that differ in scheme alone, the oldest first."""
        key = f"{surt(url)} ".encode(errors="replace")
        found: list[Capture] = []
        at = self._first(key)
        while at < len(self._text):
            end = self._text.find(b"\n", at)
            end = len(self._text) if end < 0 else end
            line = bytes(self._text[at:end])
            if not line.startswith(key):
                break
            found.append(_capture(line))
            at = end + 1
        return found

    def _first(self, key: bytes) -> int:
        """Where the first line that is not before ``key`` starts."""
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


def _capture(line: bytes) -> Capture:
    _, moment, told = line.decode().split(" ", 2)
    told = json.loads(told)
    return Capture(told["url"], moment, told["mime"], told["filename"], int(told["offset"]))
