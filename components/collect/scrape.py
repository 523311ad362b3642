"""Fetches pages: crawls the embedded site or the web, or reads files. The source of every run.

``scrape`` is a stage like any other because its config fixes what it looks at: ``resolve`` writes
the moment of the crawl (``as_of``) or the files' digests into it, so that a second run of the same
config finds the first one's pages and a nightly one crawls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from components.collect.crawl import BLOCKED, Crawl, Entry, Manners
from components.collect.fetch import Fetcher, Limits
from components.collect.files import digest_files, pages_of_files
from components.collect.guard import Address
from components.collect.repeat import LEDGER_FILE, repeat_crawl
from components.collect.site import HOST, DocumentationSite, SiteConfig
from components.collect.spool import Spool
from components.collect.urls import host_of, normalise
from components.collect.warc import WebPage, write_shards
from components.core.artifact import Pages
from components.core.blocklist import Blocklist
from components.core.config import StageConfig
from components.core.errors import DataError, MillError, TransientError
from components.core.shards import write_shard
from components.core.workdir import Workdir

Source = Literal["embedded", "web", "files"]
NO_DATE = "1970-01-01T00:00:00Z"
"""``as_of`` of files, where only contents count."""
LEDGER = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("status", pa.int32(), nullable=False),  # 0 where no answer came
        pa.field("reason", pa.string(), nullable=False),  # empty for a page that was kept
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),  # sha256 of the body
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
        pa.field("redirected_from", pa.string(), nullable=False),
    ]
)


class ScrapeConfig(StageConfig):
    """Where pages come from and how they are fetched."""

    as_of: str = Field(
        default="",
        pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$",
        description="the moment this crawl stands for, in UTC; set by the run",
    )
    sources: Source | None = Field(
        default=None,
        description="embedded, web or files; by default what seeds or files say, else embedded",
    )
    seeds: list[str] = Field(default=[], description="http(s) addresses a web crawl starts from")
    hosts: list[str] = Field(
        default=[], description="hosts a web crawl may enter besides those of its seeds"
    )
    files: list[str] = Field(
        default=[], description="globs of HTML, text, Markdown, JSONL, Parquet and WARC files"
    )
    folder: str = Field(
        default="",
        exclude=True,  # what counts is which files were found, not where
        description="folder that relative globs in files start from; set by the run: that of the "
        "YAML file which gives them, else the current one",
    )
    digests: dict[str, str] = Field(
        default={}, description="file name -> sha256; set by the run, so that contents count"
    )
    embedded: SiteConfig = Field(
        default=SiteConfig(), description="the site of Python packages that Modelmill brings along"
    )
    allow_private: bool = Field(
        default=False, description="let a web crawl reach private and loopback addresses"
    )
    max_pages: int = Field(default=20_000, ge=1, le=10_000_000, description="pages to ask for")
    max_depth: int = Field(default=20, ge=0, le=10_000, description="links from a seed, at most")
    max_redirects: int = Field(default=5, ge=0, le=20, description="redirects to one page")
    concurrency: int = Field(default=8, ge=1, le=256, description="requests to a host at a time")
    delay_seconds: float | None = Field(
        default=None, ge=0, le=3600, description="pause between requests to a host; web: 1 s"
    )
    retries: int = Field(default=3, ge=0, le=20, description="further tries of a failed request")
    backoff_seconds: float = Field(
        default=0.5, ge=0, le=600, description="pause before the first retry; doubles each time"
    )
    connect_seconds: float = Field(default=10, gt=0, le=600, description="longest connecting")
    read_seconds: float = Field(default=30, gt=0, le=600, description="longest silence")
    page_seconds: float = Field(default=120, gt=0, le=3600, description="longest whole request")
    max_bytes: int = Field(
        default=8_000_000, ge=1, le=10**9, description="a page's largest size, unpacked"
    )
    user_agent: str = Field(
        default="modelmill", pattern=r"^[!-~]([ -~]*[!-~])?$", description="name given to sites"
    )
    blocklist: list[str] = Field(
        default=[], description="URLs (with all below them) and domains never to be fetched"
    )
    repeats: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="key of an earlier crawl that this one is, without what came onto the "
        "blocklist since; set by the run",
    )
    max_failed_share: float = Field(
        default=0.2, ge=0, le=1, description="of the pages asked for; more end the run"
    )
    shards: int = Field(default=8, ge=1, le=10_000, description="WARC files to spread pages over")

    @field_validator("seeds")
    @classmethod
    def _addresses(cls, seeds: list[str]) -> list[str]:
        for seed in seeds:
            if normalise(seed) is None:
                raise ValueError(f"{seed!r} is no http:// or https:// address")
        return seeds

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> ScrapeConfig:
        for source, given in (("web", self.seeds), ("files", self.files)):
            if self.sources == source and not given:
                field = "seeds" if source == "web" else "files"
                raise ValueError(f"sources: {source} needs {field}")
        if self.sources is None and self.seeds and self.files:
            raise ValueError("seeds and files are both given: say which with sources")
        return self

    @property
    def source(self) -> Source:
        """The source that is meant."""
        if self.sources is not None:
            return self.sources
        return "files" if self.files else "web" if self.seeds else "embedded"


def resolve(
    config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]], refresh: bool, now: str
) -> ScrapeConfig:
    """``config`` with what it will look at fixed.

    A crawl stands for the newest earlier crawl with the same config (``earlier``: records of sealed
    and unfinished crawls), else it repeats the newest whose blocklist was shorter, else, and with
    ``refresh``, it stands for ``now``. A given ``as_of`` stays. Files are found and digested.

    Raises:
        ConfigError: a glob matches no file.
    """
    if config.source == "files":
        digests = digest_files(config.files, config.folder)
        return config.model_copy(update={"as_of": NO_DATE, "digests": digests})
    known = [] if refresh and not config.as_of else _same_but_blocklist(config, earlier)
    usable = [before for before in known if not config.as_of or before.as_of == config.as_of]
    same = [before for before in usable if before.blocklist == frozenset(config.blocklist)]
    if same:
        newest = max(same, key=lambda before: (before.as_of, bool(before.key)))
        return config.model_copy(update={"as_of": newest.as_of, "repeats": newest.repeats})
    shorter = [b for b in usable if b.key and b.blocklist < frozenset(config.blocklist)]
    if shorter:
        newest = max(shorter, key=lambda before: (before.as_of, len(before.blocklist)))
        return config.model_copy(update={"as_of": newest.as_of, "repeats": newest.key})
    return config.model_copy(update={"as_of": config.as_of or now, "repeats": ""})


@dataclass(frozen=True)
class _Before:
    """An earlier crawl as far as a later one asks."""

    as_of: str
    blocklist: frozenset[str]
    repeats: str
    key: str
    """Empty for an unfinished one."""


def _same_but_blocklist(
    config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]]
) -> list[_Before]:
    """Earlier crawls of the same config, whenever they were and whatever was blocked then."""
    free = {"as_of", "repeats", "blocklist"}
    own = config.model_dump(mode="json")
    found: list[_Before] = []
    for record in earlier:
        given = record.get("config")
        if not isinstance(given, Mapping):
            continue
        whole = {**_DEFAULTS, **given}  # a field that came since had its default
        if all(whole.get(name) == value for name, value in own.items() if name not in free):
            key = str(record.get("artifact", {}).get("name", "")).rpartition("/")[2]
            listed = frozenset(map(str, whole["blocklist"]))
            found.append(_Before(str(whole["as_of"]), listed, str(whole["repeats"]), key))
    sealed = {before.key for before in found}
    return [b for b in found if b.as_of and (b.key or not b.repeats or b.repeats in sealed)]


_DEFAULTS = ScrapeConfig().model_dump(mode="json")


def scrape(config: ScrapeConfig, work: Workdir) -> Pages:
    """Fetch all pages into WARC shards, and enter every address into ``ledger.parquet``.

    Raises:
        DataError: no page came, or a file cannot be read.
        TransientError: a seed cannot be reached, or too many pages failed.
    """
    date = config.as_of or NO_DATE
    if config.repeats:
        source = work.root / "sealed" / config.repeats
        stats = repeat_crawl(source, work.folder, Blocklist(config.blocklist))
        return work.seal(Pages, stats=stats)
    ledger: dict[str, Entry] = {}
    if config.source == "files":
        pages = _from_files(config, ledger)
        kept = write_shards(work.folder, pages, config.shards, date)
        _judge_share(config, ledger)
    else:
        with Spool(work.scratch / "crawl.sqlite") as spool:
            before = sum(1 for _ in spool.urls())
            if before:
                work.progress.resume(f"after {before} answers")
            ledger = dict(_crawl(config, work, spool))
            _judge_crawl(config, ledger, spool)
            kept = write_shards(work.folder, _from_spool(spool, ledger), config.shards, date)
    if not kept:
        raise DataError(f"no page came from {_named(config)}: {_first_reason(ledger)}")
    rows = [ledger[url].row() for url in sorted(ledger)]
    write_shard(work.folder / LEDGER_FILE, pa.Table.from_pylist(rows, schema=LEDGER))
    asked = [entry for entry in ledger.values() if entry.status or entry.failed]
    return work.seal(
        Pages,
        stats={
            "pages": kept,
            "bytes": sum(entry.bytes for entry in ledger.values() if not entry.reason),
            "failed": sum(entry.failed for entry in asked),
            "left_out": sum(bool(entry.reason) and not entry.failed for entry in ledger.values()),
        },
    )


@dataclass(frozen=True)
class _Target:
    """Where a crawl starts and what it may enter."""

    seeds: list[str]
    hosts: set[str]
    known: dict[Address, Address]
    delay_seconds: float


def _crawl(config: ScrapeConfig, work: Workdir, spool: Spool) -> Mapping[str, Entry]:
    with ExitStack() as stack:
        if config.source == "web":
            seeds = [url for seed in config.seeds if (url := normalise(seed)) is not None]
            hosts = {host_of(url) for url in seeds} | {host.lower() for host in config.hosts}
            target = _Target(seeds, hosts, {}, 1.0)
        else:
            folder = work.scratch / "site"
            folder.mkdir(exist_ok=True)
            site = stack.enter_context(DocumentationSite(config.embedded, folder=folder))
            target = _Target([site.url], {HOST}, {(HOST, 80): site.address}, 0.0)
        ledger = asyncio.run(_run(config, target, work, spool))
        if config.source == "embedded":
            for module, reason in site.skipped().items():
                entry = ledger.get(f"{site.url}{module}.html")
                if entry is not None and entry.failed:
                    entry.reason = f"{entry.reason}: {reason}"
    return ledger


async def _run(
    config: ScrapeConfig, target: _Target, work: Workdir, spool: Spool
) -> Mapping[str, Entry]:
    manners = Manners(
        agent=config.user_agent,
        max_pages=config.max_pages,
        max_depth=config.max_depth,
        max_redirects=config.max_redirects,
        concurrency=config.concurrency,
        delay_seconds=target.delay_seconds
        if config.delay_seconds is None
        else config.delay_seconds,
        retries=config.retries,
        backoff_seconds=config.backoff_seconds,
        blocklist=Blocklist(config.blocklist),
    )
    limits = Limits(
        config.max_bytes, config.connect_seconds, config.read_seconds, config.page_seconds
    )
    fetcher = Fetcher(
        config.user_agent, limits, known=target.known, allow_private=config.allow_private
    )
    async with fetcher:
        crawl = Crawl(fetcher, spool, manners, target.hosts, work.progress)
        return await crawl.run(target.seeds)


def _judge_crawl(config: ScrapeConfig, ledger: Mapping[str, Entry], spool: Spool) -> None:
    """Give up on a crawl that went badly; the next try asks again for what may come then."""
    seeds = [normalise(seed) or seed for seed in config.seeds] if config.source == "web" else []
    lost = next((ledger[url] for url in seeds if url in ledger and ledger[url].failed), None)
    try:
        if lost is not None:
            raise _failure(lost, f"seed {lost.url} cannot be reached: {lost.reason}")
        _judge_share(config, ledger)
    except MillError:
        spool.forget_transient()
        raise


def _judge_share(config: ScrapeConfig, ledger: Mapping[str, Entry]) -> None:
    """Raises where more failed than the config allows."""
    asked = [entry for entry in ledger.values() if entry.status or entry.failed]
    failed = [entry for entry in asked if entry.failed]
    if len(failed) > config.max_failed_share * len(asked):
        first = failed[0]
        raise _failure(
            first,
            f"{len(failed)} of {len(asked)} pages failed (max_failed_share "
            f"{config.max_failed_share:g}), the first {first.url}: {first.reason}",
        )


def _failure(entry: Entry, message: str) -> MillError:
    """One that is worth another try where no answer or a server's error came."""
    if entry.url.startswith("file:") or entry.reason.startswith("refused"):
        return DataError(message)
    passing = entry.status == 0 or entry.status >= 500
    return TransientError(message) if passing else DataError(message)


def _from_spool(spool: Spool, ledger: Mapping[str, Entry]) -> Iterator[WebPage]:
    for url in sorted(ledger):
        entry = ledger[url]
        if not entry.reason:
            answer = spool.get(url)
            assert answer is not None
            kind = answer.headers.get("content-type", "")
            headers = tuple(sorted(answer.headers.items()))
            yield WebPage(url, spool.body(url), kind, entry.digest, headers)


def _from_files(config: ScrapeConfig, ledger: dict[str, Entry]) -> Iterator[WebPage]:
    """Pages as they are read; enters each into ``ledger``."""
    digests = config.digests or digest_files(config.files, config.folder)
    blocklist = Blocklist(config.blocklist)
    for found in pages_of_files(config.files, digests, config.max_bytes, config.folder):
        if blocklist.covers(found.url):
            ledger[found.url] = Entry(found.url, reason=BLOCKED)
        elif isinstance(found, Entry):
            ledger[found.url] = found
        elif found.url in ledger and ledger[found.url].digest == found.digest:
            continue  # the same page twice
        else:
            ledger[found.url] = Entry(found.url, 200, "", len(found.body), found.digest)
            yield found


def _named(config: ScrapeConfig) -> str:
    given = config.files if config.source == "files" else config.seeds
    return ", ".join(given[:3]) if given else "the embedded site"


def _first_reason(ledger: Mapping[str, Entry]) -> str:
    return next((f"{e.url}: {e.reason}" for e in ledger.values() if e.reason), "nothing was found")
