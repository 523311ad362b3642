"""Records of ARC files (version 1 and 2), the format before WARC, as if they were WARC records.

A record is a line ``URL IP date type length`` (version 2 has more fields in the middle) and as many
bytes: for a page the HTTP response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from components.collect.warc.damaged_stream import ArchiveStream, StreamBroken, open_archive_stream
from components.collect.warc.warc_records import (
    ArchiveDamage,
    ArchiveRecord,
    read_archive_records,
)

_MAX_LINE = 32 * 1024
_HEAD = re.compile(
    rb"(?P<url>[a-z][a-z0-9+.-]*:\S*(?: \S+)*?) (?P<ip>[0-9a-fA-F.:]{3,45}|-) (?P<date>\d{14}) "
    rb"(?P<type>[^ ]*)(?: [^ ]*){0,5} (?P<length>\d{1,15})\s*",
    re.IGNORECASE,
)
_FILE_HEAD = b"filedesc:"
_ARC_NAME = re.compile(r"\.arc(?:\.\w+)?$", re.IGNORECASE)


def read_records(
    path: Path, file: BinaryIO, max_block_bytes: int
) -> Iterator[ArchiveRecord | ArchiveDamage]:
    """Read every record of a WARC or ARC file, by its name, and every damage.

    Args:
        path: The archive.
        file: Its bytes.
        max_block_bytes: Bytes of a record's block that are kept.
    """
    stream = open_archive_stream(path, file)
    if _ARC_NAME.search(path.name):
        return read_arc_records(stream, max_block_bytes)
    return read_archive_records(stream, max_block_bytes)


def read_arc_records(
    stream: ArchiveStream, max_block_bytes: int
) -> Iterator[ArchiveRecord | ArchiveDamage]:
    """Read every record of an ARC file, at most ``max_block_bytes`` of it, and every damage."""
    is_damaged = False
    while True:
        at = stream.at
        try:
            line = stream.read_line(_MAX_LINE)
            if not line:
                return
            if not line.strip():
                continue
            head = _HEAD.fullmatch(line.rstrip(b"\r\n"))
            if head is None:
                if not is_damaged:  # the lines up to the next record are one damage
                    yield ArchiveDamage(at, "no ARC record")
                is_damaged = True
                continue
            is_damaged = False
            record = _read_block(stream, at, head, max_block_bytes)
        except StreamBroken as error:
            yield ArchiveDamage(at, str(error))
            continue
        if record is not None:
            yield record


def _read_block(
    stream: ArchiveStream, at: int, head: re.Match[bytes], max_block_bytes: int
) -> ArchiveRecord | ArchiveDamage | None:
    """Record behind its first line; None for the head of the file. Raises StreamBroken."""
    length = int(head["length"])
    block = stream.read_bytes(min(length, max_block_bytes))
    bytes_read = len(block) + stream.skip_bytes(length - len(block))
    if head["url"].lower().startswith(_FILE_HEAD):
        return None
    url = head["url"].decode("utf-8", errors="replace")
    if bytes_read < length:
        return ArchiveDamage(at, "it is cut off", url)
    date = head["date"].decode()
    is_http = block.startswith(b"HTTP/")
    headers = {
        "warc-type": "response" if is_http else "resource",
        "warc-target-uri": url,
        "warc-date": f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z",
        "content-type": "application/http" if is_http else head["type"].decode(errors="replace"),
    }
    if url.lower().startswith("dns:"):
        headers["warc-type"] = "metadata"
    return ArchiveRecord(at, headers, block, len(block) == length)
