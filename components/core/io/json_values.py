"""JSON values of a stream: one a line, one after another or in an array, within bounded memory.

orjson reads a line; what it refuses and others write (``NaN``, numbers without bound, half of a
surrogate pair) the standard library reads. Neither is given more than a bounded value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

import orjson

_MAX_DIGITS = 4000
"""Digits of a number; the standard library refuses to make a longer integer."""
_CHUNK = 1 << 20
_SPACE = re.compile(r"[\s,\x1e\ufeff]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RECORD_SEPARATOR = b"\x1e"
"""Starts a row of a JSON text sequence (RFC 7464)."""
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as ``surrogateescape`` has it."""


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")


_DECODER = json.JSONDecoder(parse_int=_parse_integer, strict=False)


def parse_json(content: bytes) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        text = content.decode()
        value, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
        if text[end:].strip():
            raise ValueError(f"Extra data: column {end + 1}") from None
        return value


def explain_json_error(error: Exception) -> str:
    """Reason for which ``parse_json`` gave no value, on one line."""
    if isinstance(error, RecursionError):
        return "no JSON: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"no JSON: byte {error.start + 1} of its row is no UTF-8"
    return f"no JSON: {error}"


class BrokenJson:
    """Place from which no value could be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class NotJsonLines(ValueError):
    """The first line is no whole value: the file is to be read by ``stream_json_values``."""


def stream_json_lines(stream: BinaryIO, longest: int, too_long: str) -> Iterator[tuple[int, Any]]:
    """(number, value or ``BrokenJson``) of every line that is not blank.

    Args:
        stream: UTF-8, decompressed.
        longest: bytes of a line, at most.
        too_long: reason for which a longer one is left out.

    Raises:
        NotJsonLines: before anything is yielded; the first line begins a value over several lines,
            or is an array of rows.
    """
    is_first = True
    for number in count(1):
        line = stream.readline(longest)
        if not line:
            return
        if len(line) == longest and not line.endswith(b"\n"):
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
            is_first = False
            yield number, BrokenJson(too_long)
            continue
        content = line.strip().removeprefix(_BYTE_ORDER_MARK).lstrip(_RECORD_SEPARATOR)
        if not content:
            continue
        try:
            value = parse_json(content)
        except (ValueError, RecursionError) as error:
            # An array goes on, or is cut off; an object on the last line is cut off.
            if is_first and _is_open(content) and (line[-1:] == b"\n" or content[:1] == b"["):
                raise NotJsonLines from None
            value = BrokenJson(explain_json_error(error))
        if is_first and isinstance(value, list):
            raise NotJsonLines
        is_first = False
        yield number, value


def _is_open(content: bytes) -> bool:
    """True for a line that begins a value and does not end it."""
    if content.startswith(b"["):
        return True
    return content.startswith(b"{") and content.count(b"{") > content.count(b"}")


class _ValueBuffer:
    """Text of a stream from the first value on that was not read yet."""

    def __init__(self, stream: BinaryIO, longest: int) -> None:
        self._stream = stream
        self._longest = longest
        self._undecoded = b""
        self.text = ""
        self.at_end = False

    def read_more(self) -> bool:
        """Add as much again as there is; False at the end, and where a value is too long."""
        if self.at_end or len(self.text) > self._longest:
            return False
        content = self._undecoded + self._stream.read(max(_CHUNK, len(self.text)))
        if len(content) == len(self._undecoded):
            self.at_end = True
        whole = len(content) if self.at_end else _whole_characters(content)
        self._undecoded = content[whole:]
        self.text += content[:whole].decode(errors="surrogateescape")
        return True

    def skip(self, end: int) -> None:
        """Drop what was read."""
        self.text = self.text[end:]

    def skip_to_object(self, start: int) -> bool:
        """Drop all up to the next line that begins an object; False where there is none."""
        self.skip(start)
        while (following := self.text.find("\n{")) < 0:
            self.skip(max(0, len(self.text) - 1))
            if not self.read_more():
                return False
        self.skip(following + 1)
        return True


def _whole_characters(content: bytes) -> int:
    """Length of the bytes without a character at their end that may be cut."""
    for back in range(1, min(4, len(content)) + 1):
        byte = content[-back]
        if byte >= 0xC0:
            return len(content) - back
        if byte < 0x80:
            return len(content)
    return len(content)


def stream_json_values(stream: BinaryIO, longest: int, too_long: str) -> Iterator[Any]:
    """Values of a stream in turn, those of an array at its top one by one; ``BrokenJson`` for a
    place from which none could be read.

    Args:
        stream: UTF-8, decompressed.
        longest: characters of a value, at most.
        too_long: reason for which a longer one is left out.
    """
    buffer = _ValueBuffer(stream, longest)
    buffer.read_more()
    buffer.skip(_SPACE.match(buffer.text).end())  # type: ignore[union-attr]
    in_array = buffer.text.startswith("[")
    position = 1 if in_array else 0
    while True:
        position = _SPACE.match(buffer.text, position).end()  # type: ignore[union-attr]
        if position >= len(buffer.text) - 1 and buffer.read_more():
            continue
        if position >= len(buffer.text):
            if in_array:
                yield BrokenJson("its array is cut off")
            return
        if in_array and buffer.text[position] == "]":
            rest = buffer.text[position + 1 :].strip()
            if rest:
                yield BrokenJson("something follows its array; it is not read")
            return
        try:
            value, end = _DECODER.raw_decode(buffer.text, position)
            is_whole = end < len(buffer.text) or buffer.at_end  # a number may go on
        except (ValueError, RecursionError) as error:
            if not isinstance(error, RecursionError) and buffer.read_more():
                continue
            reason = explain_json_error(error) if buffer.at_end else too_long
            if in_array or not buffer.skip_to_object(position + 1):
                yield BrokenJson(f"{reason}; from here on nothing is read")
                return
            yield BrokenJson(reason)
            position = 0
            continue
        if not is_whole and buffer.read_more():
            continue
        yield BrokenJson("no JSON: a byte is no UTF-8") if _is_undecoded(value) else value
        if end > _CHUNK:
            buffer.skip(end)
            end = 0
        position = end


def _is_undecoded(value: Any) -> bool:
    """True for a row with a byte that is no UTF-8 in one of its texts."""
    texts = value.values() if isinstance(value, dict) else (value,)
    return any(isinstance(text, str) and _ESCAPED_BYTE.search(text) for text in texts)
