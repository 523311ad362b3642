"""Records of a third-party WARC file (WARC 1.0 and 1.1): every intact one, and every damage.

A record that is cut off, or that contradicts its length or its digest, is reported as damage with
its reason, and so is a stretch of bytes that is no record; the next record is then searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from components.collect.warc.damaged_stream import ArchiveStream, StreamBroken
from components.collect.warc.page_shards import payload_digest

_VERSION = re.compile(rb"WARC/[01]\.\d{1,2}\s*")
_NEXT = re.compile(rb"\nWARC/[01]\.\d{1,2}\r?\n")
_MAX_LINE, _MAX_LINES = 32 * 1024, 200
_MAX_LENGTH = 1 << 50


@dataclass(frozen=True)
class ArchiveRecord:
    """One record; ``block`` is bounded by the reader's ``max_block_bytes``."""

    at: int
    """Offset in the decompressed file, in bytes."""
    headers: dict[str, str]
    """Names in lower case; of several lines the first."""
    block: bytes
    is_whole: bool
    """True where ``block`` is the whole block."""

    @property
    def kind(self) -> str:
        """``response``, ``revisit``, ..."""
        return self.headers.get("warc-type", "").lower()

    @property
    def url(self) -> str:
        return self.headers.get("warc-target-uri", "").strip("<>")


@dataclass(frozen=True)
class ArchiveDamage:
    """A place from which no record could be read."""

    at: int
    reason: str
    url: str = ""
    """URL of the damaged record, where it is known."""


def read_archive_records(
    stream: ArchiveStream, max_block_bytes: int
) -> Iterator[ArchiveRecord | ArchiveDamage]:
    """Read every record, with at most ``max_block_bytes`` of its block, and every damage."""
    while True:
        at = stream.at
        try:
            first = stream.read_line(_MAX_LINE)
            if not first:
                return
            if not first.strip():
                continue
            if not _VERSION.fullmatch(first):
                yield ArchiveDamage(at, "no WARC record")
                if not _find_next(stream):
                    return
                continue
        except StreamBroken as error:
            yield ArchiveDamage(at, str(error))
            continue
        yield _read_record(stream, at, max_block_bytes)


def _find_next(stream: ArchiveStream) -> bool:
    """Skip to the next line that starts a record; False at the end. Raises StreamBroken."""
    while line := stream.read_line(_MAX_LINE):
        if _VERSION.fullmatch(line):
            stream.put_back(line)
            return True
    return False


def _read_record(
    stream: ArchiveStream, at: int, max_block_bytes: int
) -> ArchiveRecord | ArchiveDamage:
    """Read the record whose first line was just read."""
    headers: dict[str, str] = {}
    try:
        if not _read_headers(stream, headers):
            return ArchiveDamage(at, "its headers have no end")
        url = headers.get("warc-target-uri", "").strip("<>")
        stated_length = headers.get("content-length", "")
        if not (
            stated_length.isascii() and stated_length.isdigit() and int(stated_length) < _MAX_LENGTH
        ):
            return ArchiveDamage(at, "it does not say how long it is", url)
        length = int(stated_length)
        block = stream.read_bytes(min(length, max_block_bytes))
        bytes_read = len(block) + stream.skip_bytes(length - len(block))
        ending = _read_ending(stream)
    except StreamBroken as error:
        return ArchiveDamage(at, str(error), headers.get("warc-target-uri", "").strip("<>"))
    if ending:
        _put_back_swallowed(stream, block if bytes_read == len(block) else b"", ending)
        return ArchiveDamage(at, "its length is wrong", url)
    if bytes_read < length:
        _put_back_swallowed(stream, block if bytes_read == len(block) else b"", b"")
        return ArchiveDamage(at, "it is cut off", url)
    if bytes_read == len(block) and not _has_digest(headers.get("warc-block-digest", ""), block):
        return ArchiveDamage(at, "its digest is another", url)
    return ArchiveRecord(at, headers, block, len(block) == length)


def _read_ending(stream: ArchiveStream) -> bytes:
    """Bytes in place of the two empty lines behind a record; empty where it ends well."""
    ending = stream.read_bytes(4).lstrip(b"\r\n")
    if ending and b"WARC".startswith(ending):  # some writers omit an empty line
        stream.put_back(ending)
        return b""
    return ending


def _read_headers(stream: ArchiveStream, headers: dict[str, str]) -> bool:
    """Fill ``headers`` up to the empty line; False where there is none. Raises StreamBroken."""
    last = ""
    for _ in range(_MAX_LINES):
        line = stream.read_line(_MAX_LINE)
        if not line.endswith(b"\n"):
            return False
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if not text:
            return True
        if text[0] in " \t" and last:  # a continuation line
            headers[last] += f" {text.strip()}"
            continue
        name, _, value = text.partition(":")
        last = name.strip().lower()
        headers.setdefault(last, value.strip())
    return False


def _put_back_swallowed(stream: ArchiveStream, block: bytes, ending: bytes) -> None:
    """Push back what a wrong length has swallowed, from the next record in it on."""
    swallowed = _NEXT.search(block)
    stream.put_back(block[swallowed.start() + 1 :] + ending if swallowed else ending)


def _has_digest(digest: str, block: bytes) -> bool:
    """True where a block has the stated SHA-1 digest; digests of other kinds are not checked."""
    algorithm, _, value = digest.partition(":")
    if algorithm.lower() != "sha1" or len(value) != 32:
        return True
    return payload_digest(block) == f"sha1:{value.upper()}"
