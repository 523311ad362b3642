"""WARC files of others: whole, cut off, full of garbage, lying, exploding."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc import damaged_stream
from components.collect.warc.archive_reader import SkippedRecord, read_archive_pages
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver
from components.core.errors import DataError
from components.core.store.artifact import Pages
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, config, fresh, ledger, stored, words

MB = 1_000_000


def record(
    url: str, body: bytes, *headers: str, kind: str = "response", status: str = "200 OK"
) -> bytes:
    """A response as other tools write it."""
    head = [f"HTTP/1.1 {status}", *(headers or ["Content-Type: text/html"])]
    block = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    media = "application/http; msgtype=response"
    return warc(kind, url, block, media)


def warc(kind: str, url: str, block: bytes, media: str, *more: str, length: Any = None) -> bytes:
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Target-URI: {url}",
        "WARC-Date: 2020-02-03T04:05:06Z",
        f"Content-Type: {media}",
        *more,
        f"Content-Length: {len(block) if length is None else length}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


A, B, C = (record(f"http://a.example/{name}", words(name).encode()) for name in "abc")


def packed(*records: bytes) -> bytes:
    return b"".join(map(gzip.compress, records))


def found(tmp_path: Path, content: bytes, name: str = "x.warc") -> tuple[list[str], list[str]]:
    """(last letters of the pages' addresses, reasons of what gave none)."""
    path = tmp_path / name
    path.write_bytes(content)
    things = list(read_archive_pages(path, MB, RevisitResolver(tmp_path)))
    pages = [t.url.rpartition("/")[2] for t in things if isinstance(t, WebPage)]
    return pages, [t.reason for t in things if isinstance(t, SkippedRecord)]


def test_whole_files(tmp_path: Path) -> None:
    assert found(tmp_path, A + B + C) == (["a", "b", "c"], [])
    assert found(tmp_path, packed(A, B, C), "x.warc.gz") == (["a", "b", "c"], [])
    assert found(tmp_path, gzip.compress(A + B + C), "y.warc.gz") == (["a", "b", "c"], [])
    things = list(read_archive_pages(tmp_path / "x.warc", MB, RevisitResolver(tmp_path)))
    assert isinstance(things[0], WebPage)
    assert things[0].body == words("a").encode()
    assert things[0].date == "2020-02-03T04:05:06Z"


def test_cut_off_files(tmp_path: Path) -> None:
    for cut in (30, 100, len(C) - 20):
        pages, reasons = found(tmp_path, (A + B + C)[:-cut])
        assert pages == ["a", "b"]
        assert len(reasons) == 1
    pages, reasons = found(tmp_path, packed(A, B, C)[:-50], "x.warc.gz")
    assert (pages, reasons) == (["a", "b"], ["its gzip member is cut off"])


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"\0\xff" * 5000, b"WARC/7\r\n", b"x" * 99]
)
def test_garbage_between_records(tmp_path: Path, garbage: bytes) -> None:
    if not garbage.endswith(b"\n"):
        garbage += b"\n"
    pages, reasons = found(tmp_path, A + garbage + B + C)
    assert pages == ["a", "b", "c"] or pages == ["b", "c"]
    assert len(reasons) == 1


def test_a_broken_member_costs_its_record_alone(tmp_path: Path) -> None:
    whole = bytearray(packed(A, B, C))
    start = len(packed(A))
    whole[start + 40 : start + 60] = b"\0" * 20
    pages, reasons = found(tmp_path, bytes(whole), "x.warc.gz")
    assert (pages, reasons[0]) == (["a", "c"], "its gzip member is broken")
    pages, _ = found(tmp_path, packed(A) + b"junk" * 50 + packed(B, C), "y.warc.gz")
    assert pages == ["a", "b", "c"]


@pytest.mark.parametrize("length", ["-1", "99999999999999999999999", "many", ""])
def test_a_length_that_is_none(tmp_path: Path, length: str) -> None:
    lying = warc("resource", "http://a.example/x", b"<p>x", "text/html", length=length)
    pages, reasons = found(tmp_path, A + lying + B)
    assert pages == ["a", "b"]
    assert reasons[0] == "it does not say how long it is"


@pytest.mark.parametrize("off", [-3, 6, 200, 10**9])
def test_a_length_that_is_wrong_costs_its_record_alone(tmp_path: Path, off: int) -> None:
    body = words("x").encode()
    lying = warc("resource", "http://a.example/x", body, "text/html", length=len(body) + off)
    pages, reasons = found(tmp_path, A + lying + B + C)
    assert pages in (["a", "b", "c"], ["a", "c"])
    assert reasons[0] in ("its length is wrong", "it is cut off")


def test_a_digest_that_is_another(tmp_path: Path) -> None:
    digest = f"WARC-Block-Digest: sha1:{'A' * 32}"
    wrong = warc("resource", "http://a.example/x", b"<p>x", "text/html", digest)
    assert found(tmp_path, A + wrong + B) == (["a", "b"], ["its digest is another"])


def test_payloads_in_every_encoding(tmp_path: Path) -> None:
    text = words("text").encode()
    html = "Content-Type: text/html"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)
    raw = zlib.compressobj(wbits=-15)
    deflated = raw.compress(text) + raw.flush()
    cases = {
        "gzip": (gzip.compress(text), html, "Content-Encoding: gzip"),
        "deflate": (deflated, html, "Content-Encoding: deflate"),
        "chunked": (chunked, html, "Transfer-Encoding: chunked"),
        "unchunked": (text, html, "Transfer-Encoding: chunked"),
        "unpacked": (text, html, "Content-Encoding: gzip"),
        "unbrotlied": (text, html, "Content-Encoding: br"),
    }
    content = b"".join(
        record(f"http://a.example/{name}", body, *headers)
        for name, (body, *headers) in cases.items()
    )
    path = tmp_path / "x.warc"
    path.write_bytes(content)
    bodies = {
        t.url.rpartition("/")[2]: t.body
        for t in read_archive_pages(path, MB, RevisitResolver(tmp_path))
    }  # type: ignore[union-attr]
    assert bodies == dict.fromkeys(cases, text)


def test_bombs_cost_their_record_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = record(
        "http://a.example/x",
        gzip.compress(b"\0" * 50 * MB),
        "Content-Type: text/html",
        "Content-Encoding: gzip",
    )
    pages, reasons = found(tmp_path, packed(inner, A), "x.warc.gz")
    assert (pages, reasons) == (["a"], [f"larger than {MB} bytes (scrape.max_bytes)"])
    monkeypatch.setattr(damaged_stream, "_BOMB_BYTES", 10 * MB)
    outer = warc("resource", "http://a.example/x", b"\0" * 50 * MB, "text/html")
    pages, reasons = found(tmp_path, packed(outer, A), "y.warc.gz")
    assert (pages, reasons) == (["a"], [f"unpacks to more than {10 * MB} bytes"])


def test_what_is_no_page(tmp_path: Path) -> None:
    content = b"".join(
        [
            record("http://a.example/i", b"\x89PNG", "Content-Type: image/png"),
            record("http://a.example/gone", b"gone", status="404 Not Found"),
            warc("request", "http://a.example/a", b"GET / HTTP/1.1\r\n\r\n", "application/http"),
            warc("metadata", "http://a.example/a", b"x: y", "application/warc-fields"),
            warc("response", "dns:a.example", b"1.2.3.4", "text/dns"),
            warc("response", "http://a.example/x", b"no http", "application/http"),
            warc("conversion", "http://a.example/wet", b"Text of a page.", "text/plain"),
        ]
    )
    pages, reasons = found(tmp_path, content)
    assert pages == ["wet"]
    assert reasons == [
        "no page: image/png",
        "its payload is broken: it is no HTTP response",
    ]


def test_an_empty_file_and_one_that_is_no_archive(tmp_path: Path) -> None:
    assert found(tmp_path, b"") == ([], [])
    assert found(tmp_path, b"<html>no archive</html>\n" * 9) == ([], ["no WARC record"])


def test_common_crawls_text_extracts(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "in").mkdir()
    text = ("Text of a page, line by line. " * 20).encode()
    extract = warc("conversion", "http://a.example/t", text, "text/plain")
    (tmp_path / "in/CC-MAIN-2026.warc.wet.gz").write_bytes(packed(extract))
    assert stored(work, crawl_files(tmp_path, work))["http://a.example/t"].body == text


def crawl_files(tmp_path: Path, work: Workdir, **fields: Any) -> Pages:
    files = [f"{tmp_path}/in/*"]
    return scrape(resolve_crawl(ScrapeConfig(files=files, **fields), [], False, NOW), work)


def test_bad_records_are_entered_and_their_share_is_bounded(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.warc").write_bytes(A + b"garbage\r\n" + B + C)
    pages = crawl_files(tmp_path, work, max_failed_share=0.3)
    rows = ledger(work, pages)
    assert pages.stats["pages"] == 3
    assert rows[f"/in/x.warc#byte-{len(A)}".lstrip("/")]["reason"] == "no WARC record"
    again = fresh(tmp_path, "again")
    assert crawl_files(tmp_path, again, max_failed_share=0.3).digest == pages.digest
    with pytest.raises(DataError, match=r"1 of 4 pages failed .*x\.warc#byte-\d+: no WARC record"):
        crawl_files(tmp_path, fresh(tmp_path, "strict"), max_failed_share=0.1)


def test_optouts_of_pages_in_files(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "in").mkdir()
    tagged = record(
        "http://a.example/x", words("x").encode(), "Content-Type: text/html", "X-Robots-Tag: noai"
    )
    (tmp_path / "in/x.warc").write_bytes(A + tagged)
    meta = f'<meta name="tdm-reservation" content="1">{LONG}'
    (tmp_path / "in/y.html").write_text(meta)
    pages = crawl_files(tmp_path, work)
    rows = ledger(work, pages)
    assert rows["x"]["reason"].startswith("opted out: noai")
    assert rows["in/y.html" if "in/y.html" in rows else "/in/y.html"]["reason"].startswith(
        "opted out: tdmrep"
    )
    assert set(stored(work, pages)) == {"http://a.example/a"}
    lenient = fresh(tmp_path, "record")
    kept = crawl_files(tmp_path, lenient, optouts=OptoutConfig(policy="record"))
    assert kept.stats["pages"] == 3


def test_robots_files_in_archives_speak_for_their_sites(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "in").mkdir()
    robots = b"User-agent: CCBot\nDisallow: /b\n"
    text = "Content-Type: text/plain"
    rules = json.dumps([{"location": "/c", "tdm-reservation": 1}]).encode()
    (tmp_path / "in/pages.warc.gz").write_bytes(packed(A, B, C))
    (tmp_path / "in/robotstxt.warc.gz").write_bytes(
        packed(
            record(
                "http://a.example/robots.txt", gzip.compress(robots), text, "Content-Encoding: gzip"
            ),
            record(
                "http://a.example/.well-known/tdmrep.json", rules, "Content-Type: application/json"
            ),
            record("http://b.example/robots.txt", b"User-agent: CCBot\nDisallow: /\n", text),
        )
    )
    pages = crawl_files(tmp_path, work)
    rows = ledger(work, pages)
    assert set(stored(work, pages)) == {"http://a.example/a"}
    assert rows["b"]["reason"].startswith("opted out: robots-agent: CCBot")
    assert rows["c"]["reason"].startswith("opted out: tdmrep")
    assert rows["robots.txt"]["reason"] == "no page: a file about its site"


def test_records_longer_than_what_is_read_at_a_time(tmp_path: Path) -> None:
    """Of a member that unpacks in many pieces, the end has to be found all the same."""
    long = [record(f"http://a.example/{n}", b"<p>" + b"text " * 50_000) for n in "xyz"]
    assert found(tmp_path, packed(*long, A), "x.warc.gz") == (["x", "y", "z", "a"], [])
    assert found(tmp_path, b"".join(long) + A) == (["x", "y", "z", "a"], [])
    assert found(tmp_path, packed(*long)[:-9], "z.warc.gz")[0][:2] == ["x", "y"]


def test_rows_that_are_none(tmp_path: Path, work: Workdir) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    lines: list[Any] = [
        {"text": "good row"},
        {"text": "null \0 bytes"},
        {"url": "http://x.example/\r\nWARC-Type: resource", "text": "an address that is none"},
        {"url": "http://x.example/\ud800", "text": "half a character \ud800"},
        {"text": 7},
        ["no", "object"],
    ]
    deep = "[" * 100_000
    text = "\n".join([*map(json.dumps, lines), deep, '{"text": "cut'])
    (folder / "a.jsonl").write_text(text)
    pq.write_table(pa.table({"n": [1], "words": ["no text"]}), folder / "b.parquet")
    (folder / "c.parquet").write_bytes((folder / "b.parquet").read_bytes()[:-20])
    (folder / "d.txt").write_bytes(b"binary \0 text")
    (folder / "e.html").write_bytes("<p>na\u00efve</p>".encode("latin-1") + LONG.encode())
    pages = crawl_files(tmp_path, work, max_failed_share=1)
    rows = ledger(work, pages)
    reasons = {name.rpartition("/")[2]: row["reason"] for name, row in rows.items()}
    assert [reasons[f"a.jsonl#{number}"] for number in (1, 2, 3, 4)] == [""] * 4
    assert reasons["d.txt"] == "no page: its content is binary"
    assert reasons["a.jsonl#5"] == "its field 'text' holds no text"
    assert reasons["a.jsonl#6"] == "no object"
    assert reasons["a.jsonl#7"].startswith("no JSON")
    assert reasons["a.jsonl#8"].startswith("no JSON")
    assert reasons["b.parquet#1"].startswith("no text in a field of a known name (it has n, words)")
    assert reasons["c.parquet#1"].startswith("cannot be read as Parquet from here on")
    assert reasons["e.html"] == ""
    assert pages.stats["pages"] == 5


def test_what_we_wrote_is_read_by_the_reader_for_others(
    tmp_path: Path, work: Workdir, web: Any
) -> None:
    web.pages |= {"/": '<a href="/b">b</a>' + words("home"), "/b": words("b")}
    pages = scrape(config(web), work)
    read: list[WebPage | SkippedRecord] = []
    for shard in sorted(work.artifact_folder(pages).glob("*.warc.gz")):
        read += read_archive_pages(shard, MB, RevisitResolver(tmp_path))
    bodies = {page.url: page.body for page in read if isinstance(page, WebPage)}
    assert bodies == {url: page.body for url, page in stored(work, pages).items()}
    assert [page for page in read if isinstance(page, SkippedRecord)] == []


def test_pages_of_any_success_are_read(tmp_path: Path) -> None:
    part = "Content-Type: text/html", "Content-Range: bytes 500-999/2000"
    records = [
        record(f"http://a.example/{status[:3]}", words(status).encode(), status=status)
        for status in ("201 Created", "202 Accepted", "206 Partial Content", "204 No Content")
    ]
    late = record("http://a.example/late", words("late").encode(), *part, status="206 Part")
    (tmp_path / "a.warc.gz").write_bytes(packed(*records, late))
    read = list(read_archive_pages(tmp_path / "a.warc.gz", MB, RevisitResolver(tmp_path)))
    pages = [page.url for page in read if isinstance(page, WebPage)]
    assert pages == [f"http://a.example/{status}" for status in (201, 202, 206)]
    reasons = [skipped.reason for skipped in read if isinstance(skipped, SkippedRecord)]
    assert reasons == ["HTTP 206: bytes 500 to 999 of 2000 came"]
