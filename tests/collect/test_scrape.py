"""The crawl over real HTTP: bounds, refusals, redirects, repeatability."""

from __future__ import annotations

import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.extract import ExtractConfig, extract
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.config.blocklist import Blocklist
from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError, DataError, TransientError
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, asked, config, fresh, ledger, stored


def test_embedded_site_is_crawled_politely_and_repeatably(tmp_path: Path) -> None:
    site = SiteConfig(packages=["json", "html", "asyncio"])
    works = fresh(tmp_path, "a"), fresh(tmp_path, "b")
    first, second = (scrape(ScrapeConfig(as_of=NOW, embedded=site), work) for work in works)
    assert first.digest == second.digest
    pages = stored(works[0], first)
    assert "http://docs.modelmill.local/json.decoder.html" in pages
    assert not [url for url in pages if "/print/" in url or "127.0.0.1" in url]
    rows = ledger(works[0], first)
    assert rows["print/json.html"]["reason"] == "robots.txt forbids it"
    assert rows["print/json.html"]["status"] == 0
    assert rows["asyncio.windows_events.html"]["reason"] == ("HTTP 404: ImportError: win32 only")
    assert rows["json.html"]["etag"]
    assert rows["json.html"]["last_modified"]
    assert rows["json.html"]["reason"] == ""
    assert first.stats["pages"] == len(pages)


def test_robots_sitemap_scope_depth_and_blocklist(work: Workdir, web: Any) -> None:
    web.pages |= {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /no/\n"),
        "/sitemap.xml": (
            200,
            {"Content-Type": "application/xml"},
            f"<urlset><url><loc>{web.url}/mapped?a=1&amp;b=2</loc></url></urlset>".encode(),
        ),
        "/": '<a href="one#part">1</a><a href="/no/x">n</a><a href="http://elsewhere.example/">e</a>'
        '<a href="/blocked/page">b</a><a href="mailto:a@b.example">m</a><a href="/i.png">i</a>'
        '<a rel="nofollow" href="/unfollowed">u</a>',
        "/one": '<a href="two">2</a>' + LONG,
        "/two": '<a href="three">3</a>' + LONG,
        "/three": LONG,
        "/mapped?a=1&b=2": '<meta name="robots" content="noindex">' + LONG,
        "/no/x": LONG,
        "/unfollowed": LONG,
    }
    pages = scrape(config(web, max_depth=2, blocklist=[f"{web.url}/blocked"]), work)
    rows = ledger(work, pages)
    assert set(rows) == {"", "one", "two", "no/x", "blocked/page", "mapped?a=1&b=2", "i.png"}
    assert rows["no/x"]["reason"] == "robots.txt forbids it"
    assert rows["blocked/page"]["reason"] == "on the blocklist"
    assert rows["mapped?a=1&b=2"]["reason"] == "its robots directives forbid indexing"
    assert len(stored(work, pages)) == 3
    assert sorted(asked(web)) == ["/", "/i.png", "/mapped?a=1&b=2", "/one", "/two"]


def test_bad_pages_are_entered_with_their_reason_and_the_rest_goes_on(
    work: Workdir, web: Any
) -> None:
    def hang(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>")
        while not done.wait(0.05):
            handler.wfile.write(b".")  # never silent for long, never done

    def huge(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b"x" * 1_000_000)
            sent.append(1)

    sent: list[int] = []
    done = threading.Event()
    html = {"Content-Type": "text/html"}
    bomb = gzip.compress(b"\0" * 50_000_000)
    names = [
        "hang",
        "huge",
        "said",
        "bomb",
        "image",
        "pdf",
        "a1",
        "away",
        "inside",
        "loop",
        "self",
        "broken",
        "empty",
        "good",
        "gone",
    ]
    web.pages |= {
        "/": "".join(f'<a href="/{name}">{name}</a>' for name in names),
        "/hang": hang,
        "/huge": huge,
        "/said": (200, html, b"y" * 30_000),
        "/bomb": (200, {**html, "Content-Encoding": "gzip"}, bomb),
        "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
        "/pdf": (200, html, b"%PDF-1.7 \0\0"),
        "/a1": (302, {"Location": "/a2"}, b""),
        "/a2": (302, {"Location": "/a3"}, b""),
        "/a3": (301, {"Location": "/landed"}, b""),
        "/landed": LONG,
        "/away": (302, {"Location": "http://elsewhere.example/"}, b""),
        "/inside": (302, {"Location": "http://10.0.0.1/x"}, b""),
        "/loop": (302, {"Location": "/loop2"}, b""),
        "/loop2": (302, {"Location": "/loop"}, b""),
        "/self": (302, {"Location": "/self"}, b""),
        "/broken": (200, {**html, "Content-Encoding": "gzip"}, b"\x01\x02no gzip at all"),
        "/empty": "",
        "/good": LONG,
    }
    pages = scrape(config(web, max_bytes=20_000, page_seconds=2.5, max_redirects=2), work)
    done.set()
    reasons = {name: row["reason"] for name, row in ledger(work, pages).items()}
    assert reasons["good"] == ""
    assert reasons["hang"] == "took more than 2.5 s"
    assert (
        reasons["huge"]
        == reasons["said"]
        == reasons["bomb"]
        == "larger than 20000 bytes (scrape.max_bytes)"
    )
    assert len(sent) < 60  # hung up on long before its 100 MB
    assert reasons["image"] == "no page: image/png"
    assert reasons["pdf"] == "no page: its content is binary"
    assert reasons["a1"] == f"redirects to {web.url}/a2"
    many = "more than 2 redirects (scrape.max_redirects)"
    assert reasons["a3"] == f"{many}; {web.url}/landed is not followed"
    away = "redirects to http://elsewhere.example/, which is not followed: "
    assert reasons["away"] == f"{away}outside the crawl (scrape.hosts)"
    inside = "redirects to http://10.0.0.1/x, which is not followed: a private address, "
    assert reasons["inside"] == f"{inside}outside the crawl (scrape.hosts)"
    assert reasons["loop2"] == reasons["self"] == "redirects in a loop"
    assert reasons["broken"].startswith("its encoding is broken")
    assert reasons["empty"] == "an empty page"
    assert reasons["gone"] == "HTTP 404"
    assert [url for url in stored(work, pages) if "elsewhere" in url or "loop" in url] == []


def test_charsets_that_lie_null_bytes_and_halves(web: Any, tmp_path: Path) -> None:
    text = "Ein naïver Satz über Öl, gut zwanzig Zeichen lang und noch länger. "
    html = f"<title>t</title><main><p>{text * 8}</p><a href='/linked'>x</a></main>"

    def typed(charset: str) -> dict[str, str]:
        return {"Content-Type": f"text/html; charset={charset}"}

    packed = {**typed("utf-8"), "Content-Encoding": "gzip"}
    names = ("latin", "utf8", "utf16", "null", "nulls", "half")
    web.pages |= {
        "/": "".join(f'<a href="/{name}">{name}</a>' for name in names),
        "/latin": (200, typed("utf-8"), html.encode("cp1252")),
        "/utf8": (200, typed("iso-8859-1"), html.encode()),
        "/utf16": (200, typed("utf-8"), html.encode("utf-16")),
        "/null": (200, typed("utf-8"), b"<p>a stray\0</p>" + html.encode()),
        "/nulls": (200, typed("utf-8"), b"\0" * 20 + html.encode()),
        "/half": (200, packed, gzip.compress(html.encode() * 50)[:-20]),
        "/linked": LONG,
    }
    work = fresh(tmp_path, "store")
    pages = scrape(config(web), work)
    rows = ledger(work, pages)
    assert rows["nulls"]["reason"] == "no page: its content is binary"
    assert rows["half"]["reason"] == ""
    assert rows["half"]["note"] == "its gzip data ends early"
    assert rows["linked"]["reason"] == ""
    corpus = extract(ExtractConfig(min_chars=0), pages, Workdir.temporary(tmp_path / "store"))
    documents = read_shards(tmp_path / "store" / corpus.name, ["url", "text"]).to_pylist()
    texts = {row["url"].rpartition("/")[2]: row["text"] for row in documents}
    for name in ("latin", "utf8", "utf16", "null"):
        assert text.strip() in texts[name]


def test_redirected_page_is_kept_once_under_its_own_address(work: Workdir, web: Any) -> None:
    web.pages |= {
        "/": '<a href="/old">o</a><a href="/older">oo</a><a href="/new">n</a>',
        "/old": (301, {"Location": "/new"}, b""),
        "/older": (301, {"Location": "/moved"}, b""),
        "/new": LONG,
        "/moved": LONG,
    }
    rows = ledger(work, scrape(config(web), work))
    assert web.requests.count("/new") == 1
    assert rows["moved"]["redirected_from"] == f"{web.url}/older"
    assert rows["moved"]["reason"] == ""


def test_unreachable_seed_is_one_line(work: Workdir) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    config = ScrapeConfig(
        seeds=[f"http://127.0.0.1:{port}/"], allow_private=True, retries=1, backoff_seconds=0.01
    )
    with pytest.raises(
        TransientError, match=r"seed http://127\.0\.0\.1:.* cannot be reached"
    ) as error:
        scrape(config, work)
    assert "\n" not in str(error.value)
    assert "pass" not in str(error.value)


def test_too_many_failures_end_the_run_and_are_asked_for_again(work: Workdir, web: Any) -> None:
    web.pages["/"] = '<a href="/a">a</a><a href="/b">b</a>' + LONG
    web.pages |= {"/a": (500, {}, b""), "/b": (500, {}, b"")}
    strict = config(web, max_failed_share=0.5)
    with pytest.raises(TransientError, match="2 of 3 pages failed"):
        scrape(strict, work)
    web.pages |= {"/a": LONG, "/b": LONG}
    pages = scrape(strict, work)
    assert pages.stats["pages"] == 3
    assert web.requests.count("/") == 1
    assert web.requests.count("/a") == 2


def test_robots_that_cannot_be_read_forbid_all(work: Workdir, web: Any) -> None:
    web.pages |= {"/": LONG, "/robots.txt": (503, {}, b"")}
    with pytest.raises(TransientError, match=r"its robots\.txt cannot be read: HTTP 503"):
        scrape(config(web), work)
    assert "/" not in web.requests


def test_resolve_takes_the_newest_crawl_of_the_same_config() -> None:
    asked = ScrapeConfig(seeds=["https://a.example/"], max_pages=7)
    old, new = "2026-10-01T00:00:00Z", "2026-10-05T00:00:00Z"

    def record(config: ScrapeConfig, as_of: str) -> dict[str, Any]:
        return {"config": config.model_copy(update={"as_of": as_of}).model_dump(mode="json")}

    other = asked.model_copy(update={"max_pages": 8})
    earlier = [record(other, "2026-10-09T00:00:00Z"), record(asked, new), record(asked, old)]
    assert resolve_crawl(asked, earlier, False, NOW) == asked.model_copy(update={"as_of": new})
    assert resolve_crawl(asked, earlier, True, NOW).as_of == NOW
    assert resolve_crawl(asked, [], False, NOW).as_of == NOW
    given = asked.model_copy(update={"as_of": old})
    assert resolve_crawl(given, earlier, True, NOW) == given


def test_a_redirect_beyond_a_hosts_budget_says_so(work: Workdir, web: Any) -> None:
    web.pages |= {"/": f'<a href="/a">a</a>{LONG}', "/a": (302, {"Location": "/b"}, b"")}
    rows = ledger(work, scrape(config(web, max_pages_per_host=2), work))
    why = "which is not followed: the budget of its host is used up (scrape.max_pages_per_host)"
    assert rows["a"]["reason"] == f"redirects to {web.url}/b, {why}"


def test_a_seed_that_leads_to_a_refused_address_names_that(work: Workdir, web: Any) -> None:
    web.pages["/"] = (302, {"Location": "http://nowhere.invalid/x"}, b"")
    with pytest.raises(DataError, match=r"no page came from .*nowhere\.invalid/x: "):
        scrape(config(web), work)


def test_hosts_are_those_of_addresses(work: Workdir, web: Any) -> None:
    crawl = config(web, hosts=["MÜLLER.example", "www.acme.example.", "[::1]"])
    names = {"xn--mller-kva.example", "www.acme.example", "::1", "127.0.0.1"}
    assert crawl.web_hosts == names


def test_a_blocklist_is_read_as_addresses_are_spelled(work: Workdir, web: Any) -> None:
    written = [".A.example.", "müller.example", "HTTP://B.example:80/X y", "http://[bad", "::1"]
    blocklist = Blocklist(config(web, blocklist=written).blocked)
    blocked = [
        "http://www.a.example/",
        "https://xn--mller-kva.example/x",
        "https://müller.example/x",  # as a row of a file may spell it
        "http://b.example/X%20y/below",
        "http://[::1]/",
    ]
    assert [blocklist.covers(url) for url in [*blocked, "http://b.example/"]] == [True] * 5 + [
        False
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": ["ftp://a.example/"]}, "is not an http:// or https:// address"),
        (
            {"seeds": ["https://user:pass@a.example/"]},
            r"https://\*\*\*@a.example/': a login in an address is refused.* scrape\.files",
        ),
        ({"seeds": ["http://a b/"]}, "'http://a b/': its host contains a space"),
        (
            {"seeds": ["http://u:p /w@a.example/"]},
            r"'http://\*\*\*@a.example/': its host contains a space",
        ),
        ({"sources": "web"}, "sources: web needs seeds"),
        ({"sources": "files"}, "sources: files needs files"),
        ({"seeds": ["http://a.example"], "files": ["x"]}, "choose one with sources"),
        ({"max_pages": 0}, "given 0: must be at least 1"),
        ({"user_agent": "bad\r\nX: y"}, "must be text of the form"),
        ({"max_page": 3}, "did you mean 'max_pages'"),
        ({"hosts": ["localhost:22007"]}, "a host alone is needed, .*: localhost"),
        ({"hosts": ["a.example", "http://b.example/"]}, "a host alone is needed, .*: b.example"),
        ({"hosts": ["*.a.example"]}, "there are no patterns here"),
        ({"blocklist": ["*.a.example"]}, "there are no patterns here"),
        ({"blocklist": ["a.example:80"]}, "a host alone is needed, .*: a.example"),
    ],
)
def test_bad_configs_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        overlay_config(ScrapeConfig(), values)
    assert "\n" not in str(error.value)
