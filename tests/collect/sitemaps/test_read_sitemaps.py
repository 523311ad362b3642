"""Crawls from sitemaps: every one that brings nothing, and every address in one, has its line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import pytest

from components.collect.crawl.crawl_budget import MAX_PAGES_REASON, OUTSIDE_REASON
from components.collect.crawl.fetch_ledger import MAX_LINES_OF_HOST
from components.collect.scrape import scrape
from components.collect.sitemaps import read_sitemaps, sitemap_file
from components.collect.sitemaps.read_sitemaps import READ_AS_SITEMAP
from components.core.store.workdir import Workdir
from tests.collect.conftest import Web, serving
from tests.collect.crawling import TEXT, asked, config, ledger, stored, unasked, words

XML = {"Content-Type": "application/xml"}
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def other() -> Iterator[Web]:
    """A second site, of another host name."""
    with serving(Web("localhost")) as site:
        yield site


def urlset(*addresses: str) -> str:
    entries = "".join(f"<url><loc>{address}</loc></url>" for address in addresses)
    return f'<?xml version="1.0"?><urlset>{entries}</urlset>'


def index(*addresses: str) -> str:
    entries = "".join(f"<sitemap><loc>{address}</loc></sitemap>" for address in addresses)
    return f'<?xml version="1.0"?><sitemapindex>{entries}</sitemapindex>'


def xml(text: str) -> tuple[int, dict[str, str], bytes]:
    return 200, XML, text.encode()


def robots(*sitemaps: str, rules: str = "") -> tuple[int, dict[str, str], bytes]:
    lines = "".join(f"Sitemap: {address}\n" for address in sitemaps)
    return 200, TEXT, f"User-agent: *\nDisallow:{rules}\n{lines}".encode()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_sitemap_on_another_host_of_the_crawl_is_asked_for(
    work: Workdir, web: Any, other: Web
) -> None:
    web.pages |= {
        "/robots.txt": robots("/index.xml"),
        "/index.xml": xml(index(f"{other.url}/posts.xml", f"{web.url}/own.xml")),
        "/own.xml": xml(urlset(f"{web.url}/own")),
        "/": words("home"),
        "/own": words("own"),
    }
    other.pages |= {
        "/posts.xml": xml(urlset(f"{other.url}/post", f"{other.url}/noai")),
        "/post": words("post"),
        "/noai": words("noai"),
        "/ai.txt": (200, TEXT, b"User-Agent: *\nDisallow: /noai\n"),
    }
    pages = scrape(config(web, hosts=["localhost"]), work)
    assert set(stored(work, pages)) == {f"{web.url}/", f"{web.url}/own", f"{other.url}/post"}
    assert "/ai.txt" in other.requests  # its site is learnt as any other is


def test_a_sitemap_outside_the_crawl_is_left_with_a_line(
    work: Workdir, web: Any, other: Web, caplog: pytest.LogCaptureFixture
) -> None:
    web.pages |= {
        "/sitemap.xml": xml(index(f"{other.url}/posts.xml", f"{web.url}/forbidden.xml")),
        "/robots.txt": robots(rules=" /forbidden"),
        "/": words("home"),
    }
    pages = scrape(config(web), work)
    lines = {url: row["reason"] for url, row in unasked(work, pages).items()}
    assert lines == {
        f"{other.url}/posts.xml": f"a sitemap that is not read: {OUTSIDE_REASON}",
        f"{web.url}/forbidden.xml": "a sitemap that is not read: robots.txt forbids it",
    }
    assert other.requests == []
    assert "/forbidden.xml" not in web.requests
    assert [m for m in messages(caplog) if "2 sitemaps that it names are not read" in m]


def test_robots_txt_may_name_a_sitemap_anywhere(work: Workdir, web: Any, other: Web) -> None:
    web.pages |= {
        "/robots.txt": robots(
            f"{other.url}/index.xml", f"{web.url}/hidden/s.xml", rules=" /hidden"
        ),
        "/hidden/s.xml": xml(urlset(f"{web.url}/one")),
        "/": words("home"),
        "/one": words("one"),
        "/two": words("two"),
    }
    other.pages |= {
        "/index.xml": xml(index(f"{other.url}/nested.xml")),
        "/nested.xml": xml(urlset(f"{web.url}/two")),
    }
    pages = scrape(config(web), work)
    assert {url.removeprefix(web.url) for url in stored(work, pages)} == {"/", "/one", "/two"}


UNREAD = "a sitemap that is not read: "


def test_sitemaps_that_bring_nothing_have_a_line_each(
    work: Workdir, web: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("broken", "lost", "page", "empty", "entities", "other", "nothing", "fine")
    web.pages |= {
        "/robots.txt": robots("/index.xml", f"{web.url}/named.xml", "http://me:pw@a.example/s.xml"),
        "/index.xml": xml(index(*(f"{web.url}/{name}.xml" for name in names))),
        "/broken.xml": (500, HTML, b"error"),
        "/page.xml": (200, HTML, b"<!doctype html><html><body><p>Home</p></body></html>"),
        "/empty.xml": xml(urlset()),
        "/entities.xml": xml('<!DOCTYPE u [<!ENTITY a "b">]><urlset/>'),
        "/other.xml": xml("<catalog><item2/></catalog>"),
        "/nothing.xml": xml(""),
        "/fine.xml": xml(urlset(f"{web.url}/one")),
        "/": words("home"),
        "/one": words("one"),
    }
    pages = scrape(config(web), work)
    rows = ledger(work, pages)
    reasons = {path: (r["status"], r["reason"]) for path, r in rows.items() if r["reason"]}
    assert reasons == {
        "broken.xml": (500, f"{UNREAD}HTTP 500"),
        "lost.xml": (404, f"{UNREAD}HTTP 404"),
        "named.xml": (404, f"{UNREAD}HTTP 404"),
        "page.xml": (200, f"{UNREAD}it is an HTML page"),
        "empty.xml": (200, f"{UNREAD}it lists no address"),
        "entities.xml": (200, f"{UNREAD}it declares entities"),
        "other.xml": (200, f"{UNREAD}it is no sitemap: its root element is catalog"),
        "nothing.xml": (200, f"{UNREAD}it lists no address"),
    }
    assert unasked(work, pages)["http://***@a.example/s.xml"]["reason"] == (
        "a sitemap at an address with a login"
    )
    assert not any("pw@" in str(row) for row in rows.values())
    assert rows["one"]["reason"] == ""
    assert pages.stats["failed"] == 0
    assert [m for m in messages(caplog) if "8 sitemaps that it names are not read" in m]


def test_a_guessed_sitemap_that_is_not_there_has_no_line(work: Workdir, web: Any) -> None:
    web.pages["/"] = words("home")
    assert set(ledger(work, scrape(config(web), work))) == {""}


WARNINGS = [
    "<br />\n<b>Warning</b>: Undefined variable in x.php on line 3<br />\n{}",
    "Warning: something in line 3\n{}",
    "<!-- cached -->\nPHP Notice: see https://php.example/notice for more\n\n{}",
    "\ufeff\n<br>{}",
    "{}\n<b>Fatal error</b>: out of memory",
    '<?xml version="1.0"?>\n<br /><b>Warning</b>: late<br />{}',
    "{}\n<?xml version='1.0'?><urlset></urlset>",
    "<urlset></urlset>{}",
]


@pytest.mark.parametrize("around", WARNINGS)
@pytest.mark.parametrize("start", ['<?xml version="1.0"?>', ""])
def test_a_servers_warnings_around_a_sitemap_are_passed_over(
    work: Workdir, web: Any, around: str, start: str
) -> None:
    listed = start + urlset(f"{web.url}/one", f"{web.url}/two").partition("?>")[2]
    web.pages |= {
        "/sitemap.xml": xml(around.format(listed)),
        "/": words("home"),
        "/one": words("one"),
        "/two": words("two"),
    }
    assert len(stored(work, scrape(config(web), work))) == 3


@pytest.mark.parametrize(("listed", "max_pages"), [(50, 10), (3 * MAX_LINES_OF_HOST, 2)])
def test_addresses_beyond_the_budget_have_a_line(
    work: Workdir, web: Any, caplog: pytest.LogCaptureFixture, listed: int, max_pages: int
) -> None:
    addresses = [f"{web.url}/p{number}" for number in range(listed)]
    web.pages |= {f"/p{number}": words(f"p{number}") for number in range(max_pages)}
    web.pages |= {
        "/robots.txt": robots("/sitemap.xml", "/more.xml"),
        "/": words("home"),
        "/sitemap.xml": xml(urlset(*addresses, "http://away.example/x")),
        "/more.xml": xml(urlset(f"{web.url}/more")),
    }
    pages = scrape(config(web, max_pages=max_pages), work)
    rows = unasked(work, pages)
    left = [row for row in rows.values() if row["reason"] == MAX_PAGES_REASON]
    assert sum(row["unasked"] for row in left) == listed + 1 - max_pages
    assert len(left) == min(listed + 1 - max_pages, MAX_LINES_OF_HOST + 1)
    assert rows["http://away.example/x"]["reason"] == OUTSIDE_REASON
    assert "scrape.max_pages addresses" in rows[f"{web.url}/more.xml"]["reason"]
    told = f"used up with {listed + 1 - max_pages} known addresses not asked for"
    assert [m for m in messages(caplog) if told in m]
    requests = [path for path in asked(web) if not path.endswith(".xml")]
    assert len(requests) == max_pages


def test_entries_that_are_no_addresses_have_a_line(work: Workdir, web: Any) -> None:
    entries = (
        "mailto:me@a.example",
        "http://me:secret@a.example/x",
        "http://[bad/",
        f"{web.url}/{'x' * 3000}",
        f"{web.url}/one",
    )
    web.pages |= {"/sitemap.xml": xml(urlset(*entries)), "/": words("home"), "/one": words("one")}
    pages = scrape(config(web), work)
    lines = {url: row["reason"] for url, row in unasked(work, pages).items()}
    assert lines == {
        "mailto:": "no page: a mailto: link",
        "http://***@a.example/x": "an address with a login",
        "http://[bad/": "not a valid address",
        f"{web.url}/{'x' * 3000}"[:200] + "…": "an address of more than 2000 characters",
    }
    assert len(stored(work, pages)) == 2


def test_a_sitemap_that_is_cut_has_a_line(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitemap_file, "MAX_SITEMAP_BYTES", 400)
    web.pages |= {
        "/sitemap.xml": xml(urlset(*(f"{web.url}/p{number}" for number in range(40)))),
        "/robots.txt": robots("/sitemap.xml"),
        "/": words("home"),
    }
    rows = ledger(work, scrape(config(web), work))
    assert rows["sitemap.xml"]["reason"] == (f"{UNREAD}larger than 400 bytes, the rest is not read")
    assert "p3" in rows


FEED = (
    '<?xml version="1.0"?><rss version="2.0"><channel><item><link>{}/one</link></item><item>'
    "<link>{}/two</link></item></channel></rss>"
)
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom"><entry><link href="{}/one"/></entry><entry>'
    '<link href="{}/two"/></entry></feed>'
)
LINES = "# pages\n{}/one\n{}/two\n"
SEEDS = [
    ("/s104.xml", "application/xml", "xml"),
    ("/s104.xml", "text/xml", "xml"),
    ("/sitemap.php", "text/html", "xml"),
    ("/sitemap.php?x=1", "text/plain", "xml"),
    ("/feed", "application/rss+xml", FEED),
    ("/feed.xml", "text/html", FEED),
    ("/atom", "application/atom+xml", ATOM),
    ("/atom", "", ATOM),
    ("/sitemap.txt", "text/plain", LINES),
    ("/list", "application/octet-stream", LINES),
    ("/s.xml.gz", "application/x-gzip", "gz"),
    ("/s", "application/gzip", "gz"),
    ("/index.xml", "application/xml", "index"),
    ("/moved", "application/xml", "redirect"),
]


@pytest.mark.parametrize(("path", "media_type", "form"), SEEDS)
def test_a_seed_that_is_a_sitemap_is_read_as_one(
    work: Workdir, web: Any, path: str, media_type: str, form: str
) -> None:
    urls = urlset(f"{web.url}/one", f"{web.url}/two")
    typed = {"Content-Type": media_type} if media_type else {}
    text = {"xml": urls, "gz": urls, "redirect": urls, "index": index(f"{web.url}/n.xml")}.get(
        form, form.format(web.url, web.url)
    )
    body = gzip.compress(text.encode()) if form == "gz" else text.encode()
    web.pages |= {"/one": words("one"), "/two": words("two"), "/n.xml": xml(urls)}
    web.pages[path] = (200, typed, body)
    if form == "redirect":
        web.pages |= {"/there.xml": web.pages[path], path: (301, {"Location": "/there.xml"}, b"")}
    pages = scrape(config(web, seeds=[f"{web.url}{path}"]), work)
    assert set(stored(work, pages)) == {f"{web.url}/one", f"{web.url}/two"}
    entry = ledger(work, pages)["there.xml" if form == "redirect" else path[1:]]
    assert entry["reason"] == READ_AS_SITEMAP
    assert pages.stats["failed"] == 0


def test_a_sitemap_beyond_the_bound_is_read_as_a_seed(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the log advises; only what is still unread is told."""
    monkeypatch.setattr(read_sitemaps, "MAX_SITEMAPS", 3)
    web.pages |= {f"/s{n}.xml": xml(urlset(f"{web.url}/p{n}")) for n in range(6)}
    web.pages |= {f"/p{n}": words("abcdef"[n] * 9) for n in range(6)}
    web.pages |= {
        "/sitemap.xml": xml(index(*(f"{web.url}/s{n}.xml" for n in range(6)))),
        "/": words("home"),
    }
    seeds = [f"{web.url}/", f"{web.url}/s5.xml"]
    pages = scrape(config(web, seeds=seeds), work)
    names = {url.removeprefix(web.url) for url in stored(work, pages)}
    assert names == {"/", "/p0", "/p1", "/p2", "/p5"}
    assert set(unasked(work, pages)) == {f"{web.url}/s3.xml", f"{web.url}/s4.xml"}
    assert [m for m in messages(caplog) if "3 sitemaps were read" in m and "2 more" in m]


NO_SITEMAPS = [
    ("/notes.txt", "text/plain", "See these:\nhttp://a.example/x\nand that was all of it.\n"),
    ("/page", "text/html", "<p>One page.</p><code>&lt;urlset&gt;</code>"),
    ("/about", "text/html", "<html><body><pre><urlset><url><loc>{}/one</loc></url></urlset>"),
]


@pytest.mark.parametrize(("path", "media_type", "text"), NO_SITEMAPS)
def test_a_seed_that_is_a_page_stays_one(
    work: Workdir, web: Any, path: str, media_type: str, text: str
) -> None:
    body = text.replace("{}", web.url).encode()
    web.pages |= {path: (200, {"Content-Type": media_type}, body), "/one": words("one")}
    pages = scrape(config(web, seeds=[f"{web.url}{path}"]), work)
    assert set(stored(work, pages)) == {f"{web.url}{path}"}
    assert asked(web) == [path]
