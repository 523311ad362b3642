"""Rows of Parquet and Arrow files (IPC files and streams, Feather 2), batch by batch.

Columns that hold neither text, address nor title are not read. A batch with a value that cannot be
decoded is read row by row, so that it costs its row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_fields import (
    CONVERSATION_NAMES,
    TEXT_NAMES,
    TITLE_NAMES,
    URL_NAMES,
    may_hold_text,
)
from components.collect.files.rows.row_pages import explain_no_text, read_row
from components.core.io.parquet_errors import PARQUET_READ_ERRORS

_BATCH_ROWS = 256
_KNOWN_NAMES = frozenset((*TEXT_NAMES, *CONVERSATION_NAMES, *URL_NAMES, *TITLE_NAMES))
_OUTER_NAMES = frozenset(
    {"metadata", "meta", "warc_headers", "headers", "info", "page", "doc", "attributes"}
)
"""Names of columns that hold a row's address in an object, also one in JSON."""


def read_parquet(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the rows of a Parquet file."""
    with source.as_local_file(settings.scratch) as path:
        if not path.stat().st_size:
            return
        number = 0
        try:
            with pq.ParquetFile(path) as file:
                columns = _choose_columns(file.schema_arrow, settings)
                if not columns:
                    reason = explain_no_text(file.schema_arrow.names, settings.text_field)
                    yield source.reject(reason, mark="1")
                    return
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                    for row in _decode_rows(batch):
                        number += 1
                        yield from _read_decoded(source, number, row, settings)
        except PARQUET_READ_ERRORS as error:
            yield source.reject(
                f"cannot be read as Parquet from here on: {_first_line(error)}",
                mark=str(number + 1),
            )


def read_arrow(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the rows of an Arrow IPC file or stream."""
    with source.as_local_file(settings.scratch) as path:
        if not path.stat().st_size:
            return
        number = 0
        try:
            for batch in _ipc_batches(str(path)):
                chosen = set(_choose_columns(batch.schema, settings))
                if not chosen:
                    reason = explain_no_text(batch.schema.names, settings.text_field)
                    yield source.reject(reason, mark="1")
                    return
                columns = [at for at, name in enumerate(batch.schema.names) if name in chosen]
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    part = batch.select(columns).slice(start, _BATCH_ROWS)
                    for row in _decode_rows(part, is_trusted=False):
                        number += 1
                        yield from _read_decoded(source, number, row, settings)
        except PARQUET_READ_ERRORS as error:
            yield source.reject(
                f"cannot be read as Arrow from here on: {_first_line(error)}", mark=str(number + 1)
            )


def _ipc_batches(path: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(path) as mapped:
        if mapped.read(6) == b"ARROW1":
            mapped.seek(0)
            with pa.ipc.open_file(mapped) as reader:
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
        else:
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as stream:
                yield from stream


def _choose_columns(schema: pa.Schema, settings: ReadSettings) -> list[str]:
    """Names of the columns that can hold text, address or title; none where none holds text."""
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if not may_hold_text(schema.names, settings.text_field) and (not nested or settings.text_field):
        return []
    if not any((settings.text_field, settings.url_field, settings.title_field)):
        wanted: set[str] = set()
    else:
        fields = (settings.text_field, settings.url_field, settings.title_field)
        wanted = {field.partition(".")[0].lower() for field in fields if field}
        wanted |= {field.lower() for field in fields}
    lowered = {name.lower() for name in schema.names}
    if not (lowered.intersection(TEXT_NAMES) and lowered.intersection(URL_NAMES)):
        wanted |= _OUTER_NAMES
        wanted |= {field.name.lower() for field in schema if pa.types.is_struct(field.type)}
    known = [name for name in schema.names if name.lower() in _KNOWN_NAMES | wanted]
    has_text = any(name.lower() not in {*URL_NAMES, *TITLE_NAMES} for name in known)
    return list(dict.fromkeys(known if has_text else schema.names))


def _decode_rows(batch: pa.RecordBatch, *, is_trusted: bool = True) -> Iterator[Any]:
    """Rows of a batch as objects; for a row that cannot be decoded the reason, as a string.

    Buffers of IPC files come as they are stored: unless they are validated, a wrong offset leads
    outside of the file. Those of Parquet are made by its reader.
    """
    batch = _name_columns_apart(batch)
    try:
        if not is_trusted:
            batch.validate(full=True)
        yield from batch.to_pylist()
        return
    except (pa.ArrowException, ValueError):
        if not is_trusted:
            batch.validate()
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        try:
            if not is_trusted:
                row.validate(full=True)
            yield row.to_pylist()[0]
        except UnicodeDecodeError:
            yield "a byte of it is no UTF-8"
        except (pa.ArrowException, ValueError) as error:
            yield f"cannot be decoded: {_first_line(error)}"


def _name_columns_apart(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Batch whose columns of one name are told apart, the first under the name itself."""
    names = batch.schema.names
    if len(set(names)) == len(names):
        return batch
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}.{counts[name] - 1}")
    return batch.rename_columns(unique)


def _read_decoded(
    source: FileSource, number: int, row: Any, settings: ReadSettings
) -> Iterator[PlacedResult]:
    if isinstance(row, str):
        yield source.reject(row, mark=str(number))
    else:
        yield from read_row(source, number, row, settings)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
