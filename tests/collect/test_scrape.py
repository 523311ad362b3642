"""The crawl over real HTTP: bounds, manners, refusals, repeatability and resuming."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.collect import guard
from components.collect.scrape import NO_DATE, ScrapeConfig, resolve, scrape
from components.collect.site import SiteConfig
from components.collect.warc import WebPage, read_pages
from components.core.artifact import Pages
from components.core.config import overlay
from components.core.errors import ConfigError, DataError, TransientError
from components.core.workdir import Workdir

NOW = "2026-11-01T00:00:00Z"
LONG = "<p>" + "Some words that say something. " * 20 + "</p>"


def config(web: Any, **fields: Any) -> ScrapeConfig:
    """A crawl of the test's site, quick to give up."""
    values = {
        "as_of": NOW,
        "seeds": [f"{web.url}/"],
        "allow_private": True,
        "delay_seconds": 0,
        "retries": 0,
        "backoff_seconds": 0.01,
        "max_failed_share": 1,
        "shards": 2,
    }
    return ScrapeConfig(**{**values, **fields})


def ledger(work: Workdir, pages: Pages) -> dict[str, dict[str, Any]]:
    """Rows of the fetch ledger by path."""
    rows = pq.ParquetFile(work.path(pages) / "ledger.parquet").read().to_pylist()
    assert [row["url"] for row in rows] == sorted(row["url"] for row in rows)
    return {row["url"].partition("://")[2].partition("/")[2]: row for row in rows}


def stored(work: Workdir, pages: Pages) -> dict[str, WebPage]:
    """Pages of the WARC shards by URL."""
    shards = sorted(work.path(pages).glob("*.warc.gz"))
    return {page.url: page for shard in shards for page in read_pages(shard)}


def fresh(tmp_path: Path, name: str) -> Workdir:
    return Workdir.temporary(tmp_path / name)


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
    assert set(rows) == {"", "one", "two", "no/x", "blocked/page", "mapped?a=1&b=2"}
    assert rows["no/x"]["reason"] == "robots.txt forbids it"
    assert rows["blocked/page"]["reason"] == "on the blocklist"
    assert rows["mapped?a=1&b=2"]["reason"] == "its robots directives forbid indexing"
    assert len(stored(work, pages)) == 3
    asked = [path for path in web.requests if path not in ("/robots.txt", "/sitemap.xml")]
    assert sorted(asked) == ["/", "/mapped?a=1&b=2", "/one", "/two"]


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
        "/loop": (302, {"Location": "/loop2"}, b""),
        "/loop2": (302, {"Location": "/loop"}, b""),
        "/self": (302, {"Location": "/self"}, b""),
        "/broken": (200, {**html, "Content-Encoding": "gzip"}, b"no gzip at all"),
        "/empty": "",
        "/good": LONG,
    }
    pages = scrape(config(web, max_bytes=20_000, page_seconds=2.5, max_redirects=2), work)
    done.set()
    reasons = {name: row["reason"] for name, row in ledger(work, pages).items()}
    assert reasons["good"] == ""
    assert reasons["hang"] == "took more than 2.5 s"
    assert reasons["huge"] == reasons["said"] == reasons["bomb"] == "larger than 20000 bytes"
    assert len(sent) < 60  # hung up on long before its 100 MB
    assert reasons["image"] == "no page: image/png"
    assert reasons["pdf"] == "no page: its content is binary"
    assert reasons["a1"] == f"redirects to {web.url}/a2"
    assert reasons["a3"] == "more than 2 redirects"
    assert reasons["away"] == "redirects to http://elsewhere.example/"
    assert reasons["loop2"] == reasons["self"] == "redirects in a loop"
    assert reasons["broken"].startswith("its encoding is broken")
    assert reasons["empty"] == "an empty page"
    assert reasons["gone"] == "HTTP 404"
    assert [url for url in stored(work, pages) if "elsewhere" in url or "loop" in url] == []


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


def test_failures_are_tried_again_as_the_server_asks(work: Workdir, web: Any) -> None:
    moments: list[float] = []

    def busy(handler: BaseHTTPRequestHandler) -> None:
        moments.append(time.monotonic())
        if len(moments) < 3:
            handler.send_response(503)
            handler.send_header("Retry-After", "1")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>hi</p>"
            )

    web.pages["/"] = busy
    pages = scrape(config(web, retries=3), work)
    assert ledger(work, pages)[""]["status"] == 200
    assert len(moments) == 3
    assert min(b - a for a, b in itertools.pairwise(moments)) >= 0.95


def test_pace_of_a_host(work: Workdir, web: Any) -> None:
    moments: list[float] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        moments.append(time.monotonic())
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<p>x</p>"
        )

    rules = b"User-agent: *\nCrawl-delay: 0.2\n"
    web.pages |= {f"/{number}": page for number in range(4)}
    web.pages["/robots.txt"] = (200, {"Content-Type": "text/plain"}, rules)
    web.pages["/"] = "".join(f'<a href="/{number}">x</a>' for number in range(4))
    scrape(config(web), work)
    assert len(moments) == 4
    assert min(b - a for a, b in itertools.pairwise(moments)) >= 0.18


def test_private_addresses_are_refused(work: Workdir, web: Any) -> None:
    web.pages["/"] = LONG
    named = web.url.replace("127.0.0.1", "localhost")
    for seed in (web.url, named):
        with pytest.raises(DataError, match=r"seed .* refused: .* leads to the private address"):
            scrape(config(web, seeds=[seed], allow_private=False), work)
    assert web.requests == []  # no connection was made


def test_a_redirect_or_a_name_that_leads_inside_is_refused(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = web.server.server_port
    web.pages |= {
        "/": '<a href="/in">in</a><a href="/ok">ok</a>',
        "/in": (302, {"Location": f"http://127.0.0.2:{port}/secret"}, b""),
        "/ok": LONG,
    }
    # As if 127.0.0.1 were a public address: only the one that is redirected to is private.
    plain = guard.is_public
    monkeypatch.setattr(guard, "is_public", lambda ip: ip == "127.0.0.1" or plain(ip))
    pages = scrape(config(web, allow_private=False, hosts=["127.0.0.2"]), work)
    rows = ledger(work, pages)
    assert "leads to the private address 127.0.0.2" in rows["secret"]["reason"]
    assert "/secret" not in web.requests
    assert rows["ok"]["reason"] == ""


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert guard.is_public(address) is public


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


CRAWL = """
import sys
from pathlib import Path
from components.collect.scrape import ScrapeConfig, scrape
from components.core.artifact import Lineage
from components.core.workdir import Workdir
work = Workdir(Path(sys.argv[1]), "key", Lineage(component="c", code="", config=""))
print(scrape(ScrapeConfig.model_validate_json(sys.argv[2]), work).digest)
"""


def test_kill_in_mid_crawl_then_resume(tmp_path: Path, web: Any) -> None:
    served = threading.Semaphore(0)

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        body = f"<p>{handler.path}</p>{LONG}".encode()
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        served.release()

    paths = [f"/page{number}" for number in range(60)]
    web.pages |= dict.fromkeys(paths, slowly)
    web.pages["/"] = "".join(f'<a href="{path}">x</a>' for path in paths)
    crawl = config(web, concurrency=4)

    def start(store: str) -> subprocess.Popen[str]:
        arguments = [str(tmp_path / store), crawl.model_dump_json()]
        return subprocess.Popen(
            [sys.executable, "-c", CRAWL, *arguments], stdout=subprocess.PIPE, text=True
        )

    killed = start("killed")
    for _ in range(25):
        assert served.acquire(timeout=30)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(0.2)
    before = list(web.requests)
    assert 25 <= len([path for path in before if path in paths]) < 60
    resumed, _ = start("killed").communicate(timeout=60)
    after = web.requests[len(before) :]
    twice = [path for path in after if path in before]
    assert len(twice) <= crawl.concurrency  # those under way at the kill, and none that was stored
    unbroken, _ = start("unbroken").communicate(timeout=60)
    assert resumed == unbroken != ""


def test_a_killed_stage_leaves_no_renderer_behind(tmp_path: Path) -> None:
    site = ScrapeConfig(as_of=NOW, embedded=SiteConfig(packages=["stdlib"]))
    process = subprocess.Popen([sys.executable, "-c", CRAWL, str(tmp_path), site.model_dump_json()])
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


def test_files_of_every_kind(tmp_path: Path, web: Any) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.html").write_text(f"<title>A</title><main>{LONG}</main>")
    (folder / "deep" / "b.md").write_text("# B\n\ntext of b")
    (folder / "c.txt").write_text("plain words")
    (folder / "empty.txt").write_text(" \n")
    rows = [{"text": "first row"}, {"url": "http://x.example/2", "content": "second row"}]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.table({"text": ["parquet row"], "n": [1]}), folder / "e.parquet")
    web.pages["/"] = LONG
    crawled = fresh(tmp_path, "crawl")
    shards = crawled.path(scrape(config(web, shards=1), crawled))
    globs = [f"{folder}/**/*", f"{shards}/*.warc.gz"]
    work = fresh(tmp_path, "files")
    fixed = resolve(ScrapeConfig(files=globs), [], False, NOW)
    assert fixed.as_of == NO_DATE
    assert set(fixed.digests) >= {"docs/a.html", "docs/deep/b.md"}
    pages = scrape(fixed, work)
    found = {url: page.body for url, page in stored(work, pages).items()}
    assert found["file:///docs/deep/b.md"] == b"# B\n\ntext of b"
    assert found["file:///docs/d.jsonl#1"] == b"first row"
    assert found["http://x.example/2"] == b"second row"
    assert found["file:///docs/e.parquet#1"] == b"parquet row"
    assert found[f"{web.url}/"] == LONG.encode()
    assert not [url for url in found if str(tmp_path) in url]
    assert ledger(work, pages)["docs/empty.txt"]["reason"] == "an empty page"
    again = fresh(tmp_path, "again")
    assert scrape(fixed, again).digest == pages.digest


def test_changed_or_unknown_files_are_refused(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "x.txt").write_text("one")
    fixed = resolve(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW)
    (tmp_path / "x.txt").write_text("two")
    assert resolve(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW) != fixed
    with pytest.raises(DataError, match=r"x\.txt: changed since"):
        scrape(fixed, work)
    with pytest.raises(ConfigError, match="matches no file"):
        resolve(ScrapeConfig(files=[f"{tmp_path}/*.md"]), [], False, NOW)
    (tmp_path / "y.docx").write_text("z")
    with pytest.raises(ConfigError, match=r"y\.docx: its kind is not known"):
        resolve(ScrapeConfig(files=[f"{tmp_path}/y.docx"]), [], False, NOW)
    for name in ("a", "b"):
        (tmp_path / name / "same").mkdir(parents=True)
        (tmp_path / name / "same" / "f.txt").write_text(name)
    globs = [f"{tmp_path}/a/same/*", f"{tmp_path}/b/same/*"]
    with pytest.raises(ConfigError, match=r"both be called 'same/f\.txt'"):
        resolve(ScrapeConfig(files=globs), [], False, NOW)
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{oops\n')
    broken = resolve(ScrapeConfig(files=[f"{tmp_path}/bad.jsonl"]), [], False, NOW)
    with pytest.raises(DataError, match=r"1 of 2 pages failed .*bad\.jsonl#2: no JSON"):
        scrape(broken, work)
    lenient = broken.model_copy(update={"max_failed_share": 0.5})
    pages = scrape(lenient, work)
    rows = [row["reason"].partition(":")[0] for row in ledger(work, pages).values()]
    assert rows == ["", "no JSON"]


def test_no_page_at_all_is_an_error(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"no page came from .* an empty page"):
        scrape(resolve(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW), work)


def test_resolve_takes_the_newest_crawl_of_the_same_config() -> None:
    asked = ScrapeConfig(seeds=["https://a.example/"], max_pages=7)
    old, new = "2026-10-01T00:00:00Z", "2026-10-05T00:00:00Z"

    def record(config: ScrapeConfig, as_of: str) -> dict[str, Any]:
        return {"config": config.model_copy(update={"as_of": as_of}).model_dump(mode="json")}

    other = asked.model_copy(update={"max_pages": 8})
    earlier = [record(other, "2026-10-09T00:00:00Z"), record(asked, new), record(asked, old)]
    assert resolve(asked, earlier, False, NOW) == asked.model_copy(update={"as_of": new})
    assert resolve(asked, earlier, True, NOW).as_of == NOW
    assert resolve(asked, [], False, NOW).as_of == NOW
    given = asked.model_copy(update={"as_of": old})
    assert resolve(given, earlier, True, NOW) == given


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": ["ftp://a.example/"]}, "no http:// or https:// address"),
        ({"seeds": ["https://user:pass@a.example/"]}, "no http:// or https:// address"),
        ({"sources": "web"}, "sources: web needs seeds"),
        ({"sources": "files"}, "sources: files needs files"),
        ({"seeds": ["http://a.example"], "files": ["x"]}, "say which with sources"),
        ({"max_pages": 0}, "given 0: must be at least 1"),
        ({"user_agent": "bad\r\nX: y"}, "must be text of the form"),
        ({"max_page": 3}, "did you mean 'max_pages'"),
    ],
)
def test_bad_configs_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        overlay(ScrapeConfig(), values)
    assert "\n" not in str(error.value)
