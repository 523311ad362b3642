"""Rows of users' files: JSON lines, a JSON list or Parquet, plain, gzip or zstd, by their bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from components.clean.conversations.chat_rows.delimited_head import is_delimited_text
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.io.decompress import BrokenStream, open_decompressed
from components.core.io.json_values import (
    BrokenJson,
    NotJsonLines,
    stream_json_lines,
    stream_json_values,
)
from components.core.io.parquet_errors import PARQUET_READ_ERRORS
from components.core.io.utf8_stream import open_utf8

_PARQUET = b"PAR1"
_BATCH_ROWS = 256
_ESCAPE_BYTES = 6
"""JSON escapes a byte in six characters, at most."""
_MAX_OVERHEAD = 1 << 20
"""Bytes of a row beside its text: names, ids, tools."""


def read_chat_rows(
    file: HashedFile, max_characters: int, scratch: Path, section: str = "instructions"
) -> Iterator[tuple[int, Any]]:
    """(number from 1, decoded row) of a file; ``BrokenJson`` for a row that cannot be read.

    Args:
        file: the user's file.
        max_characters: longest text of a conversation; a row may be as long with its escapes.
        scratch: folder for the content of a compressed table.
        section: part of the run's config that names the file and bounds its texts, for errors.

    Raises:
        DataError: the file changed since the run was planned, or is a table written as text.
    """
    file.check_unchanged(f"{section}.files")
    longest = _ESCAPE_BYTES * max_characters + _MAX_OVERHEAD
    too_long = f"its row is longer than {longest} bytes (six times {section}.max_characters)"
    number, is_first = 0, True
    try:
        for number, row in _read_file(Path(file.path), longest, too_long, scratch):
            if is_first and isinstance(row, BrokenJson) and _is_delimited(Path(file.path)):
                raise DataError(
                    f"{section}.files: {file.name} looks like CSV: save it as JSON lines or Parquet"
                )
            is_first = False
            yield number, row
    except BrokenStream as error:
        yield number + 1, BrokenJson(f"{error}; from here on nothing is read")
    except OSError as error:
        raise DataError(f"{section}.files: {file.name} cannot be read: {error.strerror}") from error


def _read_file(path: Path, longest: int, too_long: str, scratch: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as raw, open_decompressed(raw) as stream:
        if _peek(stream) == _PARQUET:
            with tempfile.TemporaryFile(dir=scratch) as copy:
                if stream is not raw:
                    shutil.copyfileobj(stream, copy)
                yield from _read_table(path if stream is raw else copy)
            return
    try:
        with path.open("rb") as raw, open_decompressed(raw) as stream:
            yield from stream_json_lines(open_utf8(stream), longest, too_long)
    except NotJsonLines:
        with path.open("rb") as raw, open_decompressed(raw) as stream:
            yield from enumerate(stream_json_values(open_utf8(stream), longest, too_long), 1)


def _is_delimited(path: Path) -> bool:
    """True for a table written as text."""
    try:
        with path.open("rb") as raw, open_decompressed(raw) as stream:
            return _peek(stream) != _PARQUET and is_delimited_text(open_utf8(stream))
    except BrokenStream:
        return False  # its first row says so


def _peek(stream: BinaryIO) -> bytes:
    """First bytes of a buffered stream, which are read again."""
    head: bytes = stream.peek(len(_PARQUET))[: len(_PARQUET)]  # type: ignore[attr-defined]
    return head


def _read_table(content: Any) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with pq.ParquetFile(content) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for row in _decode_rows(batch):
                    number += 1
                    yield number, row
    except PARQUET_READ_ERRORS as error:
        reason = f"cannot be read as Parquet from here on: {_first_line(error)}"
        yield number + 1, BrokenJson(reason)


def _decode_rows(batch: pa.RecordBatch) -> Iterator[Any]:
    """Rows of a batch; where it holds a value that cannot be decoded, one by one."""
    try:
        rows: list[Any] = batch.to_pylist()
    except (pa.ArrowException, ValueError):
        rows = [_decode_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for row in rows:
        yield row if isinstance(row, BrokenJson) else _drop_nulls(row)


def _decode_row(row: pa.RecordBatch) -> Any:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:
        return BrokenJson("a byte of it is no UTF-8")
    except (pa.ArrowException, ValueError) as error:
        return BrokenJson(f"cannot be decoded: {_first_line(error)}")


def _drop_nulls(value: Any) -> Any:
    """Value without fields that are null: a column of objects has every field that any has."""
    if isinstance(value, Mapping):
        return {name: _drop_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_drop_nulls(inner) for inner in value] if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
