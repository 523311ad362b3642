"""A crawl after a crawl whose budget is too small: known pages come first, and it is said."""

from __future__ import annotations

from typing import Any

import pytest

from components.collect.crawl.crawl_budget import BUDGET_SPENT
from tests.collect.crawling import NOW, Crawl, asked, config, ledger, stored, words

LATER = "2026-11-08T00:00:00Z"
FIRST, SECOND = "1" * 64, "2" * 64


@pytest.fixture
def site(web: Any) -> Any:
    """``/`` leads to ``/a``, that to ``/b``; nothing will lead to ``/c``."""
    web.pages |= {
        "/": '<a href="/a">x</a><a href="/c">x</a>' + words("home"),
        "/a": '<a href="/b">x</a>' + words("a"),
        "/b": words("b"),
        "/c": words("c"),
    }
    return web


def add_pages(site: Any, count: int) -> None:
    """New pages, which the site's first page names before the others."""
    names = [f"/new{number}" for number in range(count)]
    site.pages |= {name: words(name) for name in names}
    links = "".join(f'<a href="{name}">x</a>' for name in names)
    site.pages["/"] = links + '<a href="/a">x</a>' + words("home")
    site.requests.clear()


@pytest.mark.parametrize("bound", ["max_pages", "max_pages_per_host"])
def test_known_pages_come_before_new_ones(site: Any, crawl: Crawl, bound: str) -> None:
    crawl(config(site, **{bound: 5}), FIRST)
    add_pages(site, 9)
    work, second = crawl(config(site, as_of=LATER, previous=FIRST, **{bound: 5}), SECOND)
    rows = ledger(work, second)
    assert {name: row["change"] for name, row in rows.items()} == {
        "": "changed",
        "a": "same",
        "b": "same",
        "c": "same",
        "new0": "new",
    }
    assert len(asked(site)) == 5


def test_a_budget_that_is_used_up_is_told_in_one_line(
    site: Any, crawl: Crawl, caplog: pytest.LogCaptureFixture
) -> None:
    crawl(config(site, max_pages=5), FIRST)
    assert caplog.messages == []
    add_pages(site, 9)
    crawl(config(site, as_of=LATER, previous=FIRST, max_pages=5), SECOND)
    told = "scrape.max_pages (5) was used up with 8 known addresses not asked for"
    assert caplog.messages == [told]


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (
            {"max_depth": 3},
            "scrape.max_depth (3) left 1 known addresses not asked for, {}/list4 among them",
        ),
        (
            {"max_pages_per_host": 3},
            "scrape.max_pages_per_host (3) was used up with 1 known addresses not asked for",
        ),
        ({"max_pages": 3}, "scrape.max_pages (3) was used up with 1 known addresses not asked for"),
        ({}, ""),
    ],
)
def test_every_bound_that_leaves_pages_out_is_told(
    web: Any, crawl: Crawl, caplog: pytest.LogCaptureFixture, bounds: dict[str, int], told: str
) -> None:
    for number in range(8):
        body = words("abcdefgh"[number] * 9).encode()
        html = {"Content-Type": "text/html"}
        following = {"Link": f'</list{number + 1}>; rel="next"'} if number < 7 else {}
        web.pages[f"/list{number}"] = (200, {**html, **following}, body)
    crawl(config(web, seeds=[f"{web.url}/list0"], **bounds), FIRST)
    assert caplog.messages == [told.format(web.url)] * bool(told)
    assert len(asked(web)) == next(iter(bounds.values()), 7) + ("max_depth" in bounds or not bounds)


def test_known_pages_without_a_request_are_kept_as_they_were(
    site: Any, crawl: Crawl, caplog: pytest.LogCaptureFixture
) -> None:
    crawl(config(site, max_pages=4), FIRST)
    add_pages(site, 3)
    site.pages["/a"] = (301, {"Location": "/moved"}, b"")
    site.pages["/moved"] = words("a")
    again = config(site, as_of=LATER, previous=FIRST, max_pages=4, max_failed_share=0)
    work, second = crawl(again, SECOND)
    rows = ledger(work, second)
    assert {name: row["change"] for name, row in rows.items()} == {
        "": "changed",
        "a": "moved",
        "moved": "new",
        "b": "same",
        "c": "kept",
    }
    assert (rows["c"]["reason"], rows["c"]["trouble"], rows["c"]["status"]) == ("", BUDGET_SPENT, 0)
    page = stored(work, second)[f"{site.url}/c"]
    assert (page.body, page.date) == (words("c").encode(), NOW)
    assert caplog.messages == [
        "scrape.max_pages (4) was used up with 4 known addresses not asked for, of which 1 stay "
        "as the previous crawl has them"
    ]


def test_a_page_that_may_not_be_kept_is_not_carried_over(site: Any, crawl: Crawl) -> None:
    crawl(config(site, max_pages=4), FIRST)
    site.pages["/"] = '<a href="/a">x</a>' + words("home")
    site.pages["/a"] = (301, {"Location": "/moved"}, b"")
    site.pages["/moved"] = words("a")
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /c\n")
    work, second = crawl(config(site, as_of=LATER, previous=FIRST, max_pages=4), SECOND)
    row = ledger(work, second)["c"]
    assert row["reason"] != ""
    assert row["trouble"] == ""
