"""Turns fetched pages into documents: main text as Markdown, code and menus kept apart.

One WARC file is one task. Its rows wait in ``scratch`` until all are done; then every document goes
to the shard its id names, so the corpus is the same whatever the pages were stored in.
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

from components.collect.extraction.main_text import main_text
from components.collect.warc.page_shards import WebPage, read_pages
from components.collect.web.charset import decode
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.log import get_logger
from components.core.stats.source_losses import AlarmConfig, Sources, source_of
from components.core.store.artifact import ASIDE, Corpus, Pages
from components.core.store.document_rows import DOCUMENT, QUARANTINE, document_id, shard_of
from components.core.store.executor import WorkerLost
from components.core.store.row_watchdog import InHand, Losses
from components.core.store.shards import shard_name, write_shard
from components.core.store.workdir import Workdir

log = get_logger(__name__)
_ROUTED = DOCUMENT.append(pa.field("shard", pa.int32()))
_REFUSED = QUARANTINE.append(pa.field("bad", pa.bool_()))


class ExtractConfig(StageConfig):
    """How pages become documents."""

    shards: int = Field(default=8, ge=1, le=100_000, description="shards of the corpus")
    min_chars: int = Field(
        default=200, ge=0, le=10**6, description="a document's shortest text; shorter is set aside"
    )
    max_chars: int = Field(
        default=4_000_000, ge=1, le=10**9, description="a page's longest source; longer is bad"
    )
    max_bad_share: float = Field(
        default=0.2, ge=0, le=1, description="of the pages that no text came from; more is an error"
    )
    page_seconds: float = Field(
        default=60,
        gt=0,
        le=10**6,
        description="longest work on one page, in processor time; a page that takes more is bad",
    )
    forums: tuple[str, ...] = Field(
        default=(),
        description="hosts, with their subdomains, whose readers' comments are their text",
    )
    alarm: AlarmConfig = Field(
        default=AlarmConfig(share=0.5), description="when a source's losses are told aloud"
    )
    shard_seconds: float = Field(
        default=3600, gt=0, le=10**6, description="longest work on one WARC file"
    )

    @field_validator("forums")
    @classmethod
    def _are_hosts(cls, forums: tuple[str, ...]) -> tuple[str, ...]:
        for forum in forums:
            if not re.fullmatch(r"[\w-]+(?:\.[\w-]+)*", forum):
                raise ValueError(f"{forum!r} is no host; forum.example is one")
        return tuple(forum.lower() for forum in forums)


@dataclass(frozen=True)
class _Task:
    """One WARC file to read, and where its rows go."""

    name: str
    source: Path
    target: Path
    config: ExtractConfig
    losses: Losses = field(default_factory=Losses)


def extract(config: ExtractConfig, pages: Pages, work: Workdir) -> Corpus:
    """Documents of all pages, in ``config.shards`` shards sorted by id.

    Raises:
        DataError: there is no WARC file, too many pages are bad, or no document is left.
    """
    sources = sorted(work.path(pages).glob("*.warc*"))
    if not sources:
        raise DataError(f"{pages.name}: holds no WARC file")
    targets = [work.scratch / f"{source.name}.parquet" for source in sources]
    tasks = [
        _Task(source.name, source, target, config)
        for source, target in zip(sources, targets, strict=True)
        if not target.exists()
    ]
    done = len(sources) - len(tasks)
    if done:
        work.progress.resume(f"after {done} of {len(sources)} files")
    work.progress.start(len(sources), "files", done=done)
    seconds = config.shard_seconds
    for _ in work.executor.map(extract_file, tasks, seconds=seconds, again=_without_the_lost):
        work.progress.advance()
    hosts = Sources()
    lost = _quarantine(config, targets, work, hosts)
    stats = _gather(config, targets, work, hosts)
    alarms = hosts.write(work.folder, config.alarm, "extract")
    for line in alarms:
        log.warning("%s", line)
    return work.seal(Corpus, stats={**stats, **lost, "alarms": float(len(alarms))})


def extract_file(task: _Task) -> str:
    """Extract one WARC file (in a worker): documents by target shard, and refused pages."""
    documents: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with closing(InHand(_in_hand_beside(task.target), task.config.page_seconds)) as hand:
        for number, page in enumerate(read_pages(task.source)):
            try:
                if number in task.losses.reasons:
                    raise ValueError(task.losses.reasons[number])
                with hand.take(number):
                    documents.append(_document(page, task.config))
            except Exception as error:
                bad = not isinstance(error, _TooShort)
                refused.append({"url": page.url, "reason": _reason(error), "bad": bad})
    documents.sort(key=lambda row: (row["shard"], row["id"]))
    write_shard(_refused_beside(task.target), pa.Table.from_pylist(refused, schema=_REFUSED))
    write_shard(task.target, pa.Table.from_pylist(documents, schema=_ROUTED))
    return task.name


def _reason(error: Exception) -> str:
    """Why a page is set aside: also where our own code fails on it, for the rest must go on."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, ValueError):
        return str(error)
    return f"the extractor failed: {type(error).__name__}: {error}"


def _without_the_lost(task: _Task, lost: WorkerLost) -> _Task:
    """The file again, but for the page that took its worker along."""
    beside = _in_hand_beside(task.target)
    return replace(task, losses=task.losses.after(lost, beside, task.config.page_seconds))


class _TooShort(ValueError):
    """A page with little text is not bad, and no document either."""


def _document(page: WebPage, config: ExtractConfig) -> dict[str, Any]:
    text = decode(page.body, page.content_type)
    if len(text) > config.max_chars:
        raise ValueError(f"longer than {config.max_chars} characters (extract.max_chars)")
    comments = bool(config.forums) and _is_forum(page.url, config.forums)
    found = main_text(text, page.content_type, _name(page.url), page.url, comments=comments)
    if len(found.text) < config.min_chars:
        raise _TooShort(f"shorter than {config.min_chars} characters")
    body, headings = found.text, found.headings
    if found.headline:
        body, headings = f"# {found.headline}\n\n{body}", [found.headline, *headings]
    identifier = document_id(page.url, body)
    return {
        "id": identifier,
        "url": page.url,
        "source": _source(page.url),
        "ordinal": _moment(page.date),
        "title": page.title or found.title,
        "text": body,
        "headings": headings,
        "code": found.code,
        "navigation": found.navigation,
        **asdict(found.about),
        "shard": shard_of(identifier, config.shards),
    }


def _is_forum(url: str, forums: tuple[str, ...]) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == forum or host.endswith(f".{forum}") for forum in forums)


def _moment(date: str) -> int:
    """Seconds since 1970 of a record's date; 0 where it names none."""
    try:
        then = datetime.fromisoformat(date)
    except ValueError:
        return 0
    return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp())


def _source(url: str) -> str:
    """The host, or the file."""
    parts = urlsplit(url)
    return parts.hostname or unquote(parts.path).lstrip("/") or url


def _name(url: str) -> str:
    """The last part of a URL's path."""
    path = unquote(urlsplit(url).path).rstrip("/")
    return path.rpartition("/")[2] or _source(url)


def _refused_beside(target: Path) -> Path:
    return target.with_name(target.name + ".refused")


def _in_hand_beside(target: Path) -> Path:
    return target.with_name(target.name + ".inhand")


def _quarantine(
    config: ExtractConfig, targets: list[Path], work: Workdir, sources: Sources
) -> dict[str, float]:
    """Write all refused pages with their reasons; how many there are, in all and of each kind."""
    tables = [pq.ParquetFile(_refused_beside(target)).read() for target in targets]
    table = pa.concat_tables(tables).sort_by([("url", "ascending"), ("reason", "ascending")])
    bad = table.filter(table["bad"])
    # Also where too many are refused: `trace` then says why of each.
    write_shard(work.folder / "quarantine.parquet", table.select(QUARANTINE.names))
    pages = table.num_rows + sum(pq.ParquetFile(t).metadata.num_rows for t in targets)
    if bad.num_rows > config.max_bad_share * pages:
        first = bad.slice(0, 1).to_pylist()[0]
        (source, lost), *_ = Counter(map(source_of, bad["url"].to_pylist())).most_common(1)
        raise DataError(
            f"{bad.num_rows} of {pages} pages gave no text (extract.max_bad_share "
            f"{config.max_bad_share:g}), most of them of {source} ({lost}), the first "
            f"{first['url']}: {first['reason']}"
        )
    reasons = {at: [reason] for at, reason in enumerate(table["reason"].to_pylist())}
    sources.count(table["url"].to_pylist(), reasons)
    return {
        "quarantined": table.num_rows,
        f"{ASIDE}too_short": table.num_rows - bad.num_rows,
        f"{ASIDE}unreadable": bad.num_rows,
    }


def _gather(
    config: ExtractConfig, targets: list[Path], work: Workdir, sources: Sources
) -> dict[str, float]:
    """Write the corpus' shards from the files' rows.

    Raises:
        DataError: there is no document.
    """
    documents = characters = twins = 0
    moments = _moments(targets)
    for index in range(config.shards):
        table = pa.concat_tables(list(_rows_of_shard(index, targets)))
        rows = table.num_rows
        table = _without_twins(table.sort_by([("id", "ascending"), ("ordinal", "ascending")]))
        ranks = np.searchsorted(moments, table["ordinal"].to_numpy())
        table = table.set_column(DOCUMENT.names.index("ordinal"), "ordinal", pa.array(ranks))
        documents += table.num_rows
        sources.count(table["url"].to_pylist(), {})
        twins += rows - table.num_rows
        characters += sum(len(text.as_py()) for text in table["text"])
        write_shard(work.folder / shard_name(index), table.cast(DOCUMENT))
    if not documents:
        raise DataError(
            f"no document is left: every page has fewer than {config.min_chars} characters of text "
            "(extract.min_chars) or none"
        )
    return {"documents": documents, "characters": characters, f"{ASIDE}repeated": twins}


def _moments(targets: list[Path]) -> NDArray[np.int64]:
    """The moments at which documents were fetched, in order.

    A document's place among them is its ordinal. So the first crawl is number 0 whenever it was,
    and a page that a later crawl found as it was stays older than what that crawl brought.
    """
    columns = [pq.read_table(target, columns=["ordinal"], partitioning=None) for target in targets]
    return np.unique(pa.concat_tables(columns)["ordinal"].to_numpy())


def _rows_of_shard(index: int, targets: list[Path]) -> Iterator[pa.Table]:
    for target in targets:
        table = pq.read_table(target, filters=[("shard", "=", index)], partitioning=None)
        yield table.select(DOCUMENT.names)


def _without_twins(table: pa.Table) -> pa.Table:
    """One row an id, in a table sorted by id."""
    ids = table["id"].to_pylist()
    first = [index == 0 or ids[index - 1] != ids[index] for index in range(len(ids))]
    return table.filter(pa.array(first, type=pa.bool_()))
