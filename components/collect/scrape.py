"""Scrape stage, the source of every run: crawls the web or the embedded site, or reads files.

``scrape`` is a pure stage because its config fixes its input: ``resolve_crawl`` writes the moment
of the crawl (``as_of``) or the files' digests into it, so that a second run of the same config
finds the first one's pages and a nightly one crawls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from components.collect.crawl.crawl_budget import PolitenessPolicy
from components.collect.crawl.crawl_health import check_failed_share, check_seeds
from components.collect.crawl.crawler import Crawler
from components.collect.crawl.fetch_ledger import LedgerEntry, write_ledger
from components.collect.crawl.frontier import Visit
from components.collect.crawl.polite_fetcher import PoliteFetcher
from components.collect.crawl.previous_crawl import PreviousCrawl
from components.collect.crawl.replay_crawl import ReplayedCrawl
from components.collect.crawl.response_store import ResponseStore
from components.collect.docsite.documentation_site import HOST, DocumentationSite
from components.collect.files.collect_files import collect_files
from components.collect.optouts.optout_policy import OPTED_OUT
from components.collect.scrape_config import FILES_DATE, ScrapeConfig
from components.collect.warc.cdxj_index import write_index
from components.collect.warc.page_shards import UnchangedResponse, WebPage, write_shards
from components.collect.web.http_fetcher import HttpFetcher, request_headers
from components.collect.web.ssrf_guard import HostPort
from components.collect.web.transfer.fetch_limits import FetchLimits
from components.collect.web.transfer.request_identity import RequestIdentity
from components.collect.web.urls import normalise_url
from components.core.config.blocklist import Blocklist
from components.core.errors import DataError, MillError
from components.core.store.artifact import Pages
from components.core.store.workdir import Workdir

WEB_DELAY_SECONDS = 1.0
"""Default pause between requests to a host of the web: one request a second burdens no server."""


def scrape(config: ScrapeConfig, work: Workdir) -> Pages:
    """Fetch all pages into WARC shards, with an index and a ledger.

    The index (``index.cdxj``) locates each page; the ledger (``ledger.parquet``) has a row for
    every URL that was met.

    Raises:
        DataError: no page came, or a file cannot be read.
        TransientError: a seed cannot be reached, or too many pages failed.
    """
    date = config.as_of or FILES_DATE
    if config.repeats:
        return _replay_crawl(config, work)
    ledger: dict[str, LedgerEntry] = {}
    if config.source == "files":
        pages = collect_files(config, work.scratch, config.agent_token, ledger)
        page_count = write_shards(work.folder, pages, config.shards, date)
        check_failed_share(ledger, config.max_failed_share)
    else:
        with ResponseStore(work.scratch / "crawl.sqlite") as responses:
            _report_resumed_try(work, responses)
            previous = (
                PreviousCrawl(work.root / "sealed" / config.previous) if config.previous else None
            )
            ledger = dict(_crawl_source(config, work, responses, previous))
            _check_health(config, ledger, responses)
            pages = _fetched_pages(config, responses, ledger, previous)
            page_count = write_shards(work.folder, pages, config.shards, date)
    if not page_count:
        raise DataError(f"no page came from {_describe_source(config)}: {_first_reason(ledger)}")
    write_ledger(work.folder, ledger, date)
    write_index(work.folder)
    return work.seal(Pages, stats={"pages": page_count, **_ledger_counts(ledger)})


def _replay_crawl(config: ScrapeConfig, work: Workdir) -> Pages:
    """Replay an earlier crawl under the present rules, fetching only the pages that are due."""
    source = work.root / "sealed" / config.repeats
    replayed = ReplayedCrawl(source, Blocklist(config.blocked), config.optouts)
    if not replayed.due:
        ledger = replayed.ledger_entries()
        stats = replayed.write_replay(work.folder, ledger, config.as_of, lambda urls: [])
        return work.seal(Pages, stats=stats)
    date = config.asked_again or config.as_of
    with ResponseStore(work.scratch / "crawl.sqlite") as responses:
        _report_resumed_try(work, responses)
        ledger = dict(_crawl_source(config, work, responses, None, replayed))
        _check_health(config, ledger, responses)

        def pages(urls: list[str]) -> Iterator[WebPage]:
            return _fetched_pages(config, responses, {url: ledger[url] for url in urls}, None)

        stats = replayed.write_replay(work.folder, ledger, date, pages)
    return work.seal(Pages, stats=stats)


def _report_resumed_try(work: Workdir, responses: ResponseStore) -> None:
    if len(responses):
        work.progress.note_resumed(f"after {len(responses)} responses")


def _ledger_counts(ledger: Mapping[str, LedgerEntry]) -> dict[str, float]:
    entries = list(ledger.values())
    return {
        "bytes": sum(entry.bytes for entry in entries if not entry.reason),
        "failed": sum(entry.failed and bool(entry.reason) for entry in entries),
        "left_out": sum(
            bool(entry.reason) and not entry.failed and not entry.unasked for entry in entries
        ),
        "unasked": sum(entry.unasked for entry in entries),
        "opted_out": sum(entry.reason.startswith(OPTED_OUT) for entry in entries),
        "unchanged": sum(entry.change == "same" for entry in entries),
        "gone": sum(entry.change == "gone" for entry in entries),
        "kept": sum(entry.change == "kept" for entry in entries),
    }


@dataclass(frozen=True)
class _CrawlScope:
    """Seeds and hosts of a crawl, addresses that need no check, and the default pause."""

    seeds: list[str]
    hosts: set[str]
    trusted: dict[HostPort, HostPort]
    delay_seconds: float


def _crawl_source(
    config: ScrapeConfig,
    work: Workdir,
    responses: ResponseStore,
    previous: PreviousCrawl | None,
    replayed: ReplayedCrawl | None = None,
) -> Mapping[str, LedgerEntry]:
    with ExitStack() as stack:
        if config.source == "web":
            seeds = [url for seed in config.seeds if (url := normalise_url(seed)) is not None]
            hosts = config.web_hosts
            scope = _CrawlScope(seeds, hosts, {}, WEB_DELAY_SECONDS)
        else:
            folder = work.scratch / "site"
            folder.mkdir(exist_ok=True)
            site = stack.enter_context(DocumentationSite(config.embedded, folder=folder))
            scope = _CrawlScope([site.url], {HOST}, {(HOST, 80): site.address}, 0.0)
        run = _CrawlRun(config, scope, work, responses, previous, replayed)
        ledger = asyncio.run(run.build_ledger())
        if config.source == "embedded":
            for module, reason in site.skipped().items():
                entry = ledger.get(f"{site.url}{module}.html")
                if entry is not None and entry.failed:
                    entry.reason = f"{entry.reason}: {reason}"
    return ledger


@dataclass(frozen=True)
class _CrawlRun:
    """One crawl with its dependencies."""

    config: ScrapeConfig
    scope: _CrawlScope
    work: Workdir
    responses: ResponseStore
    previous: PreviousCrawl | None
    replayed: ReplayedCrawl | None

    async def build_ledger(self) -> Mapping[str, LedgerEntry]:
        """Crawl; the ledger by URL."""
        config = self.config
        limits = FetchLimits(
            config.max_bytes, config.connect_seconds, config.read_seconds, config.page_seconds
        )
        fetcher = HttpFetcher(
            config.user_agent,
            limits,
            trusted=self.scope.trusted,
            allow_private=config.allow_private,
            identity=config.request_identity() if config.source == "web" else RequestIdentity(),
        )
        async with fetcher:
            polite = PoliteFetcher(fetcher, self.responses, self._politeness(), self.previous)
            crawler = Crawler(polite, self.scope.hosts, self.work.progress)
            seeds, replayed = self.scope.seeds, self.replayed
            if replayed is None:
                return await crawler.crawl_from_seeds(seeds)
            due = sorted(replayed.due.items())
            visits = [Visit(url, depth, (), url in seeds) for url, depth in due]
            return await crawler.crawl_left_out(replayed.ledger_entries(), visits)

    def _politeness(self) -> PolitenessPolicy:
        config, delay = self.config, self.config.delay_seconds
        return PolitenessPolicy(
            agent=config.agent_token,
            max_pages=config.max_pages,
            max_pages_per_host=config.max_pages_per_host,
            max_depth=config.max_depth,
            max_redirects=config.max_redirects,
            max_barren=config.max_barren,
            concurrency=config.concurrency,
            delay_seconds=self.scope.delay_seconds if delay is None else delay,
            retries=config.retries,
            backoff_seconds=config.backoff_seconds,
            blocklist=Blocklist(config.blocked),
            optout_config=config.optouts,
        )


def _check_health(
    config: ScrapeConfig, ledger: Mapping[str, LedgerEntry], responses: ResponseStore
) -> None:
    """Check a crawl's health; where it fails, the next try repeats transient failures."""
    seeds = [normalise_url(seed) or seed for seed in config.seeds] if config.source == "web" else []
    try:
        check_seeds(seeds, ledger)
        check_failed_share(ledger, config.max_failed_share)
    except MillError:
        responses.forget_transient()
        raise


def _fetched_pages(
    config: ScrapeConfig,
    responses: ResponseStore,
    ledger: Mapping[str, LedgerEntry],
    previous: PreviousCrawl | None,
) -> Iterator[WebPage]:
    for url in sorted(ledger):
        entry, response = ledger[url], responses.load_response(url)
        if entry.reason or response is None:
            continue
        headers = tuple(sorted(response.headers.items()))
        request_fields = request_headers(
            config.user_agent, previous.request_conditions(url) if previous else {}
        )
        request, date, revisit = tuple(request_fields.items()), "", None
        if response.previous_capture is not None:
            date, profile = response.previous_capture.date, response.previous_capture.profile
            # Without a response there is no revisit: the archive holds the earlier capture alone.
            revisit = UnchangedResponse(profile, headers) if profile else None
            request = request if profile else ()
            headers = tuple(sorted(response.previous_capture.headers.items()))
        content_type = dict(headers).get("content-type", "")
        body = responses.load_body(url)
        yield WebPage(url, body, content_type, entry.digest, headers, date, request, revisit)


def _describe_source(config: ScrapeConfig) -> str:
    inputs = config.files if config.source == "files" else config.seeds
    return ", ".join(inputs[:3]) if inputs else "the embedded site"


def _first_reason(ledger: Mapping[str, LedgerEntry]) -> str:
    """First reason in the ledger, failures before all others."""
    entries = sorted(
        (entry for entry in ledger.values() if entry.reason),
        key=lambda entry: (not entry.failed, bool(entry.unasked)),
    )
    return next((f"{e.url}: {e.reason}" for e in entries), "nothing was found")
