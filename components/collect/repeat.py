"""An earlier crawl once more, without the pages that came onto the blocklist since.

Nobody is asked again: the other records are copied as they are, so that all that is made from the
pages differs by the blocked ones alone, and by nothing where the crawl never held one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastwarc.stream_io import GzipWriter
from fastwarc.warc import ArchiveIterator

from components.collect.cdxj import write_index
from components.collect.ledger import BLOCKED, LEDGER_FILE
from components.collect.warc import COMPRESSION
from components.core.artifact import MANIFEST, Pages
from components.core.blocklist import Blocklist
from components.core.errors import DataError
from components.core.shards import read_shard, write_shard


def repeat_crawl(source: Path, target: Path, blocklist: Blocklist) -> dict[str, float]:
    """Copy the crawl in ``source`` to ``target`` without what is blocked; the copy's stats.

    Raises:
        DataError: the crawl is gone, or nothing of it may stay.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
        assert manifest["format"] == Pages.format
        stats: dict[str, float] = manifest["artifact"]["stats"]
        archives = sorted(source.glob("*.warc.gz"))
        rows = read_shard(source / LEDGER_FILE)
    except (OSError, ValueError, KeyError, AssertionError, DataError) as error:
        raise DataError(
            f"scrape.repeats: crawl {source.name[:12]}, which was to be taken without its blocked "
            "pages, is gone or damaged; crawl again with --refresh"
        ) from error
    kept = [_without(row, blocklist) for row in rows.to_pylist()]
    pages = [row for row in kept if not row["reason"]]
    if not pages:
        raise DataError("scrape: every page of the crawl is on the blocklist")
    blocked = {row["url"] for row in kept if row["reason"] == BLOCKED}
    for archive in archives:
        _copy_archive(archive, target / archive.name, blocked)
    write_shard(target / LEDGER_FILE, pa.Table.from_pylist(kept, schema=rows.schema))
    write_index(target)
    return {
        "pages": float(len(pages)),
        "bytes": float(sum(row["bytes"] for row in pages)),
        "failed": stats.get("failed", 0.0),
        "left_out": float(len(kept) - len(pages)) - stats.get("failed", 0.0),
    }


def _without(row: dict[str, Any], blocklist: Blocklist) -> dict[str, Any]:
    """A ledger's row as a crawl under ``blocklist`` enters it."""
    if not blocklist.covers(row["url"]):
        return row
    nothing = {name: type(value)() for name, value in row.items()}
    return {**nothing, "url": row["url"], "reason": BLOCKED}


def _copy_archive(source: Path, target: Path, blocked: set[str]) -> None:
    """Every record but the blocked pages'; byte by byte where there is none of them."""
    beside = target.with_name(target.name + ".tmp")
    if not blocked & _addresses(source):
        shutil.copyfile(source, beside)
    else:
        with (
            source.open("rb") as stream,
            beside.open("wb") as file,
            GzipWriter(file, compression_level=COMPRESSION) as writer,
        ):
            for record in ArchiveIterator(stream, parse_http=False):
                if record.headers.get("WARC-Target-URI") not in blocked:
                    record.write(writer)
                    writer.finish()  # each record a gzip member of its own
    beside.replace(target)


def _addresses(archive: Path) -> set[str]:
    with archive.open("rb") as stream:
        records = ArchiveIterator(stream, parse_http=False)
        return {record.headers.get("WARC-Target-URI") or "" for record in records}
