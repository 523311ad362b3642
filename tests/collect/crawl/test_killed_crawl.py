"""kill -9 at any moment: the same pages, none that was stored twice, the same bytes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curate.crawl.killed_crawls import CONCURRENCY, run_crawl
from benchmarks.curate.crawl.loopback_site import LISTED_PAGES, LoopbackSite
from benchmarks.curate.crawl.loopback_site import PAGES as SITE_PAGES
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.scrape_config import ScrapeConfig
from tests.collect.crawling import LONG, NOW, asked, config, start_crawl

PAGES = [f"/page{number}" for number in range(40)]


@pytest.fixture
def served(web: Any) -> threading.Semaphore:
    """A chain of pages of which each names the next three; a token for each that was sent."""
    sent = threading.Semaphore(0)

    def page(handler: BaseHTTPRequestHandler) -> None:
        number = int(handler.path.removeprefix("/page"))
        links = "".join(f'<a href="{path}">x</a>' for path in PAGES[number + 1 :][:3])
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        body = f"{links}<p>{letters}{letters}</p>{LONG}".encode()
        tag = f'"{number}"'
        if handler.headers.get("If-None-Match") == tag:
            handler.wfile.write(b"HTTP/1.1 304 Not Modified\r\nETag: %s\r\n\r\n" % tag.encode())
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: %s\r\n" % tag.encode()
            handler.wfile.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        sent.release()

    web.pages |= dict.fromkeys(PAGES, page)
    web.pages["/"] = '<a href="/page0">x</a>'
    return sent


def kill_after(process: Any, pages: int, served: threading.Semaphore) -> None:
    """kill -9 as soon as so many further pages were sent."""
    for _ in range(pages):
        assert served.acquire(timeout=30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while served.acquire(blocking=False):
        pass


def test_killed_again_and_again(tmp_path: Path, web: Any, served: threading.Semaphore) -> None:
    crawl = config(web, concurrency=1, max_depth=100)
    kills = [0, 1, 2, 5, 11]
    for pages in kills:
        kill_after(start_crawl(tmp_path / "killed", crawl), pages, served)
    resumed, _ = start_crawl(tmp_path / "killed", crawl).communicate(timeout=60)
    times = Counter(asked(web))
    assert set(times) == {"/", *PAGES}
    # Twice came only what was under way at a kill, sent and not yet stored: one at a time.
    assert sum(times.values()) - len(times) <= len(kills)
    unbroken, _ = start_crawl(tmp_path / "unbroken", crawl).communicate(timeout=60)
    assert resumed == unbroken != ""


def test_killed_when_all_is_fetched(tmp_path: Path, web: Any, served: threading.Semaphore) -> None:
    """Whatever it was at, writing shards, the index or sealing, nothing is asked again."""
    crawl = config(web, concurrency=1, max_depth=100)
    unbroken, _ = start_crawl(tmp_path / "unbroken", crawl).communicate(timeout=60)
    while served.acquire(blocking=False):
        pass
    for number, pause in enumerate((0.0, 0.01, 0.02, 0.04, 0.06)):
        store = tmp_path / f"killed{number}"
        process = start_crawl(store, crawl)
        for _ in PAGES:
            assert served.acquire(timeout=30)
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        web.requests.clear()
        if (store / "sealed/key").exists():
            continue  # it was done
        resumed, _ = start_crawl(store, crawl).communicate(timeout=60)
        assert resumed == unbroken != ""
        assert set(asked(web)) <= {PAGES[-1]}  # sent, and maybe not yet stored
        while served.acquire(blocking=False):
            pass


def test_killed_recrawl(tmp_path: Path, web: Any, served: threading.Semaphore) -> None:
    first, second, third = "1" * 64, "2" * 64, "3" * 64
    crawl = config(web, concurrency=1, max_depth=100)
    start_crawl(tmp_path, crawl, first).communicate(timeout=60)
    again = crawl.model_copy(update={"as_of": "2026-12-01T00:00:00Z", "previous": first})
    while served.acquire(blocking=False):
        pass
    web.requests.clear()
    kill_after(start_crawl(tmp_path, again, second), 7, served)
    resumed, _ = start_crawl(tmp_path, again, second).communicate(timeout=60)
    times = Counter(asked(web))
    assert set(times) == {"/", *PAGES}
    assert sum(times.values()) - len(times) <= 1
    unbroken, _ = start_crawl(tmp_path, again, third).communicate(timeout=60)
    assert resumed == unbroken != ""


def test_killed_among_redirects_sitemaps_cookies_and_traps(tmp_path: Path) -> None:
    """The site of ``modelmill bench curate --only crawl``, which kills it at 50 moments."""
    with LoopbackSite() as site:
        unbroken = run_crawl(site, tmp_path / "unbroken")
        paths = {url.partition("://")[2].partition("/")[2] for url in unbroken.pages}
        assert {f"page/{number}" for number in range(1, SITE_PAGES + 1)} <= paths
        assert {f"listed/{number}" for number in range(LISTED_PAGES)} <= paths
        assert len({path.partition("?")[0] for path in paths if path.startswith("shop/")}) == 20
        assert unbroken.repeated_entries == 0
        for at_request in (unbroken.requests.total() // 2, unbroken.requests.total()):
            killed = run_crawl(site, tmp_path / str(at_request), at_request)
            assert killed.digest == unbroken.digest
            assert killed.repeated_entries == 0
            repeated = killed.repeated_requests - unbroken.repeated_requests
            assert repeated <= CONCURRENCY


def test_a_killed_stage_leaves_no_renderer_behind(tmp_path: Path) -> None:
    site = ScrapeConfig(as_of=NOW, embedded=SiteConfig(packages=["stdlib"]))
    process = start_crawl(tmp_path, site)
    deadline = time.monotonic() + 30
    while not (children := _children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    process.kill()
    process.wait()
    while any(map(_is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, children))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
