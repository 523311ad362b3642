"""A server that fails in a later crawl: its pages are kept as they were, and the ledger says so."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from components.collect.optouts.optout_policy import OptoutConfig
from components.core.errors import TransientError
from tests.collect.crawl.test_previous_crawl import records
from tests.collect.crawling import NOW, TEXT, Crawl, asked, config, ledger, stored, words

LATER, MUCH_LATER = "2026-11-08T00:00:00Z", "2026-11-15T00:00:00Z"
FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def site(web: Any) -> Any:
    """``/ill`` leads to a page that nothing else leads to."""
    web.pages |= {
        "/": '<a href="/ill">x</a><a href="/gone">x</a><a href="/well">x</a>',
        "/ill": (200, {**HTML, "ETag": '"1"'}, b'<a href="/deep">x</a>' + words("ill").encode()),
        "/deep": words("deep"),
        "/gone": words("gone"),
        "/well": words("well"),
    }
    return web


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((503, {}, b"ill"), "HTTP 503"),
        ((500, {}, b"ill"), "HTTP 500"),
        (silent, "took more than 0.3 s"),
    ],
)
def test_a_page_of_an_ill_server_is_kept(site: Any, crawl: Crawl, reply: Any, reason: str) -> None:
    _, first = crawl(config(site), FIRST)
    assert first.stats["kept"] == 0
    site.pages["/ill"] = reply
    site.pages["/gone"] = (410, {}, b"")
    work, second = crawl(config(site, as_of=LATER, previous=FIRST, page_seconds=0.3), SECOND)
    row = ledger(work, second)["ill"]
    assert (row["reason"], row["change"], row["trouble"]) == ("", "kept", reason)
    assert row["status"] == (reply[0] if isinstance(reply, tuple) else 0)
    page = stored(work, second)[f"{site.url}/ill"]
    assert page.body == site_body("ill")
    assert page.date == NOW  # when it came
    assert [kind for kind, _ in records(work, second, f"{site.url}/ill")] == ["response"]
    rows = ledger(work, second)
    assert rows["deep"]["change"] == "same"  # its links are those it had
    assert (rows["gone"]["change"], rows["gone"]["reason"]) == ("gone", "HTTP 410")
    assert rows["gone"]["trouble"] == ""
    assert f"{site.url}/gone" not in stored(work, second)
    assert (second.stats["kept"], second.stats["gone"], second.stats["failed"]) == (1, 1, 1)


def site_body(name: str) -> bytes:
    return b'<a href="/deep">x</a>' + words(name).encode()


def test_a_page_that_is_well_again_costs_a_304(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    well, site.pages["/ill"] = site.pages["/ill"], (503, {}, b"")
    crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    site.pages["/ill"] = well
    work, third = crawl(config(site, as_of=MUCH_LATER, previous=SECOND), THIRD)
    assert dict(site.answers)["/ill"] == 304
    row = ledger(work, third)["ill"]
    assert (row["change"], row["trouble"]) == ("same", "")
    assert stored(work, third)[f"{site.url}/ill"].date == NOW


def test_a_new_page_of_an_ill_server_fails(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    site.pages["/"] += '<a href="/new">x</a>'
    site.pages["/new"] = (500, {}, b"")
    work, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    assert ledger(work, second)["new"]["reason"] == "HTTP 500"


def test_too_many_kept_pages_end_the_run(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    for path in ("/ill", "/well", "/gone"):
        site.pages[path] = (502, {}, b"")
    again = config(site, as_of=LATER, previous=FIRST, max_failed_share=0.5)
    with pytest.raises(TransientError, match=r"3 of 5 pages failed .*HTTP 502"):
        crawl(again, SECOND)
    site.pages["/ill"] = site.pages["/well"] = site.pages["/gone"] = words("well again")
    site.requests.clear()
    _, second = crawl(again, SECOND)  # the next try asks for these alone
    assert sorted(asked(site)) == ["/gone", "/ill", "/well"]
    assert second.stats["kept"] == 0


def test_without_robots_nothing_is_asked_and_everything_is_kept(site: Any, crawl: Crawl) -> None:
    site.pages["/robots.txt"] = (200, TEXT, b"User-agent: *\nContent-Signal: ai-train=yes\n")
    crawl(config(site), FIRST)
    site.pages["/robots.txt"] = (503, {}, b"")
    site.requests.clear()
    work, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    assert asked(site) == []
    rows = ledger(work, second)
    assert {row["change"] for row in rows.values()} == {"kept"}
    assert len(stored(work, second)) == 5
    said = rows["well"]["optouts"]
    assert [(s["value"], s["date"]) for s in said] == [("ai-train=yes", NOW)]  # heard then


def test_a_kept_page_is_judged_by_what_was_heard_then(site: Any, crawl: Crawl) -> None:
    """Site and page said no a week ago, when it was only noted; the site's word cannot be had."""
    site.pages["/robots.txt"] = (200, TEXT, b"User-agent: CCBot\nDisallow: /well\n")
    site.pages["/deep"] = (200, {**HTML, "X-Robots-Tag": "noai"}, words("deep").encode())
    crawl(config(site, optouts=OptoutConfig(policy="record")), FIRST)
    site.pages["/robots.txt"] = (503, {}, b"")
    work, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    rows = ledger(work, second)
    assert rows["well"]["reason"].startswith("opted out: robots-agent: CCBot")
    assert rows["deep"]["reason"].startswith("opted out: noai")
    assert rows["well"]["optouts"][0]["date"] == rows["deep"]["optouts"][0]["date"] == NOW
    assert rows["ill"]["reason"] == ""
