"""Rows of delimited text (CSV and TSV, RFC 4180), with a header.

Its encoding is UTF-8, or what a byte order mark says; a file that is neither is taken for
Windows-1252, which spreadsheets write. In UTF-8 a byte that fits nowhere costs its row.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from components.collect.files.file_kinds import FileKind
from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_fields import TEXT_NAMES, URL_NAMES, may_hold_text
from components.collect.files.rows.row_pages import explain_no_text, read_row

_SNIFFED_BYTES = 1 << 20
_DELIMITERS = (",", ";", "\t", "|")
_KNOWN_NAMES = frozenset((*TEXT_NAMES, *URL_NAMES, "id", "title"))
_SURROGATES = ("\udc80", "\udcff")
_LEGACY_CHARACTERS = "cp1252"
_LEGACY_SHARE = 0.001
"""Share of bytes that are no UTF-8 from which a file is not meant to be UTF-8."""


def read_delimited(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the rows of a CSV or TSV file."""
    csv.field_size_limit(6 * settings.max_bytes)
    with source.open_text() as stream:
        assert isinstance(stream, io.BufferedReader)
        encoding = _guess_encoding(stream)
        lines = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")
        first_line = lines.readline(_SNIFFED_BYTES)
        if not first_line.strip():
            return
        delimiter = "\t" if source.kind is FileKind.TAB_TABLE else _guess_delimiter(first_line)
        reader = csv.reader(_chain(first_line, lines), delimiter=delimiter)
        number = 0
        try:
            header = [name.strip().strip("\ufeff") for name in next(reader)]
            if not may_hold_text(header, settings.text_field):
                yield source.reject(explain_no_text(header, settings.text_field), mark="1")
                return
            for number, values in enumerate(reader, 1):
                if values:
                    yield from _read_values(source, number, (header, values), settings)
        except csv.Error as error:
            reason = f"no row of a table from here on: {error}"
            yield source.reject(reason, mark=str(number + 1))


def _read_values(
    source: FileSource, number: int, table: tuple[list[str], list[str]], settings: ReadSettings
) -> Iterator[PlacedResult]:
    header, values = table
    extra = values[len(header) :]
    if any(value.strip() for value in extra):
        reason = f"has {len(values)} fields, the header has {len(header)}"
        yield source.reject(reason, mark=str(number))
        return
    row = dict(zip(header, values, strict=False))
    if any(_has_undecoded(value) for value in values):
        yield source.reject("a byte of it is no UTF-8", mark=str(number))
        return
    yield from read_row(source, number, row, settings)


def _has_undecoded(value: str) -> bool:
    low, high = _SURROGATES
    return not value.isascii() and any(low <= character <= high for character in value)


def _chain(first_line: str, lines: Iterator[str]) -> Iterator[str]:
    yield first_line
    yield from lines


def _guess_delimiter(header: str) -> str:
    """Delimiter that parts the header into known names, else that with the most parts."""
    scores = []
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
        scores.append((sum(name in _KNOWN_NAMES for name in names), len(names) > 1))
    best = max(scores)
    return _DELIMITERS[scores.index(best)] if best[1] else ","


def _guess_encoding(stream: io.BufferedReader | BinaryIO) -> str:
    """Encoding by the first bytes: UTF-8 but for a text with many bytes that are none."""
    assert isinstance(stream, io.BufferedReader)
    head = stream.peek(_SNIFFED_BYTES)[:_SNIFFED_BYTES]
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head)
    low, high = _SURROGATES
    unfit = 0 if text.isascii() else sum(low <= character <= high for character in text)
    return _LEGACY_CHARACTERS if unfit > _LEGACY_SHARE * len(head) else "utf-8"
