"""Tables in JSON: rows in an object, and every orientation in which pandas writes a frame.

An index of addresses names the rows, as a column ``index`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from components.collect.files.rows.row_fields import TEXT_NAMES, Row, is_address

_ROW_LIST_NAMES = ("data", "rows", "documents", "items", "records", "results", "articles", "pages")
_INDEX = "index"
_JUDGED_ROWS = 100
"""Rows of values alone by which the column of the text is told."""


def rows_of_object(value: Mapping[str, Any]) -> Iterator[Any]:
    """Rows of an object: itself, those of a list in it, or pandas' forms of a table."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        yield from _split_rows(value)
        return
    names = {str(name).lower(): name for name in value}
    text_names = [names[name] for name in TEXT_NAMES if name in names]
    if any(_is_column(value[name], value) for name in text_names):
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
    objects = {name: row for name, row in value.items() if isinstance(row, dict)}
    is_index = all(any(str(name).lower() in TEXT_NAMES for name in row) for row in objects.values())
    if not text_names and objects and len(objects) == len(value) and is_index:
        yield from ({_INDEX: name, **row} for name, row in objects.items())  # pandas: index
        return
    is_series = all(isinstance(text, str) for text in value.values())
    if value and is_series and all(name == str(at) for at, name in enumerate(value)):
        yield from value.values()  # pandas: a series
        return
    yield value


def name_values(values: Iterator[Any]) -> Iterator[Any]:
    """Rows of values without names as objects (pandas: values); any other values as they are.

    The column with the longest strings holds the text, one of addresses the address.
    """
    ahead = list(islice(values, _JUDGED_ROWS))
    rows = [row for row in ahead if isinstance(row, list)]
    if not rows or any(isinstance(value, Mapping | str) for value in ahead):
        yield from chain(ahead, values)
        return
    width = max(len(row) for row in rows)
    columns = [[row[at] for row in rows if len(row) > at] for at in range(width)]
    lengths = [_count_letters(column) for column in columns]
    text = lengths.index(max(lengths, default=0)) if any(lengths) else -1
    address = next((at for at in range(width) if _are_addresses(columns[at])), -1)
    for row in chain(ahead, values):
        if not isinstance(row, list):
            yield row
            continue
        named: dict[str, Any] = {str(at): value for at, value in enumerate(row)}
        if 0 <= text < len(row):
            named["text"] = row[text]
        if 0 <= address < len(row):
            named["url"] = row[address]
        yield named


def _count_letters(column: Sequence[Any]) -> int:
    return sum(len(value) for value in column if isinstance(value, str) and not is_address(value))


def _are_addresses(column: Sequence[Any]) -> bool:
    given = [value for value in column if value is not None]
    return bool(given) and all(isinstance(value, str) and is_address(value) for value in given)


def _split_rows(table: Mapping[str, Any]) -> Iterator[Any]:
    """Rows of a frame whose columns, index and values stand apart (pandas: split)."""
    index = table.get(_INDEX)
    names = index if isinstance(index, list) and len(index) == len(table["data"]) else None
    for at, values in enumerate(table["data"]):
        if not isinstance(values, list):
            yield values
            continue
        row = dict(zip(table["columns"], values, strict=False))
        yield {_INDEX: names[at], **row} if names is not None else row


def _is_column(value: Any, table: Mapping[str, Any]) -> bool:
    """True for a column by the index of its rows, as pandas writes a frame by default.

    An object that holds a text under a known name is none, nor one that differs from its
    neighbours in its names.
    """
    if not isinstance(value, dict) or not value:
        return False
    if all(str(name).isdigit() for name in value):
        return True
    if any(str(name).lower() in TEXT_NAMES for name in value):
        return False
    if any(isinstance(cell, dict) for cell in value.values()):
        return False
    return all(
        isinstance(column, dict) and list(column) == list(value) for column in table.values()
    )


def _transpose(table: Mapping[str, Any]) -> Iterator[Row]:
    columns = {name: column for name, column in table.items() if isinstance(column, dict)}
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    for row in rows:
        yield {_INDEX: row, **{name: column.get(row) for name, column in columns.items()}}
