"""Ledger lines of addresses that are named and not asked for: each with its reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.collect.crawl import fetch_ledger
from components.collect.crawl.crawl_traps import FILES_REASON
from components.collect.crawl.fetch_ledger import LedgerEntry, UnaskedAddresses
from components.collect.scrape import scrape
from components.core.settings import Settings
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.cli.views.trace_view import trace_page_or_model
from tests.collect.crawling import (
    LONG,
    TEXT,
    Crawl,
    asked,
    config,
    ledger,
    ledger_rows,
    unasked,
    words,
)

LATER = "2026-11-08T00:00:00Z"


def reasons(work: Workdir, pages: Any) -> dict[str, str]:
    return {url: row["reason"] for url, row in unasked(work, pages).items()}


def test_every_link_that_is_not_followed_has_a_line(work: Workdir, web: Any) -> None:
    long = f"{web.url}/long?{'x' * 3000}"
    web.pages |= {
        "/": '<a href="http://other.example/x">o</a><a href="http://10.0.0.1/">p</a>'
        '<a href="mailto:someone@acme.example">m</a><a href="javascript:go()">j</a>'
        '<a rel="nofollow" href="/nofollow">n</a><a href="http://me:secret@acme.example/in">c</a>'
        f'<a href="{long}">l</a><a href="http://[bad/">b</a><a href="#part">s</a>'
        '<a href="/one">1</a><a href="/closed">d</a>' + LONG,
        "/one": '<a href="/two">2</a>' + words("one"),
        "/two": '<a href="/three">3</a>' + words("two"),
        "/closed": '<meta name="robots" content="nofollow"><a href="/behind">x</a>'
        + words("closed"),
    }
    found = reasons(work, pages := scrape(config(web, max_depth=2), work))
    assert found == {
        "http://other.example/x": "outside the crawl (scrape.hosts)",
        "http://10.0.0.1/": "a private address, outside the crawl (scrape.hosts)",
        "mailto:": "no page: a mailto: link",
        "javascript:": "no page: a javascript: link",
        f"{web.url}/nofollow": "a nofollow link",
        "http://***@acme.example/in": "an address with a login",
        f"{long[:200]}…": "an address of more than 2000 characters",
        "http://[bad/": "not a valid address",
        f"{web.url}/three": "more links from a seed than scrape.max_depth",
        f"{web.url}/behind": "a nofollow link",
    }
    stored = b"".join(
        path.read_bytes() for path in work.artifact_folder(pages).glob("ledger.parquet")
    )
    assert b"secret" not in stored
    assert b"someone" not in stored
    assert pages.stats["unasked"] == len(found)
    assert pages.stats["left_out"] == 0


def test_a_link_that_is_followed_elsewhere_has_one_line(work: Workdir, web: Any) -> None:
    web.pages |= {
        "/": '<a rel="nofollow" href="/x">n</a><a href="/one">1</a>' + LONG,
        "/one": '<a href="/x">x</a>' + words("one"),
        "/x": words("x"),
    }
    pages = scrape(config(web), work)
    assert ledger(work, pages)["x"]["reason"] == ""
    assert unasked(work, pages) == {}


def test_targets_of_redirects_and_sitemaps_have_lines(work: Workdir, web: Any) -> None:
    listed = "<urlset><url><loc>http://other.example/listed</loc></url></urlset>"
    web.pages |= {
        "/": '<a href="/away">a</a><a href="/far0">f</a>' + LONG,
        "/sitemap.xml": (200, {"Content-Type": "application/xml"}, listed.encode()),
        "/away": (302, {"Location": "http://other.example/target"}, b""),
        "/far0": (302, {"Location": "/far1"}, b""),
        "/far1": (302, {"Location": "/far2"}, b""),
    }
    pages = scrape(config(web, max_redirects=1), work)
    assert reasons(work, pages) == {
        "http://other.example/listed": "outside the crawl (scrape.hosts)",
        "http://other.example/target": "outside the crawl (scrape.hosts)",
        f"{web.url}/far2": "more than 1 redirects (scrape.max_redirects)",
    }


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        ("max_pages", "the budget is used up (scrape.max_pages)"),
        ("max_pages_per_host", "the budget of its host is used up (scrape.max_pages_per_host)"),
    ],
)
def test_what_the_budget_left_out_has_lines(
    work: Workdir, web: Any, bound: str, reason: str
) -> None:
    names = [f"/{letter}" for letter in "abcdefgh"]
    web.pages |= {name: words(name) for name in names}
    web.pages["/"] = "".join(f'<a href="{name}">x</a>' for name in names) + words("home")
    found = reasons(work, scrape(config(web, **{bound: 4}), work))
    assert found == {f"{web.url}/{letter}": reason for letter in "defgh"}


def test_files_are_asked_for_last_and_judged_by_their_type(work: Workdir, web: Any) -> None:
    image = (200, {"Content-Type": "image/png"}, b"\x89PNG")
    web.pages |= {f"/img/{number}.png": image for number in range(30)}
    web.pages |= {"/wiki/Logo.png": words("logo"), "/wiki/Node.js": words("node")}
    web.pages["/"] = "".join(
        f'<a href="{path}">x</a>' for path in [*web.pages, "/later"] if path != "/"
    )
    web.pages["/later"] = words("later")
    pages = scrape(config(web, concurrency=1), work)
    rows = ledger(work, pages)
    assert asked(web)[:2] == ["/", "/later"]
    assert rows["wiki/Logo.png"]["reason"] == rows["wiki/Node.js"]["reason"] == ""
    assert rows["img/7.png"]["reason"] == "no page: image/png"
    assert pages.stats["failed"] == 0


def test_files_of_a_kind_that_is_never_a_page_are_asked_for_twenty_times(
    work: Workdir, web: Any
) -> None:
    """Found one after another; one that is a page keeps its kind open."""
    gone = (404, {"Content-Type": "text/html"}, b"gone")
    image = (200, {"Content-Type": "image/png"}, b"\x89PNG")
    for number in range(40):
        web.pages |= {
            f"/p{number}": f'<a href="/img/{number}.png">i</a><a href="/a/{number}.zip">z</a>'
            f'<a href="/p{number + 1}">n</a>' + words("abcdefghij"[number % 10] * (number + 2)),
            f"/img/{number}.png": image if number % 2 else gone,
            f"/a/{number}.zip": words("archive") if number == 3 else image,
        }
    web.pages["/"] = '<a href="/p0">x</a>' + LONG
    pages = scrape(config(web, max_depth=100), work)
    images = [path for path in asked(web) if path.startswith("/img/")]
    left = [url for url, reason in reasons(work, pages).items() if reason == FILES_REASON]
    assert len(images) + len(left) == 40
    assert len([path for path in asked(web) if path.startswith("/a/")]) == 40
    assert left
    assert pages.stats["failed"] == 1  # /p40 alone: a lost image is no lost page


def test_lines_are_bounded_and_nothing_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_ledger, "MAX_LINES_OF_HOST", 10)
    monkeypatch.setattr(fetch_ledger, "MAX_LINES_OF_REASON", 50)
    monkeypatch.setattr(fetch_ledger, "MAX_COUNT_LINES", 8)
    lines = UnaskedAddresses()
    for number in range(1000):
        lines.record_address(f"http://{number % 20}.example/{number}", "outside")
        lines.record_address(f"http://0.example/deep{number}", "too deep")
        lines.record_address("http://0.example/again", "too deep")
    entries = lines.entries_beside({})
    assert sum(entry.unasked for entry in entries.values() if entry.reason == "too deep") == 1001
    outside = [entry for entry in entries.values() if entry.reason.startswith("outside")]
    assert sum(entry.unasked for entry in outside) == 1000
    assert len(entries) <= 50 + 8 + 1 + 10 + 1
    shared = [entry for entry in outside if entry.reason.endswith("at further hosts")]
    assert len(shared) == 1
    restored = UnaskedAddresses()
    for entry in entries.values():
        restored.restore_entry(LedgerEntry(**vars(entry)))
    restored.record_address("http://0.example/another", "too deep")
    assert sum(e.unasked for e in restored.entries_beside({}).values()) == 2002
    assert len(restored.entries_beside({})) == len(entries)


def test_an_address_of_a_count_line_may_be_asked_for_after_all() -> None:
    lines = UnaskedAddresses()
    lines.record_address("http://a.example/x", "too deep")
    assert lines.entries_beside({"http://a.example/x": LedgerEntry("http://a.example/x")}) == {}


def test_unasked_addresses_open_no_host_when_a_crawl_is_replayed(web: Any, crawl: Crawl) -> None:
    """Pages that another opt-out policy permits lead to what the first crawl left out, or not."""
    noai = {"Content-Type": "text/html", "X-Robots-Tag": "noai"}
    web.pages |= {
        "/": '<a href="http://localhost.example/x">o</a><a href="/no">n</a>' + LONG,
        "/no": (
            200,
            noai,
            f'<a href="/new">x</a><a href="http://localhost.example/y">y</a>{LONG}'.encode(),
        ),
        "/new": words("new"),
        "/robots.txt": (200, TEXT, b""),
    }
    work, first = crawl(config(web, max_depth=1), "1" * 64)
    assert f"{web.url}/new" in unasked(work, first)
    policy = {"policy": "record"}
    again = config(web, max_depth=2, repeats="1" * 64, asked_again=LATER, optouts=policy)
    work, second = crawl(again, "2" * 64)
    urls = [row["url"] for row in ledger_rows(work, second)]
    assert len(urls) == len(set(urls))
    assert ledger(work, second)["new"]["reason"] == ""
    assert set(unasked(work, second)) == {
        "http://localhost.example/x",
        "http://localhost.example/y",
    }


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("{}/9", "the budget is used up (scrape.max_pages): not asked for"),
        ("http://o0.example/0", "outside the crawl (scrape.hosts): not asked for"),
        (
            "{}/19",
            "the budget is used up (scrape.max_pages): one of 11 links that were not followed, as "
            "{}/14",
        ),
        (
            "http://o17.example/1",  # its host has no line of its own
            "outside the crawl (scrape.hosts), as is more at further hosts: one of 4 links that "
            "were not followed, as http://o16.example/16",
        ),
    ],
)
def test_trace_says_why_an_address_was_not_asked_for(
    tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch, page: str, line: str
) -> None:
    monkeypatch.setattr(fetch_ledger, "MAX_LINES_OF_HOST", 10)
    monkeypatch.setattr(fetch_ledger, "MAX_LINES_OF_REASON", 11)
    monkeypatch.setattr(fetch_ledger, "MAX_COUNT_LINES", 5)
    links = [f"/{number}" for number in range(25)]
    links += [f"http://o{number}.example/{number}" for number in range(20)]
    web.pages |= {"/": "".join(f'<a href="{address}">x</a>' for address in links) + LONG}
    web.pages |= {address: words("abcd"[number]) for number, address in enumerate(links[:4])}
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    store = Store(settings.store)
    store.run_request(store.make_request(scrape, config(web, max_pages=5), {}))
    console = Console(file=io.StringIO(), width=300)
    trace_page_or_model(settings, page.format(web.url)).show(console)
    assert isinstance(console.file, io.StringIO)
    assert f"  {line.format(web.url)}\n" in console.file.getvalue()
