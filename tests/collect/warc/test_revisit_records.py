"""Revisits in archives of others: what they stand for is found before, behind, and elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import WebPage, payload_digest
from components.core.store.artifact import Pages
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from tests.collect.crawling import NOW, fresh, stored, words
from tests.collect.warc.test_archive_reader import packed, record, warc

BODY = words("the page").encode()
DIGEST = f"WARC-Payload-Digest: {payload_digest(BODY)}"
RECORD = "<urn:uuid:11111111-2222-3333-4444-555555555555>"
THEN = "2020-02-03T04:05:06Z"
HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\n%s\r\n"
OTHER = record("http://a.example/other", words("other").encode())


def original(url: str = "http://a.example/a", *more: str, status: str = "200 OK") -> bytes:
    block = HEAD % (status.encode(), b"") + BODY
    return warc("response", url, block, "application/http", f"WARC-Record-ID: {RECORD}", *more)


def revisit(
    *refers: str, url: str = "http://b.example/b", status: bytes = b"200 OK", said: bytes = b""
) -> bytes:
    return warc("revisit", url, HEAD % (status, said), "application/http", *refers)


def read(folder: Path, *files: bytes, **fields: Any) -> tuple[dict[str, WebPage], dict[str, Any]]:
    """Pages and the ledger's reasons, by address, of files in the order of their names."""
    for index, content in enumerate(files):
        (folder / f"{index}.warc").write_bytes(content)
    work = fresh(folder, "work")
    crawl = ScrapeConfig(files=[f"{folder}/*.warc"], shards=1, **fields)
    pages = scrape(resolve_crawl(crawl, [], False, NOW), work)
    return stored(work, pages), reasons(work, pages)


def reasons(work: Workdir, pages: Pages) -> dict[str, str]:
    rows = read_shard(work.artifact_folder(pages) / "ledger.parquet").to_pylist()
    return {row["url"]: row["reason"] for row in rows}


@pytest.mark.parametrize(
    "refers",
    [
        (f"WARC-Refers-To: {RECORD}",),
        (
            "WARC-Refers-To-Target-URI: http://a.example/a",
            f"WARC-Refers-To-Date: {THEN}",
        ),
        (DIGEST,),
        (f"WARC-Payload-Digest: sha1:{'%s'}",),
        ("WARC-Refers-To: <urn:uuid:nowhere>", DIGEST),
    ],
)
@pytest.mark.parametrize("order", ["behind", "before", "in another", "in an earlier"])
def test_what_a_revisit_stands_for_is_found(
    tmp_path: Path, refers: tuple[str, ...], order: str
) -> None:
    refers = tuple(r.replace("%s", hashlib.sha1(BODY).hexdigest()) for r in refers)
    one, two = original(), revisit(*refers)
    files = {
        "behind": (two + one,),
        "before": (one + two,),
        "in another": (two + OTHER, one),
        "in an earlier": (one, two + OTHER),
    }
    pages, _ = read(tmp_path, *files[order])
    page = pages["http://b.example/b"]
    assert page.body == BODY
    assert page.content_type == "text/html"


def test_a_packed_file_is_as_good(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "x.warc.gz").write_bytes(packed(revisit(DIGEST), original()))
    crawl = ScrapeConfig(files=[f"{tmp_path}/*.warc.gz"], shards=1)
    pages = scrape(resolve_crawl(crawl, [], False, NOW), work)
    assert set(stored(work, pages)) == {"http://a.example/a", "http://b.example/b"}


@pytest.mark.parametrize(
    ("refers", "reason"),
    [
        (
            ("WARC-Refers-To: <urn:uuid:nowhere>",),
            "a revisit of a record that none of the files holds: record urn:uuid:nowhere",
        ),
        (
            (
                "WARC-Refers-To-Target-URI: http://a.example/a",
                "WARC-Refers-To-Date: 1999-02-03T04:05:06Z",
            ),
            "a revisit of a record that none of the files holds: "
            "http://a.example/a of 1999-02-03T04:05:06",
        ),
        ((), "a revisit that does not say of what"),
        # The digest of a 304's own empty payload says nothing.
        ((f"WARC-Payload-Digest: {payload_digest(b'')}",), "a revisit that does not say of what"),
        (
            (f"WARC-Refers-To: {RECORD}", f"WARC-Payload-Digest: {payload_digest(b'x')}"),
            "a revisit of a record whose payload has another digest",
        ),
    ],
)
def test_one_that_stands_for_nothing_is_set_aside(
    tmp_path: Path, refers: tuple[str, ...], reason: str
) -> None:
    pages, why = read(tmp_path, original("http://a.example/a", DIGEST) + revisit(*refers))
    assert set(pages) == {"http://a.example/a"}
    assert why["http://b.example/b"] == reason


def test_one_of_a_record_that_is_no_page(tmp_path: Path) -> None:
    gone = original(status="404 Not Found")
    pages, why = read(tmp_path, OTHER + gone + revisit(f"WARC-Refers-To: {RECORD}"))
    assert set(pages) == {"http://a.example/other"}
    assert why["http://b.example/b"] == "a revisit of a record that is no page"


def test_one_of_a_redirect_is_no_more_than_a_redirect(tmp_path: Path) -> None:
    moved = revisit(f"WARC-Refers-To: {RECORD}", status=b"301 Moved Permanently")
    _, why = read(tmp_path, original() + moved)
    assert set(why) == {"http://a.example/a"}


def test_a_revisit_of_a_revisit(tmp_path: Path) -> None:
    middle = "<urn:uuid:99999999-2222-3333-4444-555555555555>"
    second = revisit(f"WARC-Refers-To: {middle}", url="http://c.example/c")
    first = revisit(f"WARC-Refers-To: {RECORD}", f"WARC-Record-ID: {middle}")
    pages, _ = read(tmp_path, second + first + original())
    assert pages["http://c.example/c"].body == BODY
    circle = revisit(f"WARC-Refers-To: {middle}", f"WARC-Record-ID: {middle}")
    folder = tmp_path / "circle"
    folder.mkdir()
    _, why = read(folder, circle + OTHER)
    assert why["http://b.example/b"].startswith("a revisit of a record that none of the files")


def test_headers_and_dates(tmp_path: Path) -> None:
    """What came with the revisit counts for its page; the bytes are as old as they are there."""
    said = b'ETag: "new"\r\nX-Robots-Tag: noai\r\n'
    elsewhere = revisit(DIGEST, said=said).replace(THEN.encode(), b"2021-01-01T00:00:00Z")
    pages, _ = read(tmp_path, original() + elsewhere, optouts=OptoutConfig(policy="record"))
    page = pages["http://b.example/b"]
    assert dict(page.headers)["etag"] == '"new"'
    assert page.date == "2021-01-01T00:00:00Z"
    folder = tmp_path / "honour"
    folder.mkdir()
    pages, why = read(folder, original() + elsewhere)
    assert set(pages) == {"http://a.example/a"}
    assert why["http://b.example/b"].startswith("opted out: noai")


def test_one_at_the_same_address_adds_nothing(tmp_path: Path, work: Workdir) -> None:
    same = revisit(DIGEST, url="http://a.example/a").replace(THEN.encode(), b"2021-01-01T00:00:00Z")
    (tmp_path / "x.warc").write_bytes(same + original())
    crawl = ScrapeConfig(files=[f"{tmp_path}/*.warc"], shards=1)
    pages = scrape(resolve_crawl(crawl, [], False, NOW), work)
    assert pages.stats["pages"] == 1
    assert reasons(work, pages) == {"http://a.example/a": ""}
    assert stored(work, pages)["http://a.example/a"].date == THEN
