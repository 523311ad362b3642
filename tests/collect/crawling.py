"""Helpers for tests of a crawl: a config for the loopback site, and readers of its outputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import WebPage, read_pages
from components.core.store.artifact import Pages
from components.core.store.workdir import Workdir

NOW = "2026-11-01T00:00:00Z"
SITE_FILES = ("/robots.txt", "/sitemap.xml", "/.well-known/tdmrep.json", "/ai.txt")
LONG = "<p>" + "Some words that say something. " * 20 + "</p>"
Crawl = Callable[..., tuple[Workdir, Pages]]
"""The fixture ``crawl``: (config, key) -> where it lies, and its pages."""
TEXT = {"Content-Type": "text/plain"}


def config(web: Any, **fields: Any) -> ScrapeConfig:
    """A crawl of the test's site, quick to give up."""
    values = {
        "as_of": NOW,
        "seeds": [f"{web.url}/"],
        "allow_private": True,
        "delay_seconds": 0,
        "retries": 0,
        "backoff_seconds": 0.01,
        "max_failed_share": 1,
        "shards": 2,
    }
    return ScrapeConfig(**{**values, **fields})


def ledger(work: Workdir, pages: Pages) -> dict[str, dict[str, Any]]:
    """Rows of the fetch ledger by path, of addresses that the crawl met."""
    rows = [row for row in ledger_rows(work, pages) if not row["unasked"]]
    return {row["url"].partition("://")[2].partition("/")[2]: row for row in rows}


def unasked(work: Workdir, pages: Pages) -> dict[str, dict[str, Any]]:
    """Rows of the fetch ledger by address, of those that were not asked for."""
    return {row["url"]: row for row in ledger_rows(work, pages) if row["unasked"]}


def ledger_rows(work: Workdir, pages: Pages) -> list[dict[str, Any]]:
    """All rows of the fetch ledger: sorted, and one an address."""
    table = pq.ParquetFile(work.artifact_folder(pages) / "ledger.parquet").read()
    rows: list[dict[str, Any]] = table.to_pylist()
    urls = [row["url"] for row in rows]
    assert urls == sorted(set(urls))
    return rows


def stored(work: Workdir, pages: Pages) -> dict[str, WebPage]:
    """Pages of the WARC shards by URL."""
    shards = sorted(work.artifact_folder(pages).glob("*.warc.gz"))
    return {page.url: page for shard in shards for page in read_pages(shard)}


def fresh(tmp_path: Path, name: str) -> Workdir:
    return Workdir.temporary(tmp_path / name)


def words(text: str) -> str:
    """A page of its own: ``text`` and enough else."""
    return f"<p>{text}</p>{LONG}"


def asked(web: Any) -> list[str]:
    """Paths of pages that were asked for, in order."""
    return [path for path in web.requests if path not in SITE_FILES]


_CRAWL = """
import sys
from pathlib import Path
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.store.artifact import Lineage
from components.core.store.workdir import Workdir
work = Workdir(Path(sys.argv[1]), sys.argv[3], Lineage(component="c", code="", config=""))
print(scrape(ScrapeConfig.model_validate_json(sys.argv[2]), work).digest)
"""


def start_crawl(store: Path, crawl: ScrapeConfig, key: str = "key") -> subprocess.Popen[str]:
    """A crawl in a process of its own, which can be killed; it prints its digest."""
    arguments = [str(store), crawl.model_dump_json(), key]
    return subprocess.Popen(
        [sys.executable, "-c", _CRAWL, *arguments], stdout=subprocess.PIPE, text=True
    )
