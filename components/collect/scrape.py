"""Fetches pages: crawls the embedded site or the web, or reads files. The source of every run.

``scrape`` is a stage like any other because its config fixes what it looks at: ``resolve`` writes
the moment of the crawl (``as_of``) or the files' digests into it, so that a second run of the same
config finds the first one's pages and a nightly one crawls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.collect.crawl.crawl_health import judge_seeds, judge_share
from components.collect.crawl.crawler import Crawl, Visit
from components.collect.crawl.fetch_ledger import BLOCKED, Entry, write_ledger
from components.collect.crawl.polite_fetcher import Asker, Manners
from components.collect.crawl.previous_crawl import Earlier
from components.collect.crawl.replay_crawl import EarlierCrawl
from components.collect.crawl.response_store import Spool
from components.collect.docsite.documentation_site import HOST, DocumentationSite, SiteConfig
from components.collect.local_files import digest_files, find_archives, pages_of_files
from components.collect.optouts.archived_signals import read_sites
from components.collect.optouts.optout_policy import OPTED_OUT, OptoutConfig, refusal, weigh
from components.collect.warc.cdxj_index import write_index
from components.collect.warc.page_shards import Revisit, WebPage, write_shards
from components.collect.warc.revisit_records import Revisits
from components.collect.web.http_fetcher import Fetcher, Limits, request_headers
from components.collect.web.page_links import signals_of
from components.collect.web.ssrf_guard import Address
from components.collect.web.urls import host_of, normalise, origin, why_no_address
from components.core.config.blocklist import Blocklist
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, MillError
from components.core.store.artifact import Pages
from components.core.store.workdir import Workdir

WEB_DELAY_SECONDS = 1.0
"""Pause between requests to a host of the web where nothing else is said."""
Source = Literal["embedded", "web", "files"]
NO_DATE = "1970-01-01T00:00:00Z"
"""``as_of`` of files, where only contents count."""


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
    max_pages_per_host: int = Field(
        default=10_000_000, ge=1, le=10_000_000, description="of them, from one host"
    )
    max_barren: int = Field(
        default=20,
        ge=1,
        le=10**6,
        description="pages with addresses of one kind that may bring nothing new, before the kind "
        "counts as a trap",
    )
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
    optouts: OptoutConfig = Field(
        default=OptoutConfig(), description="what owners say of a use for AI, and what follows"
    )
    previous: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="key of the crawl before, whose unchanged pages are not sent again; set by "
        "the run",
    )
    repeats: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="key of an earlier crawl that this one is, without what came onto the "
        "blocklist since, and judged by the opt-out policy of now; set by the run",
    )
    asked_again: str = Field(
        default="",
        pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$",
        description="the moment at which pages are asked for that the repeated crawl left out for "
        "an opt-out and that may now come; set by the run",
    )
    max_failed_share: float = Field(
        default=0.2, ge=0, le=1, description="of the pages asked for; more end the run"
    )
    shards: int = Field(default=8, ge=1, le=10_000, description="WARC files to spread pages over")

    @field_validator("seeds")
    @classmethod
    def _addresses(cls, seeds: list[str]) -> list[str]:
        for seed in seeds:
            if problem := why_no_address(seed):
                raise ValueError(problem)
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

    @property
    def web_hosts(self) -> set[str]:
        """Hosts that a web crawl may enter."""
        seeds = (normalise(seed) for seed in self.seeds)
        return {host_of(seed) for seed in seeds if seed} | {host.lower() for host in self.hosts}


def scrape(config: ScrapeConfig, work: Workdir) -> Pages:
    """Fetch all pages into WARC shards, with their index (``index.cdxj``) and a ledger of every
    address that came up (``ledger.parquet``).

    Raises:
        DataError: no page came, or a file cannot be read.
        TransientError: a seed cannot be reached, or too many pages failed.
    """
    date = config.as_of or NO_DATE
    if config.repeats:
        return _repeat(config, work)
    ledger: dict[str, Entry] = {}
    if config.source == "files":
        kept = write_shards(work.folder, _from_files(config, work, ledger), config.shards, date)
        judge_share(ledger, config.max_failed_share)
    else:
        with Spool(work.scratch / "crawl.sqlite") as spool:
            _tell_of_earlier_try(work, spool)
            earlier = Earlier(work.root / "sealed" / config.previous) if config.previous else None
            ledger = dict(_crawl(config, work, spool, earlier))
            _judge(config, ledger, spool)
            pages = _from_spool(config, spool, ledger, earlier)
            kept = write_shards(work.folder, pages, config.shards, date)
    if not kept:
        raise DataError(f"no page came from {_named(config)}: {_first_reason(ledger)}")
    write_ledger(work.folder, ledger, date)
    write_index(work.folder)
    return work.seal(Pages, stats={"pages": kept, **_counts(ledger)})


def _repeat(config: ScrapeConfig, work: Workdir) -> Pages:
    """An earlier crawl as it is judged now; only what was left out then is fetched."""
    source = work.root / "sealed" / config.repeats
    before = EarlierCrawl(source, Blocklist(config.blocklist), config.optouts)
    if not before.due:
        ledger = before.entries()
        stats = before.write(work.folder, ledger, config.as_of, lambda urls: [])
        return work.seal(Pages, stats=stats)
    date = config.asked_again or config.as_of
    with Spool(work.scratch / "crawl.sqlite") as spool:
        _tell_of_earlier_try(work, spool)
        ledger = dict(_crawl(config, work, spool, None, before))
        _judge(config, ledger, spool)

        def pages(urls: list[str]) -> Iterator[WebPage]:
            return _from_spool(config, spool, {url: ledger[url] for url in urls}, None)

        stats = before.write(work.folder, ledger, date, pages)
    return work.seal(Pages, stats=stats)


def _tell_of_earlier_try(work: Workdir, spool: Spool) -> None:
    if len(spool):
        work.progress.resume(f"after {len(spool)} answers")


def _counts(ledger: Mapping[str, Entry]) -> dict[str, float]:
    entries = list(ledger.values())
    return {
        "bytes": sum(entry.bytes for entry in entries if not entry.reason),
        "failed": sum(entry.failed and bool(entry.reason) for entry in entries),
        "left_out": sum(bool(entry.reason) and not entry.failed for entry in entries),
        "opted_out": sum(entry.reason.startswith(OPTED_OUT) for entry in entries),
        "unchanged": sum(entry.change == "same" for entry in entries),
        "gone": sum(entry.change == "gone" for entry in entries),
        "kept": sum(entry.change == "kept" for entry in entries),
    }


@dataclass(frozen=True)
class _Target:
    """Where a crawl starts and what it may enter."""

    seeds: list[str]
    hosts: set[str]
    known: dict[Address, Address]
    delay_seconds: float


def _crawl(
    config: ScrapeConfig,
    work: Workdir,
    spool: Spool,
    earlier: Earlier | None,
    repeated: EarlierCrawl | None = None,
) -> Mapping[str, Entry]:
    with ExitStack() as stack:
        if config.source == "web":
            seeds = [url for seed in config.seeds if (url := normalise(seed)) is not None]
            hosts = config.web_hosts
            target = _Target(seeds, hosts, {}, WEB_DELAY_SECONDS)
        else:
            folder = work.scratch / "site"
            folder.mkdir(exist_ok=True)
            site = stack.enter_context(DocumentationSite(config.embedded, folder=folder))
            target = _Target([site.url], {HOST}, {(HOST, 80): site.address}, 0.0)
        run = _Run(config, target, work, spool, earlier, repeated)
        ledger = asyncio.run(run.crawl())
        if config.source == "embedded":
            for module, reason in site.skipped().items():
                entry = ledger.get(f"{site.url}{module}.html")
                if entry is not None and entry.failed:
                    entry.reason = f"{entry.reason}: {reason}"
    return ledger


@dataclass(frozen=True)
class _Run:
    """One crawl, with all that it rests on."""

    config: ScrapeConfig
    target: _Target
    work: Workdir
    spool: Spool
    earlier: Earlier | None
    repeated: EarlierCrawl | None

    async def crawl(self) -> Mapping[str, Entry]:
        """The ledger by URL."""
        config = self.config
        limits = Limits(
            config.max_bytes, config.connect_seconds, config.read_seconds, config.page_seconds
        )
        fetcher = Fetcher(
            config.user_agent,
            limits,
            known=self.target.known,
            allow_private=config.allow_private,
        )
        async with fetcher:
            asker = Asker(fetcher, self.spool, self._manners(), self.earlier)
            crawl = Crawl(asker, self.target.hosts, self.work.progress)
            seeds, repeated = self.target.seeds, self.repeated
            if repeated is None:
                return await crawl.run(seeds)
            due = [Visit(url, at, (), url in seeds) for url, at in sorted(repeated.due.items())]
            return await crawl.go_on(repeated.entries(), due)

    def _manners(self) -> Manners:
        config, delay = self.config, self.config.delay_seconds
        return Manners(
            agent=_robot(config),
            max_pages=config.max_pages,
            max_pages_per_host=config.max_pages_per_host,
            max_depth=config.max_depth,
            max_redirects=config.max_redirects,
            max_barren=config.max_barren,
            concurrency=config.concurrency,
            delay_seconds=self.target.delay_seconds if delay is None else delay,
            retries=config.retries,
            backoff_seconds=config.backoff_seconds,
            blocklist=Blocklist(config.blocklist),
            optouts=config.optouts,
        )


def _robot(config: ScrapeConfig) -> str:
    """The name that robots.txt knows us by: a user agent's product token (RFC 9309)."""
    return config.user_agent.split()[0].partition("/")[0]


def _judge(config: ScrapeConfig, ledger: Mapping[str, Entry], spool: Spool) -> None:
    """Give up on a crawl that went badly; the next try asks again for what may come then."""
    seeds = [normalise(seed) or seed for seed in config.seeds] if config.source == "web" else []
    try:
        judge_seeds(seeds, ledger)
        judge_share(ledger, config.max_failed_share)
    except MillError:
        spool.forget_transient()
        raise


def _from_spool(
    config: ScrapeConfig, spool: Spool, ledger: Mapping[str, Entry], earlier: Earlier | None
) -> Iterator[WebPage]:
    for url in sorted(ledger):
        entry, answer = ledger[url], spool.get(url)
        if entry.reason or answer is None:
            continue
        headers = tuple(sorted(answer.headers.items()))
        sent = request_headers(config.user_agent, earlier.conditions(url) if earlier else {})
        request, date, revisit = tuple(sent.items()), "", None
        if answer.carried is not None:
            date, then = answer.carried.date, answer.carried.profile
            # No answer, no revisit: of a page that is kept, the archive holds what came then.
            revisit, request = (Revisit(then, headers), request) if then else (None, ())
            headers = tuple(sorted(answer.carried.headers.items()))
        kind = dict(headers).get("content-type", "")
        body = spool.body(url)
        yield WebPage(url, body, kind, entry.digest, headers, date, request, revisit)


def _from_files(config: ScrapeConfig, work: Workdir, ledger: dict[str, Entry]) -> Iterator[WebPage]:
    """Pages as they are read; enters each into ``ledger``."""
    digests = config.digests or digest_files(config.files, config.folder)
    blocklist = Blocklist(config.blocklist)
    revisits, agent = Revisits(work.scratch), _robot(config)
    sites = read_sites(find_archives(config.files, config.folder), revisits.expect)
    for found in pages_of_files(config.files, digests, config.max_bytes, revisits, config.folder):
        if blocklist.covers(found.url):
            ledger[found.url] = Entry(found.url, reason=BLOCKED)
        elif isinstance(found, Entry):
            ledger.setdefault(found.url, found)  # what is said of a page that came is no matter
        elif found.url in ledger and ledger[found.url].digest == found.digest:
            continue  # the same page twice
        else:
            entry = Entry(found.url, 200, "", len(found.body), found.digest)
            site = sites.get(origin(found.url))
            said = site.of(found.url, agent, config.optouts.agents) if site is not None else []
            entry.optouts = weigh([*said, *signals_of(found, config.optouts)])
            if config.optouts.policy == "honour":
                entry.reason = refusal(entry.optouts)
            ledger[found.url] = entry
            if not entry.reason:
                yield found


def _named(config: ScrapeConfig) -> str:
    given = config.files if config.source == "files" else config.seeds
    return ", ".join(given[:3]) if given else "the embedded site"


def _first_reason(ledger: Mapping[str, Entry]) -> str:
    """What failed says more than a redirect that led to it."""
    told = sorted((e for e in ledger.values() if e.reason), key=lambda entry: not entry.failed)
    return next((f"{e.url}: {e.reason}" for e in told), "nothing was found")
