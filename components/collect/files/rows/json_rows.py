"""Rows of JSON: a row a line, one array, objects one after another, or one object of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_fields import TEXT_NAMES, Row
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
_ROW_LIST_NAMES = ("data", "rows", "documents", "items", "records", "results", "articles", "pages")


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
        for value in stream_json_values(stream, longest, _too_long(longest)):
            if isinstance(value, BrokenJson):
                yield source.reject(value.reason, mark=str(number + 1))
                number += 1
            elif number == 0 and isinstance(value, Mapping):
                for row in _rows_of_object(value):
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


def _rows_of_object(value: Mapping[str, Any]) -> Iterator[Any]:
    """Rows of an object: itself, those of a list in it, or pandas' forms of a table."""
    names = {str(name).lower(): name for name in value}
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        for values in value["data"]:  # pandas: split
            is_row = isinstance(values, list)
            yield dict(zip(value["columns"], values, strict=False)) if is_row else values
        return
    text_names = [names[name] for name in TEXT_NAMES if name in names]
    columns = [name for name in text_names if _is_column(value[name])]
    if columns:
        yield from _transpose(value)
        return
    lists = {
        name: rows
        for name, rows in value.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    }
    if not text_names and lists:
        named = next((names[name] for name in _ROW_LIST_NAMES if names.get(name) in lists), None)
        yield from lists[named if named is not None else max(lists, key=lambda n: len(lists[n]))]
        return
    objects = [row for row in value.values() if isinstance(row, dict)]
    is_index = all(any(str(name).lower() in TEXT_NAMES for name in row) for row in objects)
    if not text_names and objects and len(objects) == len(value) and is_index:
        yield from objects  # pandas: index
        return
    yield value


def _is_column(value: Any) -> bool:
    """True for a column by row numbers, as pandas writes a table by default."""
    if not isinstance(value, dict) or not value:
        return False
    return all(str(name).isdigit() for name in value)


def _transpose(table: Mapping[str, Any]) -> Iterator[Row]:
    columns = {name: column for name, column in table.items() if isinstance(column, dict)}
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    for row in rows:
        yield {name: column.get(row) for name, column in columns.items()}
