"""Parquet shards: the unit of work, of resume and of order.

One writer fixes names, row groups and compression, so equal input gives equal bytes. Every scorer's
``00017.parquet`` holds the same ids in the same order as the corpus's, so reading several side by
side is a zip, asserted, never a join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.workdir import Workdir

ROW_GROUP = 4096


def shard_name(index: int) -> str:
    """File name of a shard: ``00017.parquet``."""
    return f"{index:05d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """Paths of a folder's shards, in order.

    Raises:
        DataError: there are none.
    """
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9].parquet"))
    if not paths:
        raise DataError(f"{folder}: holds no shard (00000.parquet, ...)")
    return paths


def write_shard(path: Path, table: pa.Table) -> None:
    """Write one shard atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(None),
            temporary,
            row_group_size=ROW_GROUP,
            compression="zstd",
            compression_level=3,
            store_schema=False,
        )


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one shard.

    Raises:
        DataError: not Parquet, or a column is missing; names the shard.
    """
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path.name}: column {missing[0]!r} is missing")
            table: pa.Table = file.read(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name}: cannot be read as a Parquet shard: {error}") from error
    return table if columns is None else table.select(columns)


def read_shards(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """All shards of a folder as one table, in shard order."""
    return pa.concat_tables([read_shard(path, columns) for path in shard_paths(folder)])


def zip_shards(
    corpus: Path, others: Mapping[str, Path]
) -> Iterator[tuple[str, pa.Table, dict[str, pa.Table]]]:
    """(shard name, corpus table, other tables) for each shard, ids asserted equal.

    Raises:
        DataError: another folder's shard is missing or holds other ids.
    """
    for path in shard_paths(corpus):
        table = read_shard(path)
        tables: dict[str, pa.Table] = {}
        for role, folder in others.items():
            if not (folder / path.name).is_file():
                raise DataError(f"{role}: shard {path.name} is missing")
            tables[role] = read_shard(folder / path.name)
            if not tables[role]["id"].equals(table["id"]):
                raise DataError(f"{role}: shard {path.name} holds other ids than the corpus")
        yield path.name, table, tables


@dataclass(frozen=True)
class ShardTask:
    """Task of mapping one shard: picklable and small."""

    name: str
    source: Path
    target: Path
    function: Callable[..., pa.Table]
    arguments: dict[str, Any]


def map_shards(
    work: Workdir,
    corpus: Path,
    function: Callable[..., pa.Table],
    *,
    seconds: float | None = None,
    folder: Path | None = None,
    **arguments: Any,
) -> None:
    """Write ``function(table, **arguments)`` for every shard of ``corpus``; resumes by shard.

    Args:
        work: workdir of the stage.
        corpus: folder of the shards.
        function: a top-level function, since it runs in another process.
        seconds: time limit of a shard.
        folder: written to instead of ``work.folder``, below ``work.scratch`` for what only this
            stage reads. Shards that an earlier try left there are kept.
        arguments: arguments of ``function``; picklable.

    Raises:
        DataError: a shard's worker died or hung; names the shard.
    """
    paths = shard_paths(corpus)
    folder = folder or work.folder
    folder.mkdir(parents=True, exist_ok=True)
    missing = [path for path in paths if not (folder / path.name).exists()]
    tasks = [
        ShardTask(path.name, path, folder / path.name, function, arguments) for path in missing
    ]
    done = len(paths) - len(missing)
    if done:
        work.progress.note_resumed(f"after {done} of {len(paths)} shards")
    work.progress.start_count(len(paths), "shards", done=done)
    for _ in work.executor.map(run_shard_task, tasks, seconds=seconds):
        work.progress.advance()


def run_shard_task(task: ShardTask) -> str:
    """Map one shard (in a worker).

    Raises:
        DataError: the shard lacks a column that the function asks for.
        ConfigError: the function returned no table.
    """
    table = read_shard(task.source)
    try:
        made = task.function(table, **task.arguments)
    except KeyError as error:
        if "does not exist in schema" not in str(error):  # what pyarrow says of a column
            raise
        held = ", ".join(table.column_names)
        raise DataError(f"{task.name}: {error.args[0]}; it holds {held}") from error
    if not isinstance(made, pa.Table):
        raise ConfigError(
            f"{task.name}: {task.function.__name__} returned {type(made).__name__}: return a "
            "pyarrow.Table"
        )
    write_shard(task.target, made)
    return task.name
