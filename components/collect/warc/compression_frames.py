"""Frames of zstd (RFC 8878) and LZ4 (frame format 1.6) files: their bounds and their content.

An archive has a frame a record (WARC Compression, zstd 1.0), so behind a broken frame the next one
can be read. A frame's end is known from the headers of its blocks, without decompressing it. In
zstd the first frame may be a dictionary that all others need.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fastwarc.stream_io import Lz4Reader, ZstdReader

ZSTD, LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
"""Magic numbers: the first bytes of a frame."""
FORMAT_NAMES = {ZSTD: "zstd", LZ4: "LZ4"}
_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
_MAX_DICTIONARY = 16 << 20
_ZSTD_BLOCK, _LZ4_BLOCK = 128 << 10, 4 << 20
"""Largest block of a frame, by the two formats."""
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class FrameBounds:
    """Bounds of a frame by its own headers, from its start on."""

    end: int
    """Offset behind its last byte; -1 where its headers are broken or lead beyond the file."""
    is_frame: bool
    is_skippable: bool = False
    dictionary: int = 0
    """Identifier of the dictionary that it needs; 0 for none."""


def read_frame_bounds(file: BinaryIO, start: int, size: int, magic: bytes) -> FrameBounds:
    """Read the bounds of a frame from its headers.

    Args:
        file: The archive.
        start: Offset of the frame.
        size: Bytes of the archive.
        magic: The format's magic number.
    """
    file.seek(start)
    head = file.read(8)
    if head[1:4] == _DICTIONARY_MAGIC[1:] and 0x50 <= head[0] <= 0x5F:
        end = start + 8 + int.from_bytes(head[4:8], "little") if len(head) == 8 else -1
        return FrameBounds(end if end <= size else -1, True, True)
    if not head.startswith(magic):
        return FrameBounds(-1, False)
    file.seek(start + len(magic))
    end, dictionary = _zstd_frame_end(file) if magic == ZSTD else _lz4_frame_end(file)
    return FrameBounds(end if end <= size else -1, True, dictionary=dictionary)


def read_dictionary(file: BinaryIO, size: int) -> bytes:
    """Read the dictionary that a zstd file may start with; empty for none and a broken one."""
    bounds = read_frame_bounds(file, 0, size, ZSTD)
    file.seek(0)
    if not bounds.is_skippable or bounds.end < 0 or file.read(4) != _DICTIONARY_MAGIC:
        return b""
    file.seek(8)
    content = file.read(min(bounds.end - 8, _MAX_DICTIONARY))
    if not content.startswith(ZSTD):
        return content
    try:
        reader = ZstdReader(io.BytesIO(content))
        return b"".join(_read_bounded(reader, _MAX_DICTIONARY))
    except (OSError, ValueError, RuntimeError, EOFError):
        return b""


def decompress_frame(
    file: BinaryIO, start: int, end: int, magic: bytes, dictionary: bytes
) -> Iterator[tuple[bytes, int]]:
    """Decompress a frame in chunks of (content, compressed bytes read so far).

    Args:
        file: The archive.
        start: Offset of the frame.
        end: Offset behind its last byte.
        magic: The format's magic number.
        dictionary: The zstd dictionary, empty for none.

    Raises:
        OSError, ValueError, RuntimeError, EOFError: it is broken.
    """
    window = _FileWindow(file, start, end)
    if magic == LZ4:
        reader: ZstdReader | Lz4Reader = Lz4Reader(window)
    else:
        reader = ZstdReader(window, dictionary=dictionary or None)
    while chunk := reader.read(_CHUNK):
        yield chunk, window.at - start


def _read_bounded(reader: ZstdReader, most: int) -> Iterator[bytes]:
    left = most
    while left > 0 and (chunk := reader.read(min(left, _CHUNK))):
        left -= len(chunk)
        yield chunk


def _zstd_frame_end(file: BinaryIO) -> tuple[int, int]:
    """(end, dictionary identifier) of a zstd frame (RFC 8878, sections 3.1.1.1 and 3.1.1.2)."""
    descriptor = file.read(1)
    if not descriptor or descriptor[0] & 0x08:
        return -1, 0
    flags = descriptor[0]
    is_single = bool(flags & 0x20)
    sizes = (1 if is_single else 0, 2, 4, 8)
    file.seek(0 if is_single else 1, io.SEEK_CUR)
    dictionary = int.from_bytes(file.read((0, 1, 2, 4)[flags & 3]), "little")
    file.seek(sizes[flags >> 6], io.SEEK_CUR)
    while len(header := file.read(3)) == 3:
        block = int.from_bytes(header, "little")
        is_last, kind, length = block & 1, block >> 1 & 3, block >> 3
        if kind == 3 or length > _ZSTD_BLOCK:
            return -1, dictionary
        file.seek(1 if kind == 1 else length, io.SEEK_CUR)
        if is_last:
            return file.tell() + (4 if flags & 0x04 else 0), dictionary
    return -1, dictionary


def _lz4_frame_end(file: BinaryIO) -> tuple[int, int]:
    """(end, dictionary identifier) of an LZ4 frame."""
    descriptor = file.read(2)
    if len(descriptor) < 2 or descriptor[0] >> 6 != 1:
        return -1, 0
    flags = descriptor[0]
    file.seek(8 if flags & 0x08 else 0, io.SEEK_CUR)
    dictionary = int.from_bytes(file.read(4), "little") if flags & 0x01 else 0
    file.seek(1, io.SEEK_CUR)  # the header's own checksum
    while len(header := file.read(4)) == 4:
        length = int.from_bytes(header, "little") & 0x7FFFFFFF
        if not any(header):
            return file.tell() + (4 if flags & 0x04 else 0), dictionary
        if length > _LZ4_BLOCK:
            return -1, dictionary
        file.seek(length + (4 if flags & 0x10 else 0), io.SEEK_CUR)
    return -1, dictionary


class _FileWindow(io.RawIOBase):
    """Window on bytes ``start`` to ``end`` of a file, for a reader that would read beyond them."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self.at = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self.at, io.SEEK_END: self._end}
        self.at = min(max(base[whence] + offset, self._start), self._end)
        return self.at - self._start

    def read(self, size: int = -1) -> bytes:
        left = self._end - self.at
        self._file.seek(self.at)
        content = self._file.read(left if size < 0 else min(size, left))
        self.at += len(content)
        return content
