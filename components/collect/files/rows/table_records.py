"""Records of delimited text (RFC 4180), where a stray quotation mark costs its own row.

A quotation mark that opens a field and belongs to the text makes a reader by the rules take all
rows up to the next mark for one field. It is told by what it swallows: lines that are rows. The
row is then read as it is written, and reading goes on behind its line.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_TOKEN = re.compile(r"(?=\S*\d)[\w:.+/-]{4,}")
"""An identifier, date or code: one word with a digit."""
_ROW_SHARE = 0.5
"""Share of lines behind an open quotation mark that are rows from which it is a stray one."""
_WIDE_ROW_SHARE = 0.9
"""The same share where no column tells rows from prose with as many separators."""
_JUDGED_LINES = 200


@dataclass(frozen=True)
class UnreadRecord:
    """Reason for which a record is no row."""

    reason: str


Record = list[str] | UnreadRecord


class _Fault(Enum):
    """Way in which a record breaks the rules."""

    QUOTE = "text follows a closing quotation mark"
    OPEN = "a quotation mark in it is not closed before the end of the file"
    LONG = "a field of it is longer than the bound (six times scrape.max_bytes)"


class LineSource:
    """Lines of a text, of which the last ones taken can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._pending: deque[str] = deque()
        self.taken: list[str] = []
        """Lines of the present record."""
        self.has_ended = False
        """True where the present record asked for a line behind the last."""

    def __iter__(self) -> LineSource:
        return self

    def __next__(self) -> str:
        try:
            line = self._pending.popleft() if self._pending else next(self._lines)
        except StopIteration:
            self.has_ended = True
            raise
        self.taken.append(line)
        return line

    def start_record(self) -> None:
        """Forget the lines that were taken."""
        self.taken, self.has_ended = [], False

    def give_back(self, count: int = 0) -> None:
        """Give back all lines of the record but the first ``count``."""
        self._pending.extendleft(reversed(self.taken[count:]))
        del self.taken[count:]
        self.has_ended = False

    def look_ahead(self, count: int) -> list[str]:
        """Next lines, which stay to be taken."""
        self.start_record()
        lines = list(islice(self, count))
        self.give_back()
        return lines


class RecordReader:
    """Records of a table in turn, the header first."""

    def __init__(self, source: LineSource, delimiter: str) -> None:
        self._source = source
        self._delimiter = delimiter
        self._strict = csv.reader(source, delimiter=delimiter, strict=True)
        self._lenient = csv.reader(source, delimiter=delimiter)
        self._width = 0
        self._model: list[str] = []
        """The last row of one line, which others resemble."""
        self._has_breaks = False
        """True from the first field on that goes over several lines."""

    def __iter__(self) -> Iterator[Record]:
        while True:
            self._source.start_record()
            values, fault = self._take_record(self._strict)
            if values is None and fault is None:
                return
            if fault is _Fault.QUOTE:
                self._source.give_back()
                values, later_fault = self._take_record(self._lenient)
                fault = later_fault or fault
            yield self._judge_record(values, fault)

    def _take_record(self, reader: Iterator[list[str]]) -> tuple[list[str] | None, _Fault | None]:
        """Next record, or the rule that it breaks; neither at the end."""
        try:
            values = next(reader, None)
        except csv.Error as error:
            if self._source.has_ended:
                return None, _Fault.OPEN
            return None, _Fault.LONG if "limit" in str(error) else _Fault.QUOTE
        # A field that is open at the end of the file is all that a reader asks on for.
        is_open = values is not None and self._source.has_ended
        return values, _Fault.OPEN if is_open else None

    def _judge_record(self, values: list[str] | None, fault: _Fault | None) -> Record:
        lines = self._source.taken
        if len(lines) > 1 and self._width and self._swallows_rows(lines, fault):
            self._source.give_back(1)
            return self._read_literally(lines[0])
        if fault is _Fault.OPEN and len(lines) == 1 and lines[0].endswith(("\n", "\r")):
            return self._read_literally(lines[0])
        if fault is _Fault.LONG:
            self._skip_record()
        if values is None or fault is _Fault.OPEN:
            return UnreadRecord((fault or _Fault.OPEN).value)
        self._has_breaks = self._has_breaks or len(lines) > 1
        if not self._width and any(value.strip() for value in values):
            self._width = len(values)
        elif len(lines) == 1 and len(values) == self._width:
            self._model = values
        return values

    def _read_literally(self, line: str) -> Record:
        """Row of a line in which quotation marks are text."""
        values = self._split(line, is_quoted=False)
        return values if len(values) == self._width else UnreadRecord(_Fault.OPEN.value)

    def _split(self, line: str, *, is_quoted: bool = True) -> list[str]:
        lines = [line]
        try:
            if is_quoted:
                return next(csv.reader(lines, delimiter=self._delimiter), [])
            return next(csv.reader(lines, delimiter=self._delimiter, quoting=csv.QUOTE_NONE), [])
        except csv.Error:
            return []

    def _swallows_rows(self, lines: Sequence[str], fault: _Fault | None) -> bool:
        """True for a record whose further lines are rows, by their columns.

        A record by the rules may hold a table as its text: all its lines must then be rows, with
        numbers that go on from its own.
        """
        first, further = lines[0], [line for line in lines[1:] if line.strip()]
        if self._width == 1:  # lines of a text look alike
            return fault is not None and not self._has_breaks
        if fault is None:
            return self._goes_on(first, further)
        rows = [self._split(line) for line in further[:_JUDGED_LINES]]
        rows = rows[:-1] if fault is _Fault.QUOTE and len(rows) > 1 else rows
        whole = [row for row in rows if len(row) == self._width]
        columns = self._telling_columns(self._model or self._split(first, is_quoted=False))
        if columns:
            alike = sum(all(_kind_of(row[at]) == kind for at, kind in columns) for row in whole)
            return alike > 0 and alike >= _ROW_SHARE * len(rows)
        return len(whole) > 1 and len(whole) >= _WIDE_ROW_SHARE * len(rows)

    def _goes_on(self, first: str, further: Sequence[str]) -> bool:
        start = self._split(first, is_quoted=False)
        if len(start) != self._width or not further:
            return False
        columns = self._telling_columns(start)
        last = start
        is_rising = {at: True for at, kind in columns if kind == "number"}
        for line in further:
            row = self._split(line)
            if len(row) != self._width or any(_kind_of(row[at]) != kind for at, kind in columns):
                return False
            for at in is_rising:
                is_rising[at] = is_rising[at] and _as_number(row[at]) > _as_number(last[at])
            last = row
        has_address = any(kind == "address" for _, kind in columns)
        return has_address or any(is_rising.values())

    def _telling_columns(self, row: Sequence[str]) -> list[tuple[int, str]]:
        """Columns whose values are no prose, with their kind."""
        if len(row) != self._width:
            return []
        return [(at, kind) for at, value in enumerate(row) if (kind := _kind_of(value))]

    def _skip_record(self) -> None:
        """Drop lines up to the end of a record that is too long."""
        is_open = sum(line.count('"') for line in self._source.taken) % 2 == 1
        is_cut = not self._source.taken[-1].endswith(("\n", "\r"))
        while is_open or is_cut:
            self._source.start_record()
            line = next(self._source, None)
            if line is None:
                return
            is_open ^= line.count('"') % 2 == 1
            is_cut = not line.endswith(("\n", "\r"))


def _kind_of(value: str) -> str:
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return "number"
    if _ADDRESS.fullmatch(value):
        return "address"
    return "token" if _TOKEN.fullmatch(value) else ""


def _as_number(value: str) -> float:
    return float(value.strip().replace(",", "."))
