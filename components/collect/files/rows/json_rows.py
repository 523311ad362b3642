"""Rows of JSON: a row a line, one array, objects one after another, or one object of rows.

orjson reads a line; what it refuses and others write (``NaN``, numbers without bound, half of a
surrogate pair) the standard library reads. Neither is given more than a bounded row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, BinaryIO

import orjson

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.json_tables import name_values, rows_of_object
from components.collect.files.rows.row_pages import as_row, read_row

_MAX_ROW_OVERHEAD = 1 << 20
"""Bytes of a JSON row besides its text, at most."""
_ESCAPE_BYTES = 6
"""JSON escapes a byte in six characters, at most."""
_MAX_DIGITS = 4000
"""Digits of a number; the standard library refuses to make a longer integer."""
_CHUNK = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RECORD_SEPARATOR = b"\x1e"
"""Starts a row of a JSON text sequence (RFC 7464)."""
_SPACE = re.compile(r"[\s,\x1e\ufeff]*")


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")


_DECODER = json.JSONDecoder(parse_int=_parse_integer, strict=False)


def read_json_lines(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read a row a line; a file whose first line is no whole value is read as ``read_json``."""
    longest = _longest_row(settings)
    with source.open_text() as stream:
        is_first = True
        for number in count(1):
            line = stream.readline(longest)
            if not line:
                return
            if len(line) == longest and not line.endswith(b"\n"):
                while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                    pass
                yield source.reject(_too_long(longest), mark=str(number))
                continue
            content = line.strip().removeprefix(_BYTE_ORDER_MARK).lstrip(_RECORD_SEPARATOR)
            if not content:
                continue
            try:
                value = parse_json(content)
            except (ValueError, RecursionError) as error:
                if is_first and line.endswith(b"\n") and _is_open(content):
                    break  # a value over several lines
                yield source.reject(_explain_error(error), mark=str(number))
                is_first = False
                continue
            if is_first and isinstance(value, list):
                break  # an array of rows on one line
            is_first = False
            yield from _read_value(source, number, value, settings)
    yield from read_json(source, settings)


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


def read_json(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read an array of rows, objects one after another, or an object of rows."""
    with source.open_text() as stream:
        number = 0
        values = _stream_values(stream, _longest_row(settings))
        for value in name_values(values):
            if isinstance(value, _Broken):
                yield source.reject(value.reason, mark=str(number + 1))
                number += 1
            elif number == 0 and isinstance(value, Mapping):
                for row in rows_of_object(value):
                    number += 1
                    yield from _read_value(source, number, row, settings)
            else:
                number += 1
                yield from _read_value(source, number, value, settings)


def _read_value(
    source: FileSource, number: int, value: Any, settings: ReadSettings
) -> Iterator[PlacedResult]:
    row = as_row(value)
    if row is None:
        yield source.reject("no object", mark=str(number))
    else:
        yield from read_row(source, number, row, settings)


def _longest_row(settings: ReadSettings) -> int:
    return _ESCAPE_BYTES * settings.max_bytes + _MAX_ROW_OVERHEAD


def _too_long(longest: int) -> str:
    return f"its row is longer than {longest} bytes (six times scrape.max_bytes)"


def _is_open(content: bytes) -> bool:
    """True for a line that begins a value and does not end it."""
    if content.startswith(b"["):
        return True
    return content.startswith(b"{") and content.count(b"{") > content.count(b"}")


def _explain_error(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "no JSON: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"no JSON: byte {error.start + 1} of its row is no UTF-8"
    return f"no JSON: {error}"


class _Broken:
    """Place from which no value could be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


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


def _stream_values(stream: BinaryIO, longest: int) -> Iterator[Any]:
    """Values of a stream in turn; those of an array at its top one by one."""
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
                yield _Broken("its array is cut off")
            return
        if in_array and buffer.text[position] == "]":
            rest = buffer.text[position + 1 :].strip()
            if rest:
                yield _Broken("something follows its array; it is not read")
            return
        try:
            value, end = _DECODER.raw_decode(buffer.text, position)
            is_whole = end < len(buffer.text) or buffer.at_end  # a number may go on
        except (ValueError, RecursionError) as error:
            if not isinstance(error, RecursionError) and buffer.read_more():
                continue
            reason = _explain_error(error) if buffer.at_end else _too_long(longest)
            if in_array or not buffer.skip_to_object(position + 1):
                yield _Broken(f"{reason}; from here on nothing is read")
                return
            yield _Broken(reason)
            position = 0
            continue
        if not is_whole and buffer.read_more():
            continue
        yield _Broken("no JSON: a byte is no UTF-8") if _is_undecoded(value) else value
        if end > _CHUNK:
            buffer.skip(end)
            end = 0
        position = end


def _is_undecoded(value: Any) -> bool:
    """True for a row with a byte that is no UTF-8 in one of its texts."""
    texts = value.values() if isinstance(value, dict) else (value,)
    return any(isinstance(text, str) and _ESCAPED_BYTE.search(text) for text in texts)


_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as ``surrogateescape`` has it."""
