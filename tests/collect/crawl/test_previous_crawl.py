"""A crawl after a crawl: unchanged pages cost a 304, vanished ones are gone, bytes are carried."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.cdxj_index import INDEX_FILE, CdxjIndex
from components.core.errors import DataError
from components.core.store.artifact import Pages
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, Crawl, asked, config, ledger, stored, words

LATER = "2026-11-08T00:00:00Z"
MUCH_LATER = "2026-11-15T00:00:00Z"
FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64
HTML = {"Content-Type": "text/html"}
DATED = "Sun, 01 Nov 2026 00:00:00 GMT"


@pytest.fixture
def site(web: Any) -> Any:
    """One page of each kind: tagged, dated, without either, about to change, about to go."""
    names = ("tagged", "dated", "plain", "edited", "gone", "moved", "unlinked", "renamed")
    web.pages |= {
        "/": "".join(f'<a href="/{name}">{name}</a>' for name in names),
        "/tagged": (200, {**HTML, "ETag": '"v1"'}, words("tagged").encode()),
        "/dated": (200, {**HTML, "Last-Modified": DATED}, words("dated").encode()),
        "/plain": words("plain"),
        "/edited": (200, {**HTML, "ETag": '"e1"'}, words("edited").encode()),
        "/gone": words("gone"),
        "/moved": words("moved"),
        "/unlinked": (200, {**HTML, "ETag": '"u1"'}, words("unlinked").encode()),
        "/renamed": (200, {**HTML, "ETag": '"r1"'}, words("renamed").encode()),
    }
    return web


def a_week_passes(site: Any) -> None:
    names = ("tagged", "dated", "plain", "edited", "moved", "added", "renamed")
    site.pages |= {
        "/": "".join(f'<a href="/{name}">{name}</a>' for name in names),
        "/edited": (200, {**HTML, "ETag": '"e2"'}, words("edited again").encode()),
        "/moved": (301, {"Location": "/elsewhere"}, b""),
        "/elsewhere": words("moved"),
        "/added": words("added"),
        "/renamed": (200, {**HTML, "ETag": '"r2"'}, words("renamed").encode()),
    }
    del site.pages["/gone"]
    site.requests.clear()
    site.answers.clear()


def test_unchanged_pages_cost_a_304_and_vanished_ones_are_gone(site: Any, crawl: Crawl) -> None:
    work, first = crawl(config(site), FIRST)
    assert {row["change"] for row in ledger(work, first).values()} == {""}
    a_week_passes(site)
    later, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    statuses = dict(site.answers)
    assert {path for path, status in site.answers if status == 304} == {
        "/tagged",
        "/dated",
        "/unlinked",
    }
    assert max(Counter(asked(site)).values()) == 1
    rows = ledger(later, second)
    assert {name: row["change"] for name, row in rows.items()} == {
        "": "changed",
        "tagged": "same",
        "dated": "same",
        "plain": "same",  # the server knows no better, its bytes say so
        "edited": "changed",
        "gone": "gone",
        "moved": "moved",
        "elsewhere": "new",
        "added": "new",
        "unlinked": "same",  # nothing links to it any more, and it is there
        "renamed": "same",
    }
    assert statuses["/gone"] == 404
    assert rows["gone"]["reason"] == "HTTP 404"
    assert rows["tagged"]["status"] == 304
    assert rows["renamed"]["etag"] == '"r2"'  # asked for by its new tag the next time
    assert second.stats["unchanged"] == 5
    assert second.stats["gone"] == 1


def test_a_recrawl_holds_every_page_whole(site: Any, crawl: Crawl, tmp_path: Path) -> None:
    crawl(config(site), FIRST)
    a_week_passes(site)
    later, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    found = stored(later, second)
    assert found[f"{site.url}/tagged"].body == words("tagged").encode()
    assert found[f"{site.url}/tagged"].date == NOW  # when the bytes came
    assert found[f"{site.url}/edited"].body == words("edited again").encode()
    assert found[f"{site.url}/edited"].date == LATER
    kinds = records(later, second, f"{site.url}/tagged")
    assert [kind for kind, _ in kinds] == ["response", "revisit", "request"]
    revisit = kinds[1][1]
    assert revisit["WARC-Profile"].endswith("/revisit/server-not-modified")
    assert revisit["WARC-Refers-To"] == kinds[0][1]["WARC-Record-ID"]
    assert (revisit["WARC-Date"], revisit["WARC-Refers-To-Date"]) == (LATER, NOW)
    assert kinds[2][1]["WARC-Concurrent-To"] == revisit["WARC-Record-ID"]
    same_bytes = records(later, second, f"{site.url}/plain")[1][1]
    assert same_bytes["WARC-Profile"].endswith("/revisit/identical-payload-digest")


def records(work: Workdir, pages: Pages, url: str) -> list[tuple[str, dict[str, str]]]:
    """(kind, WARC headers) of one page's records, in order."""
    found = []
    for shard in sorted(work.artifact_folder(pages).glob("*.warc.gz")):
        with shard.open("rb") as stream:
            for record in ArchiveIterator(stream, parse_http=False):
                if record.headers.get("WARC-Target-URI") == url:
                    found.append((str(record.record_type), dict(record.headers.items())))
    return found


def test_a_third_crawl_carries_from_the_second(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    a_week_passes(site)
    crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    site.answers.clear()
    work, third = crawl(config(site, as_of=MUCH_LATER, previous=SECOND), THIRD)
    rows = ledger(work, third)
    assert "gone" not in rows  # it was gone a crawl ago
    assert rows["edited"]["change"] == rows["renamed"]["change"] == "same"
    not_modified = {path for path, status in site.answers if status == 304}
    assert not_modified == {"/tagged", "/dated", "/unlinked", "/edited", "/renamed"}
    assert stored(work, third)[f"{site.url}/tagged"].date == NOW


def test_the_same_recrawl_gives_the_same_bytes(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    a_week_passes(site)
    once = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)[1]
    twice = crawl(config(site, as_of=LATER, previous=FIRST), THIRD)[1]
    assert once.digest == twice.digest


def test_headers_of_a_304_count(web: Any, crawl: Crawl) -> None:
    page = words("mine").encode()
    web.pages |= {"/": '<a href="/a">a</a>' + LONG, "/a": (200, {**HTML, "ETag": '"1"'}, page)}
    work, first = crawl(config(web), FIRST)
    assert ledger(work, first)["a"]["reason"] == ""
    web.pages["/a"] = (200, {**HTML, "ETag": '"1"', "X-Robots-Tag": "noai"}, page)
    later, second = crawl(config(web, as_of=LATER, previous=FIRST), SECOND)
    assert dict(web.answers)["/a"] == 304
    assert ledger(later, second)["a"]["reason"].startswith("opted out: noai")
    assert f"{web.url}/a" not in stored(later, second)


def test_an_earlier_crawl_that_is_gone_is_one_line(web: Any, crawl: Crawl) -> None:
    web.pages["/"] = LONG
    with pytest.raises(DataError, match=r"scrape\.previous: crawl 111111111111.* --refresh"):
        crawl(config(web, previous=FIRST), SECOND)
    assert web.requests == []


def test_a_damaged_copy_is_fetched_anew(web: Any, crawl: Crawl, tmp_path: Path) -> None:
    web.pages["/"] = (200, {**HTML, "ETag": '"1"'}, LONG.encode())
    crawl(config(web, shards=1), FIRST)
    archive = tmp_path / "store/sealed" / FIRST / "00000.warc.gz"
    archive.chmod(0o644)
    archive.write_bytes(b"\0" * archive.stat().st_size)
    work, second = crawl(config(web, as_of=LATER, previous=FIRST, shards=1), SECOND)
    assert stored(work, second)[f"{web.url}/"].body == LONG.encode()
    assert ledger(work, second)[""]["change"] == "changed"


def test_a_forgotten_page_leaves_no_record_behind(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    a_week_passes(site)
    later, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    assert len(records(later, second, f"{site.url}/tagged")) == 3
    forgotten = config(site, as_of=LATER, repeats=SECOND, blocklist=[f"{site.url}/tagged"])
    work, third = crawl(forgotten, THIRD)
    assert records(work, third, f"{site.url}/tagged") == []
    index = CdxjIndex(work.artifact_folder(third) / INDEX_FILE)
    assert index.find_captures(f"{site.url}/tagged") == []
    assert len(index.find_captures(f"{site.url}/dated")) == 2
    row = ledger(work, third)["tagged"]
    assert (row["reason"], row["change"], row["optouts"]) == ("on the blocklist", "", [])


def test_the_index_says_where_every_page_lies(site: Any, crawl: Crawl) -> None:
    crawl(config(site), FIRST)
    a_week_passes(site)
    work, second = crawl(config(site, as_of=LATER, previous=FIRST), SECOND)
    folder = work.artifact_folder(second)
    lines = (folder / INDEX_FILE).read_bytes().splitlines()
    assert lines == sorted(lines)
    for line in lines:
        told = json.loads(line.split(b" ", 2)[2])
        whole = (folder / told["filename"]).read_bytes()
        member = whole[int(told["offset"]) :][: int(told["length"])]
        head = gzip.decompress(member).partition(b"\r\n\r\n")[0]
        assert f"WARC-Target-URI: {told['url']}".encode() in head
        assert told["digest"].encode() in head
    found = CdxjIndex(folder / INDEX_FILE).find_captures(f"{site.url}/tagged")
    assert [(c.moment, c.mime) for c in found] == [
        ("20261101000000", "text/html"),
        ("20261108000000", "warc/revisit"),
    ]
    assert CdxjIndex(folder / INDEX_FILE).find_captures(f"{site.url}/nowhere") == []


def record(crawled: ScrapeConfig, key: str = "") -> dict[str, Any]:
    artifact = {"artifact": {"name": f"sealed/{key}"}} if key else {}
    return {"config": crawled.model_dump(mode="json"), **artifact}


WEB = ScrapeConfig(seeds=["https://a.example/"])


def test_a_new_crawl_compares_itself_with_the_newest_sealed_one() -> None:
    old = record(WEB.model_copy(update={"as_of": "2026-10-01T00:00:00Z"}), FIRST)
    new = record(WEB.model_copy(update={"as_of": NOW, "previous": FIRST}), SECOND)
    half = record(WEB.model_copy(update={"as_of": "2026-11-02T00:00:00Z", "previous": SECOND}))
    asked_for = resolve_crawl(WEB, [old, new], True, LATER)
    assert (asked_for.as_of, asked_for.previous) == (LATER, SECOND)
    assert resolve_crawl(WEB, [old, new, half], True, LATER).previous == SECOND
    # Without a refresh the unfinished one is gone on with, as it was begun.
    begun = resolve_crawl(WEB, [old, new, half], False, LATER)
    assert (begun.as_of, begun.previous) == ("2026-11-02T00:00:00Z", SECOND)
    # Not where what it rests on is gone.
    assert resolve_crawl(WEB, [old, half], False, LATER).as_of == "2026-10-01T00:00:00Z"
    other = WEB.model_copy(update={"max_pages": 7})
    assert resolve_crawl(other, [old, new], True, LATER).previous == ""


def test_a_night_compares_itself_with_the_night_before() -> None:
    given = WEB.model_copy(update={"as_of": LATER})
    before = record(WEB.model_copy(update={"as_of": NOW}), FIRST)
    after = record(WEB.model_copy(update={"as_of": MUCH_LATER}), SECOND)
    assert resolve_crawl(given, [before, after], False, MUCH_LATER).previous == FIRST


def test_the_embedded_site_is_crawled_whole() -> None:
    site = ScrapeConfig()
    before = record(site.model_copy(update={"as_of": NOW}), FIRST)
    assert resolve_crawl(site, [before], True, LATER).previous == ""
