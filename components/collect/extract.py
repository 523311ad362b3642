"""Pages -> documents: main text as Markdown, with headings, code and navigation apart.

Each WARC file is read in a worker into one small part a shard; a shard is its parts, sorted by id.
So a killed run goes on at its last file, and no more than a shard is ever in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import Field

from components.collect.markdown import Extracted, extract_html, read_markdown
from components.collect.textbytes import decode
from components.collect.warc import WebPage, read_pages
from components.core.artifact import Corpus, Pages
from components.core.config import StageConfig
from components.core.errors import DataError
from components.core.rows import DOCUMENT, QUARANTINE, document_id, shard_of
from components.core.shards import read_shard, shard_name, write_shard
from components.core.workdir import Workdir

QUARANTINE_FILE = "quarantine.parquet"
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = ("text/plain", "text/markdown", "text/x-markdown")


class ExtractConfig(StageConfig):
    """How documents are made and spread."""

    shards: int = Field(default=8, ge=1, le=100_000, description="shards of the corpus")
    min_chars: int = Field(
        default=64, ge=1, le=1_000_000, description="shortest main text that is a document"
    )
    max_chars: int = Field(
        default=10_000_000, ge=64, description="longer main texts are quarantined"
    )
    max_bad_share: float = Field(
        default=0.5, ge=0, le=1, description="share of pages without a text that is an error"
    )
    ordinal: int = Field(default=0, ge=0, description="which increment these pages are, 0 first")
    file_seconds: float = Field(default=600.0, gt=0, description="longest work on one WARC file")


@dataclass(frozen=True)
class _Task:
    """One WARC file to read: picklable."""

    name: str
    source: Path
    target: Path
    config: ExtractConfig


def extract(config: ExtractConfig, pages: Pages, work: Workdir) -> Corpus:
    """Extract every page.

    Raises:
        DataError: no document is left, too many pages have no text, or a file cannot be read.
    """
    sources = sorted(work.path(pages).glob("*.warc.gz"))
    if not sources:
        raise DataError(f"{work.path(pages).name}: holds no WARC file (00000.warc.gz, ...)")
    parts = work.scratch / "parts"
    parts.mkdir(exist_ok=True)
    tasks = [_Task(path.name, path, parts / path.name, config) for path in sources]
    missing = [task for task in tasks if not task.target.exists()]
    work.progress.start(len(tasks), "files", done=len(tasks) - len(missing))
    for _ in work.executor.map(read_file, missing, seconds=config.file_seconds):
        work.progress.advance()
    bad = pa.concat_tables([read_shard(task.target / QUARANTINE_FILE) for task in tasks])
    characters = documents = 0
    for index in range(config.shards):
        table = _merged([task.target / shard_name(index) for task in tasks])
        write_shard(work.folder / shard_name(index), table)
        documents += table.num_rows
        characters += sum(len(text) for text in table["text"].to_pylist())
    _refuse_too_few(config, documents, bad)
    write_shard(work.folder / QUARANTINE_FILE, bad.sort_by("url"))
    return work.seal(
        Corpus,
        stats={
            "documents": documents,
            "characters": characters,
            "quarantined": bad.num_rows,
        },
    )


def read_file(task: _Task) -> str:
    """Extract one WARC file into a part a shard (in a worker); the folder appears whole."""
    beside = task.target.with_name(task.target.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    rows: list[list[dict[str, Any]]] = [[] for _ in range(task.config.shards)]
    bad: list[dict[str, str]] = []
    for page in read_pages(task.source):
        try:
            row = _document(task.config, page)
        except _NoText as reason:
            bad.append({"url": page.url, "reason": str(reason)})
        else:
            rows[shard_of(row["id"], task.config.shards)].append(row)
    for index, part in enumerate(rows):
        write_shard(beside / shard_name(index), pa.Table.from_pylist(part, schema=DOCUMENT))
    write_shard(beside / QUARANTINE_FILE, pa.Table.from_pylist(bad, schema=QUARANTINE))
    beside.replace(task.target)
    return task.name


class _NoText(Exception):
    """Why a page is no document."""


def _document(config: ExtractConfig, page: WebPage) -> dict[str, Any]:
    found = _extracted(page)
    text = found.text.replace("\0", "").strip()
    if len(text) < config.min_chars:
        raise _NoText(f"{len(text)} characters of main text; at least {config.min_chars}")
    if len(text) > config.max_chars:
        raise _NoText(f"{len(text)} characters of main text; at most {config.max_chars}")
    return {
        "id": document_id(page.url, text),
        "url": page.url,
        "source": _source(page.url),
        "ordinal": config.ordinal,
        "title": found.title.replace("\0", ""),
        "text": text,
        "headings": found.headings,
        "code": found.code,
        "navigation": found.navigation.replace("\0", ""),
    }


def _extracted(page: WebPage) -> Extracted:
    kind = page.content_type.partition(";")[0].strip().lower()
    text = decode(page.body, page.content_type)
    if kind in _TEXT:
        return read_markdown(text)
    if kind in _HTML or text[:1000].lstrip().lower().startswith(("<!doctype html", "<html")):
        try:
            return extract_html(text)
        except RecursionError as error:
            raise _NoText("elements nested too deeply") from error
    raise _NoText(f"no text in it: {kind or 'unknown kind'}")


def _source(url: str) -> str:
    """The host of a page, or the folder that a file was read from."""
    parts = urlsplit(url)
    return parts.hostname or next((part for part in parts.path.split("/") if part), "files")


def _merged(parts: list[Path]) -> pa.Table:
    """One shard of its parts: sorted by id, the same document once."""
    table = pa.concat_tables([read_shard(part) for part in parts]).sort_by("id")
    return table.filter(pa.array(list(_first_of_each(table["id"].to_pylist())), pa.bool_()))


def _first_of_each(ids: list[str]) -> Iterator[bool]:
    before = None
    for identifier in ids:
        yield identifier != before
        before = identifier


def _refuse_too_few(config: ExtractConfig, documents: int, bad: pa.Table) -> None:
    example = "" if not bad.num_rows else f", e.g. {bad['url'][0]}: {bad['reason'][0]}"
    if not documents:
        raise DataError(f"no document in {bad.num_rows} pages{example}")
    share = bad.num_rows / (documents + bad.num_rows)
    if share > config.max_bad_share:
        raise DataError(
            f"{bad.num_rows} of {documents + bad.num_rows} pages have no text "
            f"(extract.max_bad_share {config.max_bad_share:g}){example}"
        )
