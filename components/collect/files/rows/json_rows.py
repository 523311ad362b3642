"""Rows of JSON: a row a line, one array, objects one after another, or one object of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.json_tables import name_values, rows_of_object
from components.collect.files.rows.row_pages import as_row, read_row
from components.core.io.json_values import (
    BrokenJson,
    NotJsonLines,
    stream_json_lines,
    stream_json_values,
)

_MAX_ROW_OVERHEAD = 1 << 20
"""Bytes of a JSON row besides its text, at most."""
_ESCAPE_BYTES = 6
"""JSON escapes a byte in six characters, at most."""


def read_json_lines(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read a row a line; a file whose first line is no whole value is read as ``read_json``."""
    longest = _longest_row(settings)
    try:
        with source.open_text() as stream:
            for number, value in stream_json_lines(stream, longest, _too_long(longest)):
                if isinstance(value, BrokenJson):
                    yield source.reject(value.reason, mark=str(number))
                else:
                    yield from _read_value(source, number, value, settings)
    except NotJsonLines:
        yield from read_json(source, settings)


def read_json(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read an array of rows, objects one after another, or an object of rows."""
    longest = _longest_row(settings)
    with source.open_text() as stream:
        number = 0
        for value in name_values(stream_json_values(stream, longest, _too_long(longest))):
            if isinstance(value, BrokenJson):
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
