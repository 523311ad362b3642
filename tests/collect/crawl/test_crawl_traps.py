"""Sites that never end: calendars, sessions in addresses, links that go in circles; budgets."""

from __future__ import annotations

import itertools
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from components.collect.crawl.crawl_traps import goes_in_circles, shape_of, without_session
from components.collect.scrape import scrape
from components.collect.web.urls import normalise_url
from components.core.store.workdir import Workdir
from tests.collect.conftest import Web, serving
from tests.collect.crawling import LONG, TEXT, asked, config, ledger, words

_MONTHS = "January February March April May June July August September October November December"
MONTHS = _MONTHS.split(" ")


def reply(handler: BaseHTTPRequestHandler, page: str) -> None:
    body = page.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    handler.wfile.write(head % len(body) + body)


class Endless(dict[str, Any]):
    """Pages by path, and a function for every other path."""

    def __init__(self, pages: dict[str, Any], other: Any) -> None:
        super().__init__(pages)
        self.other = other

    def get(self, path: str, default: Any = None) -> Any:
        return super().get(path, self.other if path not in ("/robots.txt",) else default)


def test_a_calendar_without_end(work: Workdir, web: Any) -> None:
    def month(handler: BaseHTTPRequestHandler) -> None:
        given = {k: int(v[0]) for k, v in parse_qs(urlsplit(handler.path).query).items()}
        if not handler.path.startswith("/calendar?"):
            handler.send_error(404)
            return
        year, number = given["year"], given["month"]
        year, following = (year + 1, 1) if number == 12 else (year, number + 1)
        links = f'<a href="/calendar?year={year}&month={following}">next month</a>'
        days = "".join(
            f'<a href="/calendar?year={year}&month={number}&day={day}">{day}</a>'
            for day in range(1, 4)
        )
        reply(handler, f"<h1>{MONTHS[number - 1]} {year}</h1>{links}{days}<p>No events.</p>")

    articles = [f"/article/{number}" for number in range(30)]
    links = "".join(f'<a href="{path}">x</a>' for path in articles)
    start = f'<a href="/calendar?year=2026&month=1">calendar</a>{links}'
    letters = itertools.product("abcdef", repeat=3)
    pages = {path: words("".join(next(letters)) + "word") for path in articles}
    web.pages = Endless({"/": start, **pages}, month)
    result = scrape(config(web, max_depth=10_000, max_pages=5_000), work)
    calendar = [path for path in asked(web) if path.startswith("/calendar")]
    assert 12 <= len(calendar) < 150  # a first year is new, and then it is known
    assert set(articles) <= set(asked(web))
    rows = ledger(work, result)
    reasons = [row["reason"] for row in rows.values() if "trap" in row["reason"]]
    assert set(reasons) == {"a trap: pages with addresses like this one bring nothing new"}
    assert 1 <= len(reasons) <= 2  # one line a shape


def test_numbered_pages_of_their_own_words_are_no_trap(work: Workdir, web: Any) -> None:
    letters = ["".join(three) for three in itertools.product("abcdefgh", repeat=3)]
    count = 120
    for number in range(count):
        following = f'<a href="/item/{number + 1}">next</a>' if number + 1 < count else ""
        web.pages[f"/item/{number}"] = following + words(letters[number])
    web.pages["/"] = '<a href="/item/0">first</a>'
    result = scrape(config(web, max_depth=1000), work)
    assert result.stats["pages"] == count + 1


def test_a_session_in_an_address_names_no_page(work: Workdir, web: Any) -> None:
    numbers = itertools.count()

    def page(handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path.partition(";")[0]
        session = f"{next(numbers):032x}"
        links = "".join(
            f'<a href="/{name}?PHPSESSID={session}">x</a><a href="/{name};jsessionid={session}">y</a>'
            f'<a href="/{name}?utm_source=mail&amp;sid={session}">z</a>'
            for name in ("a", "b", "c")
        )
        reply(handler, links + words(f"page{path.strip('/')}"))

    web.pages |= {"/": page, "/a": page, "/b": page, "/c": page}
    rows = ledger(work, scrape(config(web), work))
    assert set(rows) == {"", "a", "b", "c"}
    assert sorted(asked(web)) == ["/", "/a", "/b", "/c"]


def test_a_session_under_another_name_ends_as_a_trap(work: Workdir, web: Any) -> None:
    numbers = itertools.count()

    def page(handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/" and not handler.path.startswith("/shop?"):
            handler.send_error(404)
            return
        links = "".join(f'<a href="/shop?token={next(numbers)}">x</a>' for _ in range(5))
        reply(handler, links + LONG)

    web.pages = Endless({"/": page}, page)
    rows = ledger(work, scrape(config(web, max_depth=10_000, max_pages=5_000), work))
    assert len([path for path in asked(web) if "token" in path]) < 300
    assert len([row for row in rows.values() if "trap" in row["reason"]]) == 1


def test_links_that_go_in_circles(work: Workdir, web: Any) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        if "robots" in handler.path or "." in handler.path:
            handler.send_error(404)
            return
        depth = handler.path.count("a/")
        reply(handler, f'<a href="a/">deeper</a>{words("x" * (depth + 2))}')

    web.pages = Endless({}, page)
    scrape(config(web, max_depth=1000), work)
    assert max(path.count("a/") for path in asked(web)) == 3


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example/x?PHPSESSID=0123456789abcdef", "http://a.example/x"),
        ("http://a.example/x?a=1&utm_medium=m&b=2", "http://a.example/x?a=1&b=2"),
        ("http://a.example/x;jsessionid=ABC.node1?q=1", "http://a.example/x?q=1"),
        ("http://a.example/(S(lit3py55t21z5v55vlm25s55))/x", "http://a.example/x"),
        ("http://a.example/x?sid=7", "http://a.example/x?sid=7"),  # too short for a session
        ("http://a.example/x?session=spring", "http://a.example/x?session=spring"),
        ("http://a.example/(a)/x", "http://a.example/(a)/x"),
    ],
)
def test_sessions_are_taken_out(url: str, expected: str) -> None:
    assert without_session(url) == expected


def test_shapes_and_circles() -> None:
    shapes = {shape_of(f"http://a.example/{y}/{m}?p={y}") for y in (2025, 2026) for m in (1, 2)}
    assert len(shapes) == 1
    assert shape_of("http://a.example/x") != shape_of("http://a.example/y")
    assert goes_in_circles("http://a.example/a/b/a/b/a/b/a/b")
    assert goes_in_circles("http://a.example/" + "/".join(map(str, range(40))))
    assert not goes_in_circles("http://a.example/a/b/a/b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/..a/b../...", "/..a/b../..."),
        ("/a//b", "/a//b"),
        ("/a%2Fb", "/a%2Fb"),
    ],
)
def test_dot_segments_are_taken_out(path: str, expected: str) -> None:
    assert normalise_url(f"http://a.example{path}") == f"http://a.example{expected}"


def test_a_detour_is_no_way_around_robots(work: Workdir, web: Any) -> None:
    """A server takes dot segments out; a rule has to be asked about what it will send."""
    web.pages |= {
        "/robots.txt": (200, TEXT, b"User-agent: *\nDisallow: /private/\n"),
        "/": f'<a href="{web.url}/public/../private/x">x</a>{LONG}',
        "/private/x": LONG,
        "/public/../private/x": LONG,
    }
    rows = ledger(work, scrape(config(web), work))
    assert rows["private/x"]["reason"] == "robots.txt forbids it"
    assert asked(web) == ["/"]


def test_budgets_of_a_host_and_of_depth(work: Workdir, web: Any) -> None:
    pages = {"/": "".join(f'<a href="/{n}">x</a>' for n in range(20)) + LONG}
    pages |= {f"/{n}": f'<a href="/deep{n}">x</a>' + LONG for n in range(20)}
    web.pages = pages
    with serving(Web("127.0.0.2", web.server.server_port)) as other:
        other.pages = dict(pages)
        crawl = config(web, seeds=[f"{web.url}/", f"{other.url}/"], max_pages_per_host=7)
        rows = ledger(work, scrape(crawl.model_copy(update={"max_depth": 1}), work))
    assert len(asked(web)) == len(asked(other)) == 7
    assert len(rows) == 7  # of each path; the hosts share them
    assert not [path for path in asked(web) if "deep" in path]


CANONICAL = '<link rel="canonical" href="{}">'


def test_canonical_links(work: Workdir, web: Any) -> None:
    header = {"Content-Type": "text/html", "Link": '</real>; rel="canonical"'}
    names = ("print", "mobile", "lost", "mutual1", "mutual2", "claims-home")
    web.pages |= {
        "/": "".join(f'<a href="/{name}">x</a>' for name in names) + words("home"),
        "/real": words("real"),
        "/print": CANONICAL.format("/real") + words("real print"),
        "/mobile": (200, header, words("real mobile").encode()),
        "/lost": CANONICAL.format("/nowhere") + words("lost"),
        "/mutual1": CANONICAL.format("/mutual2") + words("one"),
        "/mutual2": CANONICAL.format("/mutual1") + words("two"),
        "/claims-home": CANONICAL.format("/") + words("claims"),
    }
    rows = ledger(work, scrape(config(web), work))
    kept = {name for name, row in rows.items() if not row["reason"]}
    assert kept == {"", "real", "lost", "mutual2", "claims-home"}
    assert rows["print"]["reason"] == rows["mobile"]["reason"] == f"canonical is {web.url}/real"
    assert rows["lost"]["canonical"] == f"{web.url}/nowhere"
