"""Shares of web situations that a crawl reads, leaves with a reason or loses, beside other clients.

A situation is read where the word of its page stands in a page that was stored, left where the
ledger has a row with a reason, and lost where there is neither. Scrapy crawls the same site with
its defaults; requests and pycurl fetch each address by itself. Our crawl was written with these
situations in view, the peers were not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.web.further_situations import list_further_situations
from benchmarks.curate.web.http_situations import (
    Situation,
    list_first_situations,
    situation_answers,
)
from benchmarks.curate.web.raw_site import RawSite, open_raw_site
from components.collect.crawl.fetch_ledger import LEDGER_FILE
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import read_pages
from components.collect.web.charset import decode_page
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir

_MAX_BYTES = 1_000_000
CLIENTS = ("requests", "pycurl")


def list_situations() -> list[Situation]:
    """All situations."""
    return [*list_first_situations(), *list_further_situations()]


def measure_web(setting: BenchSetting) -> list[BenchFigure]:
    """Situations with a page: read, left with a reason, lost; and by peers."""
    situations = list_situations()
    readable = [situation for situation in situations if not situation.reason]
    with open_raw_site(situation_answers(situations)) as site:
        setting.on_progress("web: our crawl")
        texts, reasons = crawl_site(setting, site)
        ours = _count_read(readable, texts)
        setting.on_progress("web: peers")
        peers = _read_by_peers(setting, site, situations)
    accounted = [s for s in situations if s.word in "\n".join(texts) or reasons.get(s.target)]
    name = f"web: situations read, of {len(readable)} with a page"
    return [
        BenchFigure.against_target(name, ours, "", len(readable), better="higher"),
        *(
            BenchFigure.beside_peer(name, ours, "", peer, count, True, better="higher")
            for peer, count in peers.items()
        ),
        BenchFigure.against_target(
            f"web: situations read or left with a reason, of {len(situations)}",
            len(accounted),
            "",
            len(situations),
            better="higher",
            note=f"{sum(bool(reasons.get(s.target)) for s in situations)} with a reason",
        ),
    ]


def crawl_site(setting: BenchSetting, site: RawSite) -> tuple[list[str], dict[str, str]]:
    """(texts of the stored pages, reason by target) of our crawl."""
    config = ScrapeConfig(
        as_of="2026-01-01T00:00:00Z",
        seeds=[f"{site.url}/"],
        allow_private=True,
        delay_seconds=0,
        retries=1,
        backoff_seconds=0.01,
        max_bytes=_MAX_BYTES,
        max_failed_share=1,
        shards=1,
    )
    work = Workdir.temporary(setting.scratch)
    folder = work.artifact_folder(scrape(config, work))
    pages = [page for shard in sorted(folder.glob("*.warc.gz")) for page in read_pages(shard)]
    rows = read_shard(folder / LEDGER_FILE, ["url", "reason"]).to_pylist()
    reasons = {row["url"].removeprefix(site.url): row["reason"] for row in rows}
    return [decode_page(page.body, page.content_type) for page in pages], reasons


def _read_by_peers(
    setting: BenchSetting, site: RawSite, situations: list[Situation]
) -> dict[str, int | None]:
    """Readable situations that each peer reads; None for one that is not installed."""
    readable = [situation for situation in situations if not situation.reason]
    addresses = setting.scratch / "urls.json"
    addresses.write_text(json.dumps([f"{site.url}{s.target}" for s in situations]))
    answers = {"Scrapy": setting.run_peer("scrapy_crawl", "scrapy", f"{site.url}/")}
    for client in CLIENTS:
        answers[client] = setting.run_peer("http_clients", client, client, str(addresses))
    return {
        peer: _count_read(readable, answer["texts"]) if answer is not None else None
        for peer, answer in answers.items()
    }


def _count_read(situations: Iterable[Situation], texts: Iterable[str]) -> int:
    whole = "\n".join(texts)
    return sum(situation.word in whole for situation in situations)
