"""Streams of text as UTF-8, whatever encoding a byte order mark names."""

from __future__ import annotations

import io
from typing import BinaryIO

_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
_CHUNK = 1 << 16


def open_utf8(stream: BinaryIO) -> BinaryIO:
    """The stream as UTF-8 without a byte order mark; one without any mark is given as it is."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    head = buffered.peek(4)[:4]
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), "")
    if encoding == "utf-8-sig":
        buffered.read(3)
    if encoding in ("", "utf-8-sig"):
        return buffered
    decoded = io.TextIOWrapper(buffered, encoding, errors="replace", newline="")
    return io.BufferedReader(_EncodedText(decoded))


class _EncodedText(io.RawIOBase):
    """UTF-8 bytes of a text stream."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = self._text.read(_CHUNK).encode(errors="replace")
        content, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(content)] = content
        return len(content)
