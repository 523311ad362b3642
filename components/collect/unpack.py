"""A compressed file as a stream that survives damage: it tells where it breaks, and goes on.

Archives are one gzip member a record (WARC 1.1, annex D), so behind a broken member the next one
can be found by its first bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fastwarc.stream_io import Lz4Reader, ZstdReader

_GZIP = b"\x1f\x8b\x08"
_CHUNK = 64 * 1024
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 200
"""A member that unpacks to more than this, and to so many times its size, is a bomb."""
_MAX_BREAKS = 1000
"""A file with more is given up: each costs a search."""


class Broken(Exception):
    """The stream breaks off here; reading on starts at the next place that makes sense."""


class Stream:
    """Bytes one after another, of which some can be put back."""

    def __init__(self, chunks: Iterator[bytes | Broken]) -> None:
        self._chunks = chunks
        self._ready = bytearray()
        self.at = 0
        """Unpacked bytes read so far."""

    def read(self, size: int) -> bytes:
        """As many bytes, or fewer at the end. Raises Broken, once for each break."""
        while len(self._ready) < size and self._more():
            pass
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        self.at += len(taken)
        return taken

    def skip(self, size: int) -> int:
        """Pass over as many bytes; how many there were. Raises Broken."""
        left = size
        while left > 0 and (passed := len(self.read(min(left, _CHUNK)))):
            left -= passed
        return size - left

    def line(self, longest: int) -> bytes:
        """Up to a line's end, which is part of it; at most ``longest`` bytes. Raises Broken."""
        while (end := self._ready.find(b"\n", 0, longest)) < 0:
            if len(self._ready) >= longest or not self._more():
                return self.read(min(longest, len(self._ready)))
        return self.read(end + 1)

    def put_back(self, taken: bytes) -> None:
        """Let ``taken`` be read again."""
        self._ready[:0] = taken
        self.at -= len(taken)

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if isinstance(chunk, Broken):
            self.at += len(self._ready)
            self._ready.clear()  # the start of something whose end is lost
            raise chunk
        if chunk is None:
            return False
        self._ready += chunk
        return True


def open_stream(path: Path, file: BinaryIO) -> Stream:
    """The content of a plain file, or of one in gzip, zstd or LZ4."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return Stream(_gunzip(file, path.stat().st_size))
    if name.endswith((".zst", ".lz4")):
        return Stream(_unpacked(ZstdReader(file) if name.endswith(".zst") else Lz4Reader(file)))
    return Stream(iter(lambda: file.read(_CHUNK), b""))


def _unpacked(reader: ZstdReader | Lz4Reader) -> Iterator[bytes | Broken]:
    """Other compressions, to the first break."""
    try:
        while chunk := reader.read(_CHUNK):
            yield chunk
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        yield Broken(f"cannot be unpacked any further: {error}")


def _gunzip(file: BinaryIO, size: int) -> Iterator[bytes | Broken]:
    """Member by member; behind a broken one, from the next thing that looks like a member."""
    at = breaks = 0
    while at < size:
        member = _Member(file, at)
        yield from member.chunks()
        if member.reason is None:
            at = member.end
            continue
        yield Broken(member.reason)
        breaks += 1
        found = _find(file, member.end if member.is_bomb else at + 1)
        if found < 0:
            return
        if breaks >= _MAX_BREAKS:
            yield Broken(f"broken in {breaks} places; the rest is not read")
            return
        at = found


class _Member:
    """One gzip member from byte ``start`` on; ``end`` and ``reason`` are known when it is read."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._start = start
        self.end = start
        self.reason: str | None = None
        self.is_bomb = False

    def chunks(self) -> Iterator[bytes]:
        """Its content; when it breaks off, what came before that."""
        self._file.seek(self._start)
        unpacker, packed, made = zlib.decompressobj(31), b"", 0
        while not unpacker.eof:
            packed = packed or self._file.read(_CHUNK)
            if not packed:
                self.reason = "its gzip member is cut off"
                return
            given = len(packed)
            try:
                chunk = unpacker.decompress(packed, _CHUNK)
            except zlib.error:
                self.reason = "its gzip member is broken"
                return
            packed = b"" if unpacker.eof else unpacker.unconsumed_tail
            # At the end, zlib may name the same rest under both names.
            self.end += given - len(unpacker.unused_data if unpacker.eof else packed)
            made += len(chunk)
            if made > _BOMB_BYTES and made > _BOMB_RATIO * (self.end - self._start):
                self.reason, self.is_bomb = f"unpacks to more than {_BOMB_BYTES} bytes", True
                return
            yield chunk


def _find(file: BinaryIO, start: int) -> int:
    """Where the next gzip member seems to start; -1 for nowhere."""
    file.seek(start)
    at, kept = start, b""
    while block := file.read(1 << 20):
        searched = kept + block
        found = searched.find(_GZIP)
        if found >= 0:
            return at - len(kept) + found
        at += len(block)
        kept = searched[-2:]
    return -1
