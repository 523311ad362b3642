"""Extract stage: documents of fetched pages, main text as Markdown with code and menus set apart.

One WARC file is one task. Its rows stay in ``scratch`` until all are done; then every document goes
to the shard that its id determines, so the corpus does not depend on the archives' layout.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, field_validator

from components.collect.extraction.main_text import extract_main_text
from components.collect.extraction.mojibake import mend_main_text, mend_mojibake
from components.collect.warc.page_shards import WebPage, read_pages
from components.collect.web.charset import decode_page
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.log import get_logger
from components.core.stats.source_losses import AlarmConfig, SourceLosses, source_name
from components.core.store.artifact import SET_ASIDE_PREFIX, Corpus, Pages
from components.core.store.document_rows import (
    DOCUMENT_SCHEMA,
    QUARANTINE_SCHEMA,
    document_id,
    shard_of,
)
from components.core.store.executor import WorkerLost
from components.core.store.row_watchdog import LostRows, RowWatchdog
from components.core.store.shards import shard_name, write_shard
from components.core.store.workdir import Workdir

log = get_logger(__name__)
MENDED_FILE = "mended.parquet"
"""Documents whose mojibake was mended, with the number of lines changed."""
_MENDED = pa.schema([("id", pa.string()), ("url", pa.string()), ("lines", pa.int32())])
_ROUTED = DOCUMENT_SCHEMA.append(pa.field("shard", pa.int32())).append(_MENDED.field("lines"))
_REFUSED = QUARANTINE_SCHEMA.append(pa.field("bad", pa.bool_()))


class ExtractConfig(StageConfig):
    """Bounds of extraction, and the alarm for sources that lose most of their pages."""

    shards: int = Field(default=8, ge=1, le=100_000, description="number of shards of the corpus")
    min_chars: int = Field(
        default=200,
        ge=0,
        le=10**6,
        description="shortest text of a document, in characters; shorter ones are quarantined",
    )
    max_chars: int = Field(
        default=4_000_000,
        ge=1,
        le=10**9,
        description="longest source of a page, in characters; longer ones count as bad",
    )
    max_bad_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of pages that may give no text; more is an error",
    )
    page_seconds: float = Field(
        default=60,
        gt=0,
        le=10**6,
        description="processor time for one page; a page that takes longer counts as bad",
    )
    forums: tuple[str, ...] = Field(
        default=(),
        description="hosts, with their subdomains, whose readers' comments are part of the text",
    )
    alarm: AlarmConfig = Field(
        default=AlarmConfig(share=0.5),
        description="losses of a source from which a warning is given",
    )
    shard_seconds: float = Field(
        default=3600, gt=0, le=10**6, description="timeout of the work on one WARC file"
    )

    @field_validator("forums")
    @classmethod
    def _are_hosts(cls, forums: tuple[str, ...]) -> tuple[str, ...]:
        for forum in forums:
            if not re.fullmatch(r"[\w-]+(?:\.[\w-]+)*", forum):
                raise ValueError(f"{forum!r} is no host; forum.example is one")
        return tuple(forum.lower() for forum in forums)


@dataclass(frozen=True)
class _ExtractTask:
    """One WARC file to extract, and the file for its rows."""

    name: str
    source: Path
    target: Path
    config: ExtractConfig
    losses: LostRows = field(default_factory=LostRows)


def extract(config: ExtractConfig, pages: Pages, work: Workdir) -> Corpus:
    """Extract documents of all pages, in shards sorted by id.

    Args:
        config: Bounds of the extraction.
        pages: The crawl.
        work: The folder to write to.

    Raises:
        DataError: there is no WARC file, too many pages are bad, or no document is left.
    """
    sources = sorted(work.artifact_folder(pages).glob("*.warc*"))
    if not sources:
        raise DataError(f"{pages.name}: holds no WARC file")
    targets = [work.scratch / f"{source.name}.parquet" for source in sources]
    tasks = [
        _ExtractTask(source.name, source, target, config)
        for source, target in zip(sources, targets, strict=True)
        if not target.exists()
    ]
    done_count = len(sources) - len(tasks)
    if done_count:
        work.progress.note_resumed(f"after {done_count} of {len(sources)} files")
    work.progress.start_count(len(sources), "files", done=done_count)
    seconds = config.shard_seconds
    for _ in work.executor.map(extract_archive, tasks, seconds=seconds, retry=_skip_lost_page):
        work.progress.advance()
    sources_lost = SourceLosses()
    lost = _write_quarantine(config, targets, work, sources_lost)
    stats = _write_corpus(config, targets, work, sources_lost)
    stats["mended"] = _write_mended(targets, work)
    alarms = sources_lost.write_losses(work.folder, config.alarm, "extract")
    for line in alarms:
        log.warning("%s", line)
    return work.seal(Corpus, stats={**stats, **lost, "alarms": float(len(alarms))})


def extract_archive(task: _ExtractTask) -> str:
    """Extract one WARC file (in a worker): documents by target shard, and refused pages."""
    documents: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with closing(RowWatchdog(_watchdog_file(task.target), task.config.page_seconds)) as watchdog:
        for number, page in enumerate(read_pages(task.source)):
            try:
                if number in task.losses.reasons:
                    raise ValueError(task.losses.reasons[number])
                with watchdog.watch_row(number):
                    documents.append(_make_document(page, task.config))
            except Exception as error:
                bad = not isinstance(error, _TooShort)
                refused.append({"url": page.url, "reason": _refusal_reason(error), "bad": bad})
    documents.sort(key=lambda row: (row["shard"], row["id"]))
    write_shard(_refused_rows_file(task.target), pa.Table.from_pylist(refused, schema=_REFUSED))
    write_shard(task.target, pa.Table.from_pylist(documents, schema=_ROUTED))
    return task.name


def _refusal_reason(error: Exception) -> str:
    """Reason of a refused page; a defect of the extractor costs one page, not the stage."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, ValueError):
        return str(error)
    return f"the extractor failed: {type(error).__name__}: {error}"


def _skip_lost_page(task: _ExtractTask, lost: WorkerLost) -> _ExtractTask:
    """Task for another try, without the page that ended its worker."""
    beside = _watchdog_file(task.target)
    return replace(task, losses=task.losses.add_lost_worker(lost, beside, task.config.page_seconds))


class _TooShort(ValueError):
    """Page with too little text: not bad, and no document either."""


def _make_document(page: WebPage, config: ExtractConfig) -> dict[str, Any]:
    text = decode_page(page.body, page.content_type)
    if len(text) > config.max_chars:
        raise ValueError(f"longer than {config.max_chars} characters (extract.max_chars)")
    comments = bool(config.forums) and _is_forum(page.url, config.forums)
    main_text, mended_lines = mend_main_text(
        extract_main_text(
            text, page.content_type, _fallback_title(page.url), page.url, comments=comments
        )
    )
    if len(main_text.text) < config.min_chars:
        raise _TooShort(f"shorter than {config.min_chars} characters")
    body, headings = main_text.text, main_text.headings
    if main_text.headline:
        body, headings = f"# {main_text.headline}\n\n{body}", [main_text.headline, *headings]
    identifier = document_id(page.url, body)
    return {
        "id": identifier,
        "url": page.url,
        "source": _source_name(page.url),
        "ordinal": _record_seconds(page.date),
        "title": mend_mojibake(page.title)[0] or main_text.title,
        "text": body,
        "headings": headings,
        "code": main_text.code,
        "navigation": main_text.navigation,
        **asdict(main_text.about),
        "shard": shard_of(identifier, config.shards),
        "lines": mended_lines,
    }


def _is_forum(url: str, forums: tuple[str, ...]) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == forum or host.endswith(f".{forum}") for forum in forums)


def _record_seconds(date: str) -> int:
    """Unix time of a record's date; 0 where it has none."""
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _source_name(url: str) -> str:
    """Source of a page: its host, or its file."""
    parts = urlsplit(url)
    return parts.hostname or unquote(parts.path).lstrip("/") or url


def _fallback_title(url: str) -> str:
    """Title of a page without one: the last part of its URL's path."""
    path = unquote(urlsplit(url).path).rstrip("/")
    return path.rpartition("/")[2] or _source_name(url)


def _refused_rows_file(target: Path) -> Path:
    return target.with_name(target.name + ".refused")


def _watchdog_file(target: Path) -> Path:
    return target.with_name(target.name + ".inhand")


def _write_quarantine(
    config: ExtractConfig, targets: list[Path], work: Workdir, sources: SourceLosses
) -> dict[str, float]:
    """Write all refused pages with their reasons; their number, in all and of each kind.

    Raises:
        DataError: too many pages are bad.
    """
    tables = [pq.ParquetFile(_refused_rows_file(target)).read() for target in targets]
    table = pa.concat_tables(tables).sort_by([("url", "ascending"), ("reason", "ascending")])
    bad = table.filter(table["bad"])
    # Written also where too many are refused, so that `trace` has the reason of each.
    write_shard(work.folder / "quarantine.parquet", table.select(QUARANTINE_SCHEMA.names))
    pages = table.num_rows + sum(pq.ParquetFile(t).metadata.num_rows for t in targets)
    if bad.num_rows > config.max_bad_share * pages:
        first = bad.slice(0, 1).to_pylist()[0]
        (source, lost), *_ = Counter(map(source_name, bad["url"].to_pylist())).most_common(1)
        raise DataError(
            f"{bad.num_rows} of {pages} pages gave no text (extract.max_bad_share "
            f"{config.max_bad_share:g}), most of them of {source} ({lost}), the first "
            f"{first['url']}: {first['reason']}"
        )
    reasons = {at: [reason] for at, reason in enumerate(table["reason"].to_pylist())}
    sources.count_documents(table["url"].to_pylist(), reasons)
    return {
        "quarantined": table.num_rows,
        f"{SET_ASIDE_PREFIX}too_short": table.num_rows - bad.num_rows,
        f"{SET_ASIDE_PREFIX}unreadable": bad.num_rows,
    }


def _write_corpus(
    config: ExtractConfig, targets: list[Path], work: Workdir, sources: SourceLosses
) -> dict[str, float]:
    """Write the shards of the corpus from the rows of all files; its stats.

    Raises:
        DataError: there is no document.
    """
    documents = characters = repeated = 0
    moments = _fetch_times(targets)
    for index in range(config.shards):
        table = pa.concat_tables(list(_shard_rows(index, targets)))
        rows = table.num_rows
        table = _deduplicate_ids(table.sort_by([("id", "ascending"), ("ordinal", "ascending")]))
        ranks = np.searchsorted(moments, table["ordinal"].to_numpy())
        table = table.set_column(DOCUMENT_SCHEMA.names.index("ordinal"), "ordinal", pa.array(ranks))
        documents += table.num_rows
        sources.count_documents(table["url"].to_pylist(), {})
        repeated += rows - table.num_rows
        characters += sum(len(text.as_py()) for text in table["text"])
        write_shard(work.folder / shard_name(index), table.cast(DOCUMENT_SCHEMA))
    if not documents:
        raise DataError(
            f"no document is left: every page has fewer than {config.min_chars} characters of text "
            "(extract.min_chars) or none"
        )
    return {
        "documents": documents,
        "characters": characters,
        f"{SET_ASIDE_PREFIX}repeated": repeated,
    }


def _write_mended(targets: list[Path], work: Workdir) -> float:
    """Write which documents were mended; their number."""
    changed = [("lines", ">", 0)]
    tables = [
        pq.read_table(target, columns=_MENDED.names, filters=changed, partitioning=None)
        for target in targets
    ]
    table = pa.concat_tables(tables).sort_by([("id", "ascending"), ("lines", "ascending")])
    table = _deduplicate_ids(table)
    if table.num_rows:
        write_shard(work.folder / MENDED_FILE, table.cast(_MENDED))
    return float(table.num_rows)


def _fetch_times(targets: list[Path]) -> NDArray[np.int64]:
    """Distinct fetch times of all documents, in order.

    A document's ordinal is its rank among them. So the first crawl is number 0 whenever it was, and
    a page that a later crawl found unchanged stays older than the pages that were new in it.
    """
    columns = [pq.read_table(target, columns=["ordinal"], partitioning=None) for target in targets]
    return np.unique(pa.concat_tables(columns)["ordinal"].to_numpy())


def _shard_rows(index: int, targets: list[Path]) -> Iterator[pa.Table]:
    for target in targets:
        table = pq.read_table(target, filters=[("shard", "=", index)], partitioning=None)
        yield table.select(DOCUMENT_SCHEMA.names)


def _deduplicate_ids(table: pa.Table) -> pa.Table:
    """First row of each id, in a table sorted by id."""
    ids = table["id"].to_pylist()
    first = [index == 0 or ids[index - 1] != ids[index] for index in range(len(ids))]
    return table.filter(pa.array(first, type=pa.bool_()))
