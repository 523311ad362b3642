"""Pages from files of every kind, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.extract import ExtractConfig, extract
from components.collect.scrape import scrape
from components.collect.scrape_config import FILES_DATE, ScrapeConfig
from components.collect.warc.page_shards import WebPage, write_shards
from components.core.errors import ConfigError, DataError
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.lineage.page_history import PageQuery
from tests.collect.crawling import LONG, NOW, config, fresh, ledger, stored

HEADERS = (("content-type", "text/html"),)


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
    shards = crawled.artifact_folder(scrape(config(web, shards=1), crawled))
    globs = [f"{folder}/**/*", f"{shards}/*.warc.gz"]
    work = fresh(tmp_path, "files")
    fixed = resolve_crawl(ScrapeConfig(files=globs), [], False, NOW)
    assert fixed.as_of == FILES_DATE
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


def test_documents_of_earlier_files_are_older(tmp_path: Path) -> None:
    """As the list was given; what has a date of its own comes after all of them."""
    folder = tmp_path / "docs"
    (folder / "b").mkdir(parents=True)
    for name in ("z", "b/x", "b/y", "a"):
        (folder / f"{name}.txt").write_text(LONG + name)
    (folder / "c.jsonl").write_text(json.dumps({"text": LONG, "url": "http://a.example/row"}))
    archived = fresh(tmp_path, "archive")
    page = WebPage("http://a.example/", LONG.encode(), "text/html", "", HEADERS, date=NOW)
    write_shards(archived.folder, [page], 1, NOW)
    globs = ["z.txt", "b/*.txt", "*.txt", "c.jsonl", f"{archived.folder}/*.warc.gz"]
    fixed = resolve_crawl(ScrapeConfig(files=globs, folder=str(folder)), [], False, NOW)
    crawled, work = fresh(tmp_path, "store"), fresh(tmp_path, "store")
    corpus = extract(ExtractConfig(), scrape(fixed, crawled), work)
    rows = read_shards(work.artifact_folder(corpus), ["url", "ordinal"]).to_pylist()
    ordinals = {row["url"].rpartition("/")[2]: row["ordinal"] for row in rows}
    assert ordinals == {"z.txt": 0, "x.txt": 1, "y.txt": 2, "a.txt": 3, "row": 4, "": 5}


def test_a_rows_title_is_its_documents_title(tmp_path: Path) -> None:
    titles: list[Any] = ["Brücken\r\nX: y \ud800 橋", None, 7, "", "t" * 5000]
    rows = [{"text": f"# Own {n}\n\n{LONG}", "title": t} for n, t in enumerate(titles)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.table({"html": [LONG], "title": ["Of Parquet"]}), tmp_path / "b.parquet")
    globs = [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.parquet"]
    crawled, work = fresh(tmp_path, "store"), fresh(tmp_path, "store")
    corpus = extract(ExtractConfig(), scrape(ScrapeConfig(files=globs), crawled), work)
    found = read_shards(work.artifact_folder(corpus), ["url", "title"]).to_pylist()
    told = {row["url"].rpartition("/")[2]: row["title"] for row in found}
    assert told == {
        "a.jsonl#1": "Brücken X: y 橋",
        "a.jsonl#2": "Own 1",
        "a.jsonl#3": "Own 2",
        "a.jsonl#4": "Own 3",
        "a.jsonl#5": "t" * 1000,
        "b.parquet#1": "Of Parquet",
    }


def test_changed_or_unknown_files_are_refused(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "x.txt").write_text("one")
    fixed = resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW)
    (tmp_path / "x.txt").write_text("two")
    assert resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW) != fixed
    with pytest.raises(DataError, match=r"x\.txt: changed since"):
        scrape(fixed, work)
    with pytest.raises(ConfigError, match="matches no file"):
        resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/*.md"]), [], False, NOW)
    (tmp_path / "y.docxx").write_text("z")
    with pytest.raises(ConfigError, match=r"y\.docxx: its kind is not known"):
        resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/y.docxx"]), [], False, NOW)
    for name in ("a", "b"):
        (tmp_path / name / "same").mkdir(parents=True)
        (tmp_path / name / "same" / "f.txt").write_text(name)
    globs = [f"{tmp_path}/a/same/*", f"{tmp_path}/b/same/*"]
    with pytest.raises(ConfigError, match=r"both be called 'same/f\.txt'"):
        resolve_crawl(ScrapeConfig(files=globs), [], False, NOW)
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{oops\n')
    broken = resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/bad.jsonl"]), [], False, NOW)
    with pytest.raises(DataError, match=r"1 of 2 pages failed .*bad\.jsonl#2: no JSON"):
        scrape(broken, work)
    lenient = broken.model_copy(update={"max_failed_share": 0.5})
    pages = scrape(lenient, work)
    rows = [row["reason"].partition(":")[0] for row in ledger(work, pages).values()]
    assert rows == ["", "no JSON"]


def test_no_page_at_all_is_an_error(tmp_path: Path, work: Workdir) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"no page came from .* an empty page"):
        scrape(resolve_crawl(ScrapeConfig(files=[f"{tmp_path}/x.txt"]), [], False, NOW), work)


def test_rows_of_one_address_are_documents_of_their_own(tmp_path: Path) -> None:
    url = "https://wiki.example/A"
    texts = [f"# Section {number}\n\n{LONG}" for number in range(3)]
    rows = [json.dumps({"url": url, "text": text}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    crawled, work = fresh(tmp_path, "store"), fresh(tmp_path, "store")
    pages = scrape(ScrapeConfig(files=[f"{tmp_path}/a.jsonl"]), crawled)
    assert pages.stats["pages"] == 3
    assert pages.stats["bytes"] == sum(len(text.encode()) for text in texts)
    corpus = extract(ExtractConfig(), pages, work)
    documents = read_shards(work.artifact_folder(corpus), ["url", "title"]).to_pylist()
    assert {row["url"] for row in documents} == {url}
    assert {row["title"] for row in documents} == {f"Section {number}" for number in range(3)}


def test_front_matter_gives_title_and_date(tmp_path: Path) -> None:
    fronts = {
        "yaml": "---\ntitle: Of front\ndate: 2024-01-02T10:00:00Z\ntags: [a, b]\n---\n",
        "toml": '+++\ntitle = "Of front"\ndate = 2024-01-02\n+++\n',
        "none": "",
        "odd": "---\ntitle: Of front\ndate: 2024-99-02\n---\n",
    }
    for name, front in fronts.items():
        text = f"{front}\n# Own title\n\n<!-- hidden -->\n{'Words of the page. ' * 20}\n"
        (tmp_path / f"{name}.md").write_text(text)
    crawled, work = fresh(tmp_path, "store"), fresh(tmp_path, "store")
    corpus = extract(
        ExtractConfig(), scrape(ScrapeConfig(files=[f"{tmp_path}/*.md"]), crawled), work
    )
    rows = read_shards(work.artifact_folder(corpus), ["url", "title", "date", "text"]).to_pylist()
    facts = {row["url"].rpartition("/")[2]: (row["title"], row["date"]) for row in rows}
    assert facts == {
        "yaml.md": ("Of front", "2024-01-02"),
        "toml.md": ("Of front", "2024-01-02"),
        "none.md": ("Own title", ""),
        "odd.md": ("Of front", ""),
    }
    assert all(row["text"].startswith("# Own title\n\nWords") for row in rows)


def test_parts_of_a_long_text_are_documents_and_are_traced_together(tmp_path: Path) -> None:
    text = "".join(f"# Chapter {number}\n\n{LONG}\n\n" for number in range(20))
    (tmp_path / "book.md").write_text(text)
    crawled, work = fresh(tmp_path, "store"), fresh(tmp_path, "store")
    config = ScrapeConfig(files=[f"{tmp_path}/book.md"], part_bytes=4000)
    corpus = extract(ExtractConfig(), scrape(config, crawled), work)
    table = read_shards(work.artifact_folder(corpus), ["id", "url"])
    name = f"file:///{tmp_path.name}/book.md"
    parts = PageQuery.parse(name).select_rows(table)
    assert len(parts) == table.num_rows > 2
    assert {row["url"] for row in parts} >= {name, f"{name}#part-2"}
