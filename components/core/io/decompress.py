"""Streams of compressed files: gzip, zstd, bzip2 and xz, told by their first bytes.

A name may lie: downloads lose their compression and keep the suffix, or the other way round. A
stream ends at its first break, with an error that says what is wrong; everything before it is read.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import pyarrow as pa
from typing_extensions import override

_CHUNK = 64 * 1024
_ZSTD_CHUNK = 8 * 1024
"""Small, since a break takes with it all that was to be read at once."""
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 200
"""A stream that decompresses to more than this, and to so many times its size, is a bomb."""
_XZ_MEMORY = 256 << 20
"""Memory of an xz decoder; its highest preset needs 65 MiB."""
_BUFFER_BYTES = 1 << 20


class BrokenStream(ValueError):
    """Break in a compressed stream, with the reason."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_GZIP, _BZIP, _XZ, _ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_SKIPPABLE_ZSTD = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of a skippable zstd frame, which some writers begin with."""
_FORMATS: dict[bytes, tuple[str, Callable[[], _Decompressor]]] = {
    _GZIP: ("gzip", lambda: zlib.decompressobj(31)),
    _BZIP: ("bzip2", bz2.BZ2Decompressor),
    _XZ: ("xz", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
}
_ERRORS = (zlib.error, OSError, EOFError, lzma.LZMAError, MemoryError)


def open_decompressed(file: BinaryIO) -> BinaryIO:
    """Open the content of a file; a file that is not compressed is given as it is.

    Reading raises ``BrokenStream`` where the stream is broken, cut off, or a bomb.
    """
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(_RawFile(file))
    head = buffered.peek(8)[:8]
    chunks: Iterator[bytes] | None = None
    for magic, (name, factory) in _FORMATS.items():
        if head.startswith(magic):
            chunks = _decompress_members(buffered, magic, name, factory)
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE_ZSTD and 0x50 <= head[0] <= 0x5F):
        chunks = _decompress_zstd(buffered)
    if chunks is None:
        return buffered
    return io.BufferedReader(_ChunkStream(chunks), _BUFFER_BYTES)


class _RawFile(io.RawIOBase):
    """Raw stream over any object that reads bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class _ChunkStream(io.RawIOBase):
    """Raw stream over an iterator of chunks; a break is raised when all before it is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._broken: BrokenStream | None = None

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._rest:
            if self._broken is not None:
                raise self._broken
            try:
                chunk = next(self._chunks, None)
            except BrokenStream as error:
                self._broken = error
                continue
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _decompress_members(
    file: BinaryIO, magic: bytes, name: str, factory: Callable[[], _Decompressor]
) -> Iterator[bytes]:
    """Content of all members of a stream; what follows the last one and is no member is padding."""
    packed, packed_bytes, unpacked_bytes = file.read(_CHUNK), 0, 0
    while packed:
        if packed_bytes and not packed.startswith(magic[: len(packed)]):
            return
        member = factory()
        while not member.eof:
            if not packed:
                packed = file.read(_CHUNK)
                if not packed:
                    raise BrokenStream(f"its {name} stream is cut off")
            packed_bytes += len(packed)
            try:
                chunk = member.decompress(packed, _CHUNK)
            except _ERRORS as error:
                raise BrokenStream(f"its {name} stream is broken: {error}") from error
            packed = getattr(member, "unconsumed_tail", b"")
            packed_bytes -= len(packed)
            unpacked_bytes += len(chunk)
            check_bomb(unpacked_bytes, packed_bytes)
            if chunk:
                yield chunk
            while not (packed or member.eof or getattr(member, "needs_input", True)):
                try:
                    chunk = member.decompress(b"", _CHUNK)
                except _ERRORS as error:
                    raise BrokenStream(f"its {name} stream is broken: {error}") from error
                unpacked_bytes += len(chunk)
                check_bomb(unpacked_bytes, packed_bytes)
                yield chunk
        packed = member.unused_data.lstrip(b"\0") or file.read(_CHUNK).lstrip(b"\0")


def _decompress_zstd(file: BinaryIO) -> Iterator[bytes]:
    counted = _CountedFile(file)
    stream = pa.CompressedInputStream(pa.PythonFile(counted, mode="r"), "zstd")
    unpacked_bytes = 0
    while True:
        try:
            chunk: bytes = stream.read(_ZSTD_CHUNK)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise BrokenStream(f"its zstd stream is broken or cut off: {reason}") from error
        if not chunk:
            return
        unpacked_bytes += len(chunk)
        check_bomb(unpacked_bytes, counted.read_bytes)
        yield chunk


class _CountedFile(io.RawIOBase):
    """File that counts the bytes read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read_bytes = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self.read_bytes += len(content)
        return content


def check_bomb(unpacked_bytes: int, packed_bytes: int) -> None:
    """Refuse a stream that is built to fill the disk.

    Raises:
        BrokenStream: it is.
    """
    if unpacked_bytes > _BOMB_BYTES and unpacked_bytes > _BOMB_RATIO * max(1, packed_bytes):
        raise BrokenStream(f"unpacks to more than {_BOMB_BYTES} bytes, {_BOMB_RATIO} times its own")
