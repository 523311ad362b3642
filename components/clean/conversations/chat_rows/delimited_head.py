"""Tables written as text, CSV and the like, known by how a file begins."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import BinaryIO

_HEAD_BYTES = 1 << 16
"""Beginning of a file that is looked at, below the limit that the csv module has for a cell."""
_DELIMITERS = (",", "\t", ";", "|")
_MOST_RECORDS = 20
"""Records that are compared: prose has as many commas a line in two lines, not in many."""
_COLUMN_NAME = re.compile(r"[\w .:/()-]{0,64}")
"""Names of columns; a sentence ends with a sign or is longer, and JSON has braces."""


def is_delimited_text(stream: BinaryIO) -> bool:
    """True for a header and records that have as many cells as it, none of them JSON.

    Args:
        stream: UTF-8, decompressed.
    """
    content = stream.read(_HEAD_BYTES)
    text = content.decode(errors="replace")
    if len(content) == _HEAD_BYTES:  # the last record may be cut
        text = text[: text.rfind("\n") + 1]
    if any(_is_json(line) for line in text.splitlines()):
        return False
    return any(_is_table(text, delimiter) for delimiter in _DELIMITERS)


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(text: str, delimiter: str) -> bool:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        records = [record for record in rows if record]
    except csv.Error:
        return False
    header, *records = records[: _MOST_RECORDS + 1] or [[]]
    names = [name.strip() for name in header]
    return (
        len(set(filter(None, names))) > 1
        and all(_COLUMN_NAME.fullmatch(name) for name in names)
        and bool(records)
        and all(len(record) == len(header) for record in records)
    )
