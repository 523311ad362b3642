"""A compressed file as a stream that survives damage: it tells where it breaks, and goes on.

Archives are one gzip member a record (WARC 1.1, annex D), or one frame of zstd or LZ4, so behind a
broken one the next can be found: where its frame says that it ends, else by its first bytes. In an
archive that is a single member or frame there is nothing to go on with behind a break.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from components.collect.warc.compression_frames import (
    LZ4,
    NAMES,
    ZSTD,
    bounds_at,
    read_dictionary,
    unpacked,
)

_GZIP = b"\x1f\x8b\x08"
_CHUNK = 64 * 1024
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 200
"""A member that unpacks to more than this, and to so many times its size, is a bomb."""
_NO_OTHER = "no frame follows that reading could go on with"
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
    name, size = path.name.lower(), path.stat().st_size
    if name.endswith(".gz"):
        return Stream(_members(file, size, _GZIP, lambda start: _Member(file, start)))
    if name.endswith(".zst"):
        dictionary = read_dictionary(file, size)
        frame = partial(_Frame, file, size, ZSTD, dictionary)
        return Stream(_members(file, size, ZSTD, frame))
    if name.endswith(".lz4"):
        return Stream(_members(file, size, LZ4, partial(_Frame, file, size, LZ4, b"")))
    return Stream(iter(lambda: file.read(_CHUNK), b""))


def _members(
    file: BinaryIO, size: int, magic: bytes, opened: Callable[[int], _Member | _Frame]
) -> Iterator[bytes | Broken]:
    """One after another; behind a broken one, from the next thing that looks like one."""
    at = breaks = 0
    while at < size:
        member = opened(at)
        yield from member.chunks()
        if member.reason is None:
            at = member.end
            continue
        breaks += 1
        at = _find(file, member.search_from, magic)
        # Of gzip, a file's only member may be cut off as any other may.
        is_end = at < 0 and isinstance(member, _Frame)
        yield Broken(f"{member.reason}; {_NO_OTHER}" if is_end else member.reason)
        if at < 0:
            return
        if breaks >= _MAX_BREAKS:
            yield Broken(f"broken in {breaks} places; the rest is not read")
            return


class _Member:
    """One gzip member from byte ``start`` on; ``end`` and ``reason`` are known when it is read."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._start = start
        self.end = start
        self.reason: str | None = None
        self.search_from = start + 1
        """Where the next member may start, when this one is broken."""

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
                self.reason = f"unpacks to more than {_BOMB_BYTES} bytes"
                self.search_from = self.end
                return
            yield chunk


class _Frame:
    """One frame of zstd or LZ4 from byte ``start`` on, with what ``_Member`` has."""

    def __init__(
        self, file: BinaryIO, size: int, magic: bytes, dictionary: bytes, start: int
    ) -> None:
        self._file, self._start = file, start
        self._magic, self._dictionary = magic, dictionary
        self._size = size
        self._bounds = bounds_at(file, start, size, magic)
        self.end = self._bounds.end
        self.reason: str | None = None

    @property
    def search_from(self) -> int:
        """Where the next frame may start, when this one is broken.

        Where its headers are sound, another frame starts behind it, or nothing is there.
        """
        end = self.end
        is_sound = end >= 0 and (
            end == self._size or bounds_at(self._file, end, self._size, self._magic).is_frame
        )
        return end if is_sound else self._start + 1

    def chunks(self) -> Iterator[bytes]:
        """Its content; when it breaks off, what came before that."""
        bounds, name = self._bounds, NAMES[self._magic]
        if bounds.is_skippable and bounds.end >= 0:
            return
        if not bounds.is_frame:
            self.reason = f"no {name} frame"
            return
        end = bounds.end if bounds.end >= 0 else self._size
        made = 0
        try:
            for chunk, taken in unpacked(
                self._file, self._start, end, self._magic, self._dictionary
            ):
                made += len(chunk)
                if made > _BOMB_BYTES and made > _BOMB_RATIO * taken:
                    self.reason = f"unpacks to more than {_BOMB_BYTES} bytes"
                    return
                yield chunk
        except (OSError, ValueError, RuntimeError, EOFError):
            self.reason = f"its {name} frame is broken or cut off"
            if bounds.dictionary and not self._dictionary:
                self.reason = f"its {name} frame needs a dictionary that the file does not hold"
            return
        if bounds.end < 0:
            self.reason = f"its {name} frame is cut off"


def _find(file: BinaryIO, start: int, magic: bytes) -> int:
    """Where the next member or frame seems to start; -1 for nowhere."""
    file.seek(start)
    at, kept = start, b""
    while block := file.read(1 << 20):
        searched = kept + block
        found = searched.find(magic)
        if found >= 0:
            return at - len(kept) + found
        at += len(block)
        kept = searched[1 - len(magic) :]
    return -1
