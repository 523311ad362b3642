"""Politeness of a crawl: pauses, retries, Retry-After, sitemaps, robots rules."""

from __future__ import annotations

import asyncio
import gzip
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from components.collect.crawl import host_rate_limiter
from components.collect.crawl.host_rate_limiter import HostRateLimiter
from components.collect.scrape import scrape
from components.collect.sitemaps import sitemap_file
from components.collect.web.http_fetcher import FetchLimits, FetchResult, HttpFetcher
from components.collect.web.robots_directives import directives_for, join_robots_headers
from components.core.store.workdir import Workdir
from tests.collect.conftest import Web, serving
from tests.collect.crawling import LONG, TEXT, asked, config, ledger, words


class Clock:
    """Stands still but for the pauses of a crawl, which take no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(host_rate_limiter, "monotonic", found.read)
    monkeypatch.setattr(host_rate_limiter, "sleep", found.sleep)
    return found


def refused_at_first(web: Any, path: str, status: int, times: int) -> None:
    """The page answers with ``Retry-After: 7`` so many times, then as it should."""
    left = [status] * times

    def busy(handler: BaseHTTPRequestHandler) -> None:
        body = b"" if left else words("busy").encode()
        handler.send_response(left.pop() if left else 200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(body)))
        if not body:
            handler.send_header("Retry-After", "7")
        handler.end_headers()
        handler.wfile.write(body)

    web.pages[path] = busy


@pytest.mark.parametrize("status", [429, 503])
def test_failures_are_tried_again_as_the_server_asks(
    work: Workdir, web: Any, clock: Clock, status: int
) -> None:
    refused_at_first(web, "/", status, 2)
    pages = scrape(config(web, retries=3), work)
    assert ledger(work, pages)[""]["status"] == 200
    assert asked(web) == ["/", "/", "/"]
    assert [pause for pause in clock.pauses if pause > 1] == [7.0, 7.0]


def test_retry_after_holds_for_the_whole_host(work: Workdir, web: Any, clock: Clock) -> None:
    web.pages["/"] = "".join(f'<a href="/{number}">x</a>' for number in range(3))
    web.pages |= {f"/{number}": words("abc"[number]) for number in range(3)}
    refused_at_first(web, "/0", 429, 1)
    moments: list[tuple[str, float]] = []
    web.noticed = lambda path: moments.append((path, clock.now))
    pages = scrape(config(web, retries=1, concurrency=1), work)
    assert pages.stats["pages"] == 4
    at = dict(reversed(moments))  # of a page asked for twice, the first time
    assert at["/1"] - at["/0"] >= 7  # it was not /1 that was refused
    assert len([path for path, _ in moments if path == "/0"]) == 2


def test_pace_of_a_host(work: Workdir, web: Any, clock: Clock) -> None:
    rules = b"User-agent: *\nCrawl-delay: 20\n"
    web.pages |= {f"/{number}": words("abcd"[number]) for number in range(4)}
    web.pages["/robots.txt"] = (200, TEXT, rules)
    web.pages["/"] = "".join(f'<a href="/{number}">x</a>' for number in range(4))
    scrape(config(web), work)
    assert len(asked(web)) == 5
    # All but robots.txt itself, and the first request after it.
    assert clock.pauses == [20.0] * (len(web.requests) - 2)


def test_a_request_rate_is_a_pace_too(work: Workdir, web: Any, clock: Clock) -> None:
    rules = b"User-agent: *\nRequest-rate: 1/30s\n"
    web.pages |= {"/robots.txt": (200, TEXT, rules), "/": LONG}
    scrape(config(web), work)
    assert set(clock.pauses) == {30.0}


def test_a_host_that_wants_to_be_left_alone_is_asked_no_more(work: Workdir, web: Any) -> None:
    web.pages |= {f"/{n}": (503, {"Retry-After": "9000"}, b"") for n in range(5)}
    web.pages["/"] = "".join(f'<a href="/{n}">x</a>' for n in range(5)) + LONG
    pages = scrape(config(web, retries=5, concurrency=1), work)
    assert asked(web) == ["/", "/0"]
    rows = ledger(work, pages)
    assert rows["0"]["reason"] == ("HTTP 503, and its host asks to be left alone for 9000 s")
    assert rows["4"]["reason"] == "its host asks to be left alone for 9000 s"


def test_a_host_in_trouble_is_asked_slower_and_then_faster_again(clock: Clock) -> None:
    gate = HostRateLimiter(asyncio.Semaphore(1), 0.0, 0.5)
    later = clock.now + 3600
    gate.record_refusal(0.0, None)
    assert gate.penalty_seconds == 0.5
    gate.record_refusal(0.0, None)  # it was under way together with the first
    assert gate.penalty_seconds == 0.5
    gate.record_refusal(later, None)
    assert gate.penalty_seconds == 1.0
    for _ in range(12):
        gate.record_refusal(later, None)
    assert gate.penalty_seconds == 120.0
    seen = []
    while gate.penalty_seconds:
        gate.record_success()
        seen.append(gate.penalty_seconds)
    assert seen == sorted(seen, reverse=True)
    assert not gate.closed_reason


def test_a_crawl_delay_without_end_leaves_the_site_alone(work: Workdir, web: Any) -> None:
    rules = b"User-agent: *\nCrawl-delay: 86400\n"
    web.pages |= {"/robots.txt": (200, TEXT, rules), "/": LONG}
    with pytest.raises(Exception, match=r"robots\.txt asks for more than 120 s between requests"):
        scrape(config(web), work)
    assert asked(web) == []


def test_sitemap_index_with_gzipped_lists(work: Workdir, web: Any) -> None:
    def listed(*paths: str) -> bytes:
        places = "".join(f"<url><loc> {web.url}{path} </loc></url>" for path in paths)
        return f'<?xml version="1.0"?><urlset>{places}</urlset>'.encode()

    index = "".join(
        f"<sitemap><loc>{place}</loc></sitemap>"
        for place in (
            f"{web.url}/maps/a.xml.gz",
            f"{web.url}/maps/b.xml",
            f"{web.url}/maps/bomb.xml.gz",
            f"{web.url}/maps/broken.xml.gz",
            "http://elsewhere.example/c.xml",
            f"{web.url}/maps/index.xml",  # itself
        )
    )
    web.pages |= {
        "/robots.txt": (200, TEXT, f"Sitemap: {web.url}/maps/index.xml\n".encode()),
        "/": words("home"),
        "/maps/index.xml": (200, {}, f"<sitemapindex>{index}</sitemapindex>".encode()),
        "/maps/a.xml.gz": (200, {}, gzip.compress(listed("/one", "/two?a=1&amp;b=2"))),
        "/maps/b.xml": (302, {"Location": "/maps/moved.txt"}, b""),
        "/maps/moved.txt": (200, TEXT, f"{web.url}/three\nnonsense\n".encode()),
        "/maps/bomb.xml.gz": (200, {}, gzip.compress(b" " * 60_000_000, 9)),
        "/maps/broken.xml.gz": (200, {}, b"\x1f\x8bnothing"),
        "/one": words("one"),
        "/two?a=1&b=2": words("two"),
        "/three": words("three"),
    }
    pages = scrape(config(web), work)
    rows = ledger(work, pages)
    unread = {"maps/bomb.xml.gz", "maps/broken.xml.gz"}
    assert set(rows) == {"", "one", "two?a=1&b=2", "three"} | unread
    assert all("a sitemap that is not read" in rows[path]["reason"] for path in unread)
    assert pages.stats["pages"] == 4


def test_a_sitemap_that_is_linked_to_is_no_page(work: Workdir, web: Any) -> None:
    listed = f"<urlset><url><loc>{web.url}/one</loc></url></urlset>".encode()
    web.pages |= {
        "/": '<a href="/sitemap.xml">map</a>' + LONG,
        "/sitemap.xml": (200, {"Content-Type": "application/xml"}, listed),
        "/one": words("one"),
    }
    rows = ledger(work, scrape(config(web), work))
    assert rows["sitemap.xml"]["reason"] == "no page: application/xml"
    assert rows["one"]["reason"] == ""


def test_a_group_of_our_own_stands_before_everyones(work: Workdir, web: Any) -> None:
    rules = b"User-agent: *\nDisallow: /all\n\nUser-agent: ModelMill/2.0\nDisallow: /own\nAllow: /own/yes\n"
    links = "".join(f'<a href="{path}">x</a>' for path in ("/all", "/own/no", "/own/yes"))
    web.pages |= {"/robots.txt": (200, TEXT, rules), "/": links + LONG}
    web.pages |= {"/all": words("all"), "/own/no": words("no"), "/own/yes": words("yes")}
    rows = ledger(work, scrape(config(web, user_agent="modelmill/1.0 (+https://a.example)"), work))
    kept = {name for name, row in rows.items() if not row["reason"]}
    assert kept == {"", "all", "own/yes"}
    assert rows["own/no"]["reason"] == "robots.txt forbids it"
    assert web.headers["/all"]["user-agent"] == "modelmill/1.0 (+https://a.example)"


def test_a_long_robots_file_counts_as_far_as_it_is_read(work: Workdir, web: Any) -> None:
    rules = b"User-agent: *\nDisallow: /no\n" + b"# filler\n" * 200_000
    web.pages |= {"/robots.txt": (200, TEXT, rules), "/": '<a href="/no">n</a>' + LONG}
    rows = ledger(work, scrape(config(web, max_bytes=10_000), work))
    assert rows["no"]["reason"] == "robots.txt forbids it"
    assert rows[""]["reason"] == ""


@pytest.mark.parametrize(
    ("lines", "ours"),
    [
        (["noindex"], {"noindex"}),
        (["otherbot: noindex, nofollow"], set()),
        (["modelmill: noindex", "nofollow"], {"noindex", "nofollow"}),
        (["otherbot: noindex", "nofollow"], {"nofollow"}),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], {"noai"}),
        (["max-snippet: -1, NoArchive"], {"noarchive"}),
        ([""], set()),
    ],
)
def test_directives_address_one_robot_or_all(lines: list[str], ours: set[str]) -> None:
    found = directives_for(join_robots_headers(lines), {"modelmill"})
    assert {d for d in found if ":" not in d} == ours


def test_directives_for_another_robot_are_not_ours(work: Workdir, web: Any) -> None:
    page = '<meta name="googlebot" content="noindex"><a href="/b">b</a>' + words("a")
    tag = {"Content-Type": "text/html", "X-Robots-Tag": "otherbot: noindex, nofollow"}
    web.pages |= {"/": (200, tag, page.encode()), "/b": words("b")}
    rows = ledger(work, scrape(config(web), work))
    assert rows[""]["reason"] == rows["b"]["reason"] == ""


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("Wed, 21 Oct 2099 07:28:00 GMT", 10**9, 10**10),
        ("Wed, 21 Oct 1999 07:28:00 GMT", 0, 0),
        ("30", 30, 30),
    ],
)
def test_retry_after_may_be_a_date(web: Any, value: str, least: float, most: float) -> None:
    web.pages["/"] = (503, {"Retry-After": value}, b"")

    async def ask() -> FetchResult:
        limits = FetchLimits(1000, 5, 5, 5)
        async with HttpFetcher("modelmill", limits, allow_private=True) as fetcher:
            return await fetcher.fetch_url(f"{web.url}/")

    asked_for = asyncio.run(ask()).wait_seconds
    assert asked_for is not None
    assert least <= asked_for <= most


def test_a_sitemap_that_is_a_bomb_counts_as_far_as_it_is_read(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitemap_file, "MAX_SITEMAP_BYTES", 5000)
    first = f"<urlset><url><loc>{web.url}/listed</loc></url>".encode()
    bomb = first + b" " * 1_000_000 + f"<url><loc>{web.url}/behind</loc></url>".encode()
    web.pages |= {
        "/robots.txt": (200, TEXT, f"Sitemap: {web.url}/s.xml.gz\n".encode()),
        "/s.xml.gz": (200, {}, gzip.compress(bomb)),
        "/": LONG,
        "/listed": words("listed"),
        "/behind": words("behind"),
    }
    scrape(config(web), work)
    assert set(asked(web)) == {"/", "/s.xml.gz", "/listed"}


def test_two_ports_of_a_host_are_two_servers(work: Workdir, web: Any, clock: Clock) -> None:
    """One asks for pauses, the other does not: neither waits for the other."""
    with serving(Web()) as other:
        links = "".join(f'<a href="/{number}">x</a>' for number in range(4))
        for site in (web, other):
            site.pages |= {"/": links + words("home")}
            site.pages |= {f"/{number}": words("abcd"[number]) for number in range(4)}
        web.pages["/robots.txt"] = (200, TEXT, b"User-agent: *\nCrawl-delay: 20\n")
        scrape(config(web, seeds=[f"{web.url}/", f"{other.url}/"]), work)
        assert len(asked(web)) == len(asked(other)) == 5
        assert clock.pauses == [20.0] * (len(web.requests) - 2)
