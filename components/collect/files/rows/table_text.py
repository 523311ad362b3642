"""Lines of a table's text: decoded by the charset of the whole, split as spreadsheets do.

ASCII is passed on as it comes. The charset is judged where the first other byte stands, by all
lines beyond ASCII in a long stretch from there on, with the detector that pages have.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from components.collect.web.charset import detect_codec
from components.collect.web.media_types import find_wide_codec
from components.core.io.decompress import BrokenStream

_CHUNK = 1 << 20
_JUDGED_BYTES = 8 << 20
"""Bytes from the first beyond ASCII on by which the charset is judged."""
_LONE_SHARE = 0.001
"""Share of the bytes that a single one beyond ASCII needs to count as a letter, not as damage."""
_KANJI_CODECS = frozenset({"euc_jp", "iso2022_jp"})
_UNDECODED = re.compile("[\udc80-\udcff]")
"""Bytes that are none of the charset, as ``surrogateescape`` has them."""


class TableText:
    """Text of a stream without a byte order mark, or in UTF-8, as lines with their ends."""

    def __init__(self, stream: BinaryIO, longest: int) -> None:
        """Start at the stream's beginning.

        Args:
            stream: The bytes.
            longest: Characters of a line from which it is handed on in pieces.
        """
        self._stream = stream
        self._longest = longest
        self._broken: BrokenStream | None = None
        self.codec = "utf-8"
        """Python's name of the charset."""

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for piece in self._decode_pieces():
            lines = list(io.StringIO(rest + piece, newline=""))
            rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
            yield from lines
            if len(rest) > self._longest:
                yield rest
                rest = ""
        if rest:
            yield rest
        if self._broken is not None:
            raise self._broken

    def has_undecoded(self, value: str) -> bool:
        """True for a value with bytes that are none of the charset."""
        if value.isascii():
            return False
        if self.codec in _KANJI_CODECS and "\ufffd" in value:
            return True
        return _UNDECODED.search(value) is not None

    def _decode_pieces(self) -> Iterator[str]:
        chunk, passed = self._read(), 0
        self.codec = find_wide_codec(chunk) or "utf-8"
        while chunk and self.codec == "utf-8" and chunk.isascii() and b"\x1b$" not in chunk:
            yield chunk.decode("ascii")
            passed += len(chunk)
            chunk = self._read()
        if self.codec == "utf-8":
            parts, size = [chunk], len(chunk)
            while parts[-1] and size < _JUDGED_BYTES:
                parts.append(self._read())
                size += len(parts[-1])
            chunk = b"".join(parts)
            self.codec = _judge_codec(chunk, passed, is_whole=not parts[-1])
        errors = "vendor_kanji" if self.codec in _KANJI_CODECS else "surrogateescape"
        decoder = codecs.getincrementaldecoder(self.codec)(errors)
        while chunk:
            yield decoder.decode(chunk)
            chunk = self._read()
        yield decoder.decode(b"", final=True)

    def _read(self) -> bytes:
        """Next bytes; none at the end, and from a break on, which is raised behind the lines."""
        if self._broken is not None:
            return b""
        try:
            return self._stream.read1(_CHUNK)  # type: ignore[attr-defined, no-any-return]
        except BrokenStream as error:
            self._broken = error
            return b""


def _judge_codec(ahead: bytes, passed: int, *, is_whole: bool) -> str:
    """Codec of a text by its lines beyond ASCII.

    Args:
        ahead: Text from the first byte beyond ASCII on.
        passed: Bytes of ASCII before it.
        is_whole: True where nothing follows.
    """
    lines = ahead.splitlines()
    if not is_whole and len(lines) > 1:
        lines.pop()  # it may end inside of a character
    telling = b"\n".join(line for line in lines if not line.isascii() or b"\x1b" in line)
    codec = detect_codec(telling)
    is_lone = len(telling) - len(telling.translate(None, bytes(range(0x80, 0x100)))) == 1
    if is_lone and _LONE_SHARE * (passed + len(ahead)) >= 1:
        return "utf-8"
    return codec
