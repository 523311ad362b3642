"""Crawls of the loopback site killed at random moments (kill -9) and resumed.

A kill falls on a request, drawn among all that an unbroken crawl makes, or on a moment after the
last one, when archives, index and ledger are written. As a program this module is the crawl that is
killed: STORE, URL -> the digest of its pages.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.crawl.loopback_site import LoopbackSite
from benchmarks.peer_programs import ROOT, bench_environment
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import read_pages
from components.core.store.artifact import MANIFEST_FILE, Lineage
from components.core.store.workdir import Workdir

KILLS = 50
CONCURRENCY = 8
_LAST_SECONDS = 0.3
"""Time in which a crawl writes what it has fetched; a kill behind the last request falls here."""
_LATE_SHARE = 0.15
"""Share of kills behind the last request."""
_KEY = "crawl"
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class CrawlOutcome:
    """Outcome of one crawl, killed and resumed or unbroken."""

    digest: str
    requests: Counter[str]
    """Path -> times it was asked for."""
    pages: list[str]
    """URL of each record of a page in the archives."""
    ledger: list[str]
    """URL of each line of the ledger."""

    @property
    def repeated_entries(self) -> int:
        """Pages stored twice, and addresses with two lines."""
        return sum(len(urls) - len(set(urls)) for urls in (self.pages, self.ledger))

    @property
    def repeated_requests(self) -> int:
        """Requests for a path that had been asked for."""
        return self.requests.total() - len(self.requests)


def measure_killed_crawls(setting: BenchSetting) -> list[BenchFigure]:
    """Differing results, repeated entries and repeated requests over all kills."""
    with LoopbackSite() as site:
        unbroken = run_crawl(site, setting.scratch / "unbroken")
        draw = random.Random(15)  # noqa: S311 - must repeat
        killed = []
        for number in range(KILLS):
            last = unbroken.requests.total()
            is_late = draw.random() < _LATE_SHARE
            at_request = last if is_late else draw.randint(1, last)
            pause = draw.uniform(0, _LAST_SECONDS) if is_late else 0.0
            store = setting.scratch / str(number)
            killed.append(run_crawl(site, store, at_request, pause))
            setting.on_progress(f"killed at request {at_request} of {last}")
    differing = sum(outcome.digest != unbroken.digest for outcome in killed)
    repeated = sum(outcome.repeated_entries for outcome in [unbroken, *killed])
    requests = max(o.repeated_requests - unbroken.repeated_requests for o in killed)
    name = f"crawl killed at {KILLS} random moments"
    size = f"of {len(unbroken.pages)} pages, {len(unbroken.ledger)} addresses"
    return [
        BenchFigure.against_target(f"{name}: other pages", differing, "crawls", 0, note=size),
        BenchFigure.against_target(
            f"{name}: pages stored twice, addresses with two lines", repeated, "", 0
        ),
        BenchFigure.against_target(
            f"{name}: requests made again, at most ({CONCURRENCY} at a time)",
            requests,
            "",
            CONCURRENCY,
        ),
    ]


def run_crawl(
    site: LoopbackSite, store: Path, kill_at: int = 0, pause: float = 0.0
) -> CrawlOutcome:
    """Crawl the site, killed at one request and resumed; outcome of both tries together.

    Args:
        site: The site.
        store: Root of the crawl's store.
        kill_at: Number of the request at which the first try is killed; 0 for an unbroken crawl.
        pause: Seconds from that request to the kill.

    Raises:
        subprocess.CalledProcessError: the crawl failed.
        subprocess.TimeoutExpired: it came to no end.
    """
    site.requests.clear()
    if kill_at:
        with _start_crawl(site, store) as process:

            def kill_in_time() -> None:
                if len(site.requests) == kill_at and not pause:
                    process.send_signal(signal.SIGKILL)

            site.on_request = kill_in_time
            while process.poll() is None and len(site.requests) < kill_at:
                _wait(process, 0.01)
            _wait(process, pause)
            process.kill()
            process.wait()
    site.on_request = lambda: None
    with _start_crawl(site, store) as process:
        output, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "crawl", output)
    sealed = store / "sealed" / _KEY
    pages = [page.url for shard in sorted(sealed.glob("*.warc.gz")) for page in read_pages(shard)]
    ledger = pq.ParquetFile(sealed / "ledger.parquet").read(columns=["url"])
    digest = output.strip().splitlines()[-1]
    return CrawlOutcome(digest, Counter(site.requests), pages, ledger["url"].to_pylist())


def _start_crawl(site: LoopbackSite, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __spec__.name, str(store), site.url]
    return subprocess.Popen(
        command, cwd=ROOT, env=bench_environment(), stdout=subprocess.PIPE, text=True
    )


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait so long, or until the process ends."""
    if seconds:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return


def main(store: Path, url: str) -> None:
    """Crawl the site at ``url`` and print the digest of its pages."""
    config = ScrapeConfig(
        as_of="2026-11-01T00:00:00Z",
        seeds=[f"{url}/"],
        allow_private=True,
        delay_seconds=0,
        concurrency=CONCURRENCY,
        retries=0,
        max_depth=1_000,
        max_failed_share=1,
        shards=4,
    )
    manifest = store / "sealed" / _KEY / MANIFEST_FILE
    if manifest.exists():  # the kill came when all was done
        print(json.loads(manifest.read_bytes())["artifact"]["digest"])
        return
    work = Workdir(store, _KEY, Lineage(component="crawl", code="", config=""))
    print(scrape(config, work).digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
