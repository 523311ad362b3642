"""Damage-tolerant stream of a compressed archive: it reports each break and resynchronises.

Archives are one gzip member a record (WARC 1.1, annex D), or one frame of zstd or LZ4, so behind a
broken one the next can be found: at the end that its headers state, else by its magic number. In an
archive that is a single member or frame nothing can be read behind a break.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from components.collect.warc.compression_frames import (
    FORMAT_NAMES,
    LZ4,
    ZSTD,
    decompress_frame,
    read_dictionary,
    read_frame_bounds,
)

_GZIP = b"\x1f\x8b\x08"
_CHUNK = 64 * 1024
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 200
"""A member that decompresses to more than this, and to so many times its size, is a bomb."""
_NO_FRAME_FOLLOWS = "no frame follows that reading could go on with"
_MAX_BREAKS = 1000
"""Breaks after which a file is given up, as each costs a search through it."""


class StreamBroken(Exception):
    """Break in the stream; reading resumes at the next member or frame."""


class ArchiveStream:
    """Sequential bytes of an archive, with pushback."""

    def __init__(self, chunks: Iterator[bytes | StreamBroken]) -> None:
        self._chunks = chunks
        self._ready = bytearray()
        self.at = 0
        """Decompressed bytes read so far."""

    def read_bytes(self, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the end.

        Raises:
            StreamBroken: once for each break.
        """
        while len(self._ready) < size and self._read_chunk():
            pass
        content = bytes(self._ready[:size])
        del self._ready[:size]
        self.at += len(content)
        return content

    def skip_bytes(self, size: int) -> int:
        """Skip ``size`` bytes; the number that there were.

        Raises:
            StreamBroken: once for each break.
        """
        left = size
        while left > 0 and (skipped := len(self.read_bytes(min(left, _CHUNK)))):
            left -= skipped
        return size - left

    def read_line(self, longest: int) -> bytes:
        """Read a line with its end, at most ``longest`` bytes.

        Raises:
            StreamBroken: once for each break.
        """
        while (end := self._ready.find(b"\n", 0, longest)) < 0:
            if len(self._ready) >= longest or not self._read_chunk():
                return self.read_bytes(min(longest, len(self._ready)))
        return self.read_bytes(end + 1)

    def put_back(self, taken: bytes) -> None:
        """Push bytes back, to be read again."""
        self._ready[:0] = taken
        self.at -= len(taken)

    def _read_chunk(self) -> bool:
        chunk = next(self._chunks, None)
        if isinstance(chunk, StreamBroken):
            self.at += len(self._ready)
            self._ready.clear()  # the start of a record whose end is lost
            raise chunk
        if chunk is None:
            return False
        self._ready += chunk
        return True


def open_archive_stream(path: Path, file: BinaryIO) -> ArchiveStream:
    """Open the content of an archive: plain, gzip, zstd or LZ4, by its file name."""
    name, size = path.name.lower(), path.stat().st_size
    if name.endswith(".gz"):
        return ArchiveStream(
            _read_members(file, size, _GZIP, lambda start: _GzipMember(file, start))
        )
    if name.endswith(".zst"):
        dictionary = read_dictionary(file, size)
        frame = partial(_CompressionFrame, file, size, ZSTD, dictionary)
        return ArchiveStream(_read_members(file, size, ZSTD, frame))
    if name.endswith(".lz4"):
        return ArchiveStream(
            _read_members(file, size, LZ4, partial(_CompressionFrame, file, size, LZ4, b""))
        )
    return ArchiveStream(iter(lambda: file.read(_CHUNK), b""))


def _read_members(
    file: BinaryIO,
    size: int,
    magic: bytes,
    open_member: Callable[[int], _GzipMember | _CompressionFrame],
) -> Iterator[bytes | StreamBroken]:
    """Content of all members or frames; behind a broken one, of the next that is found."""
    offset = breaks = 0
    while offset < size:
        member = open_member(offset)
        yield from member.chunks()
        if member.reason is None:
            offset = member.end
            continue
        breaks += 1
        offset = _find_magic(file, member.search_from, magic)
        # A gzip archive's only member is cut off like any other: no remark on what follows.
        is_end = offset < 0 and isinstance(member, _CompressionFrame)
        yield StreamBroken(f"{member.reason}; {_NO_FRAME_FOLLOWS}" if is_end else member.reason)
        if offset < 0:
            return
        if breaks >= _MAX_BREAKS:
            yield StreamBroken(f"broken in {breaks} places; the rest is not read")
            return


class _GzipMember:
    """One gzip member at offset ``start``; ``end`` and ``reason`` are known when it is read."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._start = start
        self.end = start
        self.reason: str | None = None
        self.search_from = start + 1
        """Offset from which the next member is searched, when this one is broken."""

    def chunks(self) -> Iterator[bytes]:
        """Content in chunks, up to the break where it is broken."""
        self._file.seek(self._start)
        unpacker, packed, unpacked_bytes = zlib.decompressobj(31), b"", 0
        while not unpacker.eof:
            packed = packed or self._file.read(_CHUNK)
            if not packed:
                self.reason = "its gzip member is cut off"
                return
            packed_bytes = len(packed)
            try:
                chunk = unpacker.decompress(packed, _CHUNK)
            except zlib.error:
                self.reason = "its gzip member is broken"
                return
            packed = b"" if unpacker.eof else unpacker.unconsumed_tail
            # At the end, zlib may report the same rest as unused and as unconsumed.
            self.end += packed_bytes - len(unpacker.unused_data if unpacker.eof else packed)
            unpacked_bytes += len(chunk)
            if unpacked_bytes > _BOMB_BYTES and unpacked_bytes > _BOMB_RATIO * (
                self.end - self._start
            ):
                self.reason = f"unpacks to more than {_BOMB_BYTES} bytes"
                self.search_from = self.end
                return
            yield chunk


class _CompressionFrame:
    """One zstd or LZ4 frame at offset ``start``, with the interface of ``_GzipMember``."""

    def __init__(
        self, file: BinaryIO, size: int, magic: bytes, dictionary: bytes, start: int
    ) -> None:
        self._file, self._start = file, start
        self._magic, self._dictionary = magic, dictionary
        self._size = size
        self._bounds = read_frame_bounds(file, start, size, magic)
        self.end = self._bounds.end
        self.reason: str | None = None

    @property
    def search_from(self) -> int:
        """Offset from which the next frame is searched, when this one is broken.

        Where its headers are sound, that is its end: another frame starts there, or the file ends.
        """
        end = self.end
        is_sound = end >= 0 and (
            end == self._size
            or read_frame_bounds(self._file, end, self._size, self._magic).is_frame
        )
        return end if is_sound else self._start + 1

    def chunks(self) -> Iterator[bytes]:
        """Content in chunks, up to the break where it is broken."""
        bounds, name = self._bounds, FORMAT_NAMES[self._magic]
        if bounds.is_skippable and bounds.end >= 0:
            return
        if not bounds.is_frame:
            self.reason = f"no {name} frame"
            return
        end = bounds.end if bounds.end >= 0 else self._size
        unpacked_bytes = 0
        try:
            for chunk, packed_bytes in decompress_frame(
                self._file, self._start, end, self._magic, self._dictionary
            ):
                unpacked_bytes += len(chunk)
                if unpacked_bytes > _BOMB_BYTES and unpacked_bytes > _BOMB_RATIO * packed_bytes:
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


def _find_magic(file: BinaryIO, start: int, magic: bytes) -> int:
    """Offset of the next occurrence of ``magic`` from ``start`` on; -1 for none."""
    file.seek(start)
    offset, overlap = start, b""
    while block := file.read(1 << 20):
        searched = overlap + block
        position = searched.find(magic)
        if position >= 0:
            return offset - len(overlap) + position
        offset += len(block)
        overlap = searched[1 - len(magic) :]
    return -1
