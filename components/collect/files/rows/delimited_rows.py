"""Rows of delimited text (CSV and TSV, RFC 4180), with a header.

Its charset is UTF-8, what a byte order mark says, or what its text tells; a byte that fits nowhere
costs its row. Blank lines above the header and Excel's own ``sep=;`` are no header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from components.collect.files.file_kinds import FileKind
from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_fields import TEXT_NAMES, URL_NAMES, may_hold_text
from components.collect.files.rows.row_pages import explain_no_text, read_row
from components.collect.files.rows.table_records import LineSource, RecordReader, UnreadRecord
from components.collect.files.rows.table_text import TableText

_DELIMITERS = (",", ";", "\t", "|")
_KNOWN_NAMES = frozenset((*TEXT_NAMES, *URL_NAMES, "id", "title"))
_DELIMITER_LINE = re.compile(r"\ufeff?\s*\"?sep=(.)\"?[\r\n]*", re.IGNORECASE)
"""First line by which Excel is told the delimiter, and which it leaves out."""
_JUDGED_LINES = 50
"""Lines by which the delimiter is guessed."""
_MAX_LINES_ABOVE = 20
"""Lines in which a header is looked for below the head of a report."""
_MAX_BLANK_LINES = 1000
"""Blank lines above a header."""


def read_delimited(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the rows of a CSV or TSV file."""
    longest = 6 * settings.max_bytes
    csv.field_size_limit(longest)
    with source.open_text() as stream:
        text = TableText(stream, longest)
        lines = LineSource(iter(text))
        delimiter = _find_delimiter(lines, source, settings)
        above = _count_lines_above(lines.look_ahead(_MAX_LINES_ABOVE), delimiter, settings)
        if above:
            lines.start_record()
            for _ in range(above):
                next(lines)
            yield source.reject(f"{above} lines above the header", failed=False, mark="0")
            if source.kind is not FileKind.TAB_TABLE:
                delimiter = _guess_delimiter(lines.look_ahead(_JUDGED_LINES), settings)
        header: list[str] = []
        number = 0
        for record in RecordReader(lines, delimiter):
            if isinstance(record, UnreadRecord):
                number += 1
                yield source.reject(record.reason, mark=str(number))
            elif not header:
                if not any(value.strip("\ufeff \t") for value in record):
                    continue
                header = _name_columns([name.strip().strip("\ufeff") for name in record])
                if not may_hold_text(header, settings.text_field):
                    yield source.reject(explain_no_text(header, settings.text_field), mark="1")
                    return
            else:
                number += 1
                if any(text.has_undecoded(value) for value in record):
                    charset = "UTF-8" if text.codec == "utf-8" else text.codec
                    yield source.reject(f"a byte of it is no {charset}", mark=str(number))
                elif record:
                    yield from _read_values(source, number, (header, record), settings)


def _read_values(
    source: FileSource, number: int, table: tuple[list[str], list[str]], settings: ReadSettings
) -> Iterator[PlacedResult]:
    header, values = table
    extra = values[len(header) :]
    if any(value.strip() for value in extra):
        reason = f"has {len(values)} fields, the header has {len(header)}"
        yield source.reject(reason, mark=str(number))
        return
    yield from read_row(source, number, dict(zip(header, values, strict=False)), settings)


def _name_columns(names: Sequence[str]) -> list[str]:
    """Names of columns, told apart where several have one: the first keeps it (``text.1``)."""
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}.{counts[name] - 1}")
    return unique


def _find_delimiter(lines: LineSource, source: FileSource, settings: ReadSettings) -> str:
    """Delimiter of a table, whose blank lines and ``sep=`` line are taken."""
    for _ in range(_MAX_BLANK_LINES):
        first = next(iter(lines.look_ahead(1)), "")
        declared = _DELIMITER_LINE.fullmatch(first)
        if declared is None and (not first or first.strip("\ufeff \t\r\n")):
            break
        lines.start_record()
        next(lines)
        if declared is not None:
            return declared[1]
    if source.kind is FileKind.TAB_TABLE:
        return "\t"
    return _guess_delimiter(lines.look_ahead(_JUDGED_LINES), settings)


def _count_lines_above(lines: Sequence[str], delimiter: str, settings: ReadSettings) -> int:
    """Lines of a report's head (``Export of 2024``), which has fewer columns than the header.

    Args:
        lines: First lines of the table.
        delimiter: Delimiter by the first of them.
        settings: Name of the text's field.
    """
    wanted = {settings.text_field.lower()} if settings.text_field else set(TEXT_NAMES)
    delimiters = (delimiter,) if delimiter == "\t" else _DELIMITERS
    width = 0
    for at, line in enumerate(lines):
        splits = [_split_records([line], candidate) for candidate in delimiters]
        records = [split[0] for split in splits if split]
        for record in records:
            names = [name.strip().strip("\ufeff").lower() for name in record]
            if len(names) > max(1, width) and "" not in names and wanted.intersection(names):
                return at
        if line.count('"') % 2 or any(wanted.intersection(record) for record in records):
            return 0
        if at == 0:
            width = max((len(record) for record in records), default=0)
    return 0


def _guess_delimiter(lines: Sequence[str], settings: ReadSettings) -> str:
    """Delimiter that parts the header into known names, and the rows into as many values."""
    fields = (settings.text_field, settings.url_field, settings.title_field)
    wanted = {field.lower() for field in fields if field}
    wanted |= {field.partition(".")[0] for field in wanted}
    scores = []
    for delimiter in _DELIMITERS:
        records = _split_records(lines, delimiter)
        names = [name.strip().strip("\ufeff").lower() for name in records[0]] if records else []
        fit = sum(len(record) == len(names) for record in records)
        scores.append(
            (
                sum(name in wanted for name in names),
                sum(name in _KNOWN_NAMES for name in names),
                len(names) > 1,
                fit / max(1, len(records)),
                len(names),
            )
        )
    return _DELIMITERS[scores.index(max(scores))]


def _split_records(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Records of the first lines but the last, which may go on, where there are several."""
    records = []
    try:
        records = [record for record in csv.reader(lines, delimiter=delimiter) if record]
    except csv.Error:
        return records
    return records[:-1] if len(records) > 2 else records
