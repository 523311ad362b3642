"""Sites without end: a crawl ends soon, and no page of its own is lost.

The bounds are somewhat above what was measured: most traps close after 40 to 130 requests, and a
search by five facets of 60 products (3,125 addresses) after 1,040.
"""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from components.collect.crawl.crawl_traps import TRAP_REASON
from components.collect.scrape import scrape
from components.core.store.workdir import Workdir
from tests.collect import endless_sites as sites
from tests.collect.crawling import asked, config, ledger, unasked, words

ARTICLES = 40
ENDLESS = {
    "calendar by month": (sites.calendar_by_month, "/calendar?year=2026&month=1", 250),
    "calendar by date": (sites.calendar_by_date, "/cal?date=20260501", 150),
    "calendar by offset": (sites.calendar_by_offset, "/cal?m=0", 150),
    "agenda by day": (sites.agenda_by_day, "/day?d=0", 150),
    "tokens": (sites.token_links(), "/shop", 150),
    "circle of one link": (sites.circle_of_one, "/a/", 100),
    "circle of many links": (sites.circle_of_many, "/parta/", 150),
    "search by facets": (sites.search_by_facets, "/find?colour=coloura", 1200),
    "growing query": (sites.growing_query, "/list?page=1", 100),
    "pages past the end": (sites.pages_past_the_end, "/list?p=1", 100),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_site_without_end(work: Workdir, web: Any, name: str) -> None:
    site, entry, limit = ENDLESS[name]
    sites.serve(web, sites.with_articles(site, entry, ARTICLES))
    pages = scrape(config(web, max_depth=10_000, max_pages=5_000), work)
    rows = ledger(work, pages)
    stored = {path for path, row in rows.items() if not row["reason"]}
    assert {f"article/{number}" for number in range(ARTICLES)} <= stored
    assert len(asked(web)) - ARTICLES - 1 < limit
    left = [row for row in unasked(work, pages).values() if row["reason"] == TRAP_REASON]
    assert left  # the next addresses are named


@pytest.mark.parametrize("parameter", ["PHPSESSID", "jsessionid", "sid", "ticket"])
def test_a_new_session_on_every_link(work: Workdir, web: Any, parameter: str) -> None:
    """Each page is asked for under few sessions, and kept under one of those known to be such."""
    sites.serve(web, sites.visits(parameter, 100))
    pages = scrape(config(web, max_depth=10_000, max_pages=5_000), work)
    rows = ledger(work, pages)
    numbers = {path.partition("?")[0].partition(";")[0] for path in rows}
    assert {f"page{number}" for number in range(1, 100)} <= numbers
    assert len(asked(web)) < 200


@pytest.mark.parametrize("parameter", ["sid", "ticket"])
def test_sessions_beside_a_clock_and_a_counter(work: Workdir, web: Any, parameter: str) -> None:
    sites.serve(web, sites.visits(parameter, 100, noise=True))
    pages = scrape(config(web, max_depth=10_000, max_pages=5_000), work)
    numbers = {path.partition("?")[0] for path in ledger(work, pages)}
    assert {f"page{number}" for number in range(1, 100)} <= numbers
    assert len(asked(web)) < 200


FINITE = {
    "yearly tables": (sites.chain("year", 120, sites.yearly_table), 121),
    "rounds of a league": (sites.chain("round", 120, sites.league_round), 121),
    "noughts and ones": (sites.chain("week", 120, sites.attendance), 121),
    "days of weather": (sites.chain("weather", 120, sites.weather_day), 121),
    "entries of a dictionary": (sites.chain("entry", 120, sites.dictionary_entry), 121),
}


@pytest.mark.parametrize("name", FINITE)
def test_pages_that_differ_are_no_trap(work: Workdir, web: Any, name: str) -> None:
    site, count = FINITE[name]
    sites.serve(web, site)
    pages = scrape(config(web, max_depth=1_000), work)
    assert pages.stats["pages"] == count
    assert len(set(asked(web))) == count
    assert len(asked(web)) <= count + 1  # one may be asked for twice, to see its numbers stay


def test_copies_of_one_page_under_several_sessions_are_one_page(work: Workdir, web: Any) -> None:
    sites.serve(web, sites.visits("sid", 40))
    pages = scrape(config(web, max_depth=10_000), work)
    rows = ledger(work, pages)
    kept = [path.partition("?")[0] for path, row in rows.items() if not row["reason"]]
    assert sorted(kept) == sorted({*kept})
    assert {f"page{number}" for number in range(1, 40)} <= set(kept)
    reasons = [row["reason"] for row in rows.values() if row["reason"]]
    assert reasons
    assert all(reason.endswith(": sid names no page here") for reason in reasons)
    left = unasked(work, pages).values()
    assert any(row["reason"].startswith("the same page as http://127.0.0.1") for row in left)


@pytest.mark.parametrize(
    "addresses",
    [
        [f"/talks?session={name}" for name in ("spring", "summer", "autumn", "winter", "extra")],
        [f"/t/s?sid=catalogue_{year}_spring" for year in range(1990, 2020)],
        [f"/view?PHPSESSID={number:032x}" for number in range(1, 40)],  # unlikely, but theirs
        [f"/go?utm_source=mail{number}" for number in range(30)],
        ["/n/a/b/a/c/a/d/a/e", "/n/a/b/a/c", "/n/b/a/c/a/d/a/e", "/n/a/a/a/a/a/a/a/a"],
        [
            "/" + "/".join(f"part{letter}" for letter in "abcdefghijklmnop"[:count]) * 3
            for count in range(1, 16)
        ],
        [f"{lead}/docs/{name}" for lead in ("", "/de", "/fr") for name in ("a", "b", "c", "d")],
        ["/wiki/Node.js", "/view/report.doc", "/show/archive.zip", "/blob/main/logo.png"],
        [f"/item?id={number}" for number in range(60)],
    ],
)
def test_addresses_that_only_look_endless(work: Workdir, web: Any, addresses: list[str]) -> None:
    def page(address: str) -> str | None:
        if address == "/":
            return sites.story("home") + "".join(map(sites.link, addresses))
        return sites.story(address) if address in addresses else None

    sites.serve(web, page)
    pages = scrape(config(web), work)
    assert {path for path, row in ledger(work, pages).items() if not row["reason"]} == {
        path.removeprefix("/") for path in ("/", *addresses)
    }
    assert not unasked(work, pages)


def test_editions_with_equal_first_pages_are_all_read(work: Workdir, web: Any) -> None:
    def page(address: str) -> str | None:
        if address == "/":
            return "".join(sites.link(f"/v{n}/index") for n in range(60)) + sites.story("home")
        if address.endswith("/index"):
            return sites.story("index") + sites.link("chapter", "the chapter")
        return sites.story(address) if address.endswith("/chapter") else None

    sites.serve(web, page)
    pages = scrape(config(web), work)
    assert {f"v{n}/chapter" for n in range(60)} <= set(ledger(work, pages))


@pytest.mark.parametrize(
    ("session", "pages"), [(";jsessionid={}", 6), (";jsessionid={}", 2), ("?PHPSESSID={}", 6)]
)
def test_a_session_in_addresses_until_the_cookie_comes_is_stored_once(
    work: Workdir, web: Any, session: str, pages: int
) -> None:
    """As Tomcat and PHP do it; what is kept is the address without it."""
    names = [f"/{letter}.do" for letter in "abcdef"[:pages]]
    visits = iter(range(10**6))

    def page(name: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            is_known = "SESSION=" in handler.headers.get("Cookie", "")
            mark = "" if is_known else session.format(f"{next(visits):032X}")
            links = "".join(f'<a href="{target}{mark}">x</a>' for target in ["/", *names])
            body = (links + words(name * 9)).encode()
            handler.send_response(200)
            if not is_known:
                handler.send_header("Set-Cookie", "SESSION=1; Path=/")
            handler.send_header("Content-Type", "text/html")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return answer

    sessions = [session.format(f"{number:032X}") for number in range(3)]
    for name in ["/", *names]:
        web.pages |= dict.fromkeys([name, *(f"{name}{mark}" for mark in sessions)], page(name))
    rows = ledger(work, scrape(config(web), work))
    stored = {path for path, row in rows.items() if not row["reason"]}
    assert stored == {"", *(name[1:] for name in names)}
