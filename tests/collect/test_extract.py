"""From pages to documents: Markdown, code word for word, quarantine, shards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.collect import extract as extract_module
from components.collect.extract import ExtractConfig, extract, extract_archive
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.warc.page_shards import WebPage, write_shards
from components.collect.web.page_links import read_page_facts
from components.core.errors import DataError
from components.core.stats.source_losses import SOURCES_FILE, AlarmConfig
from components.core.store.artifact import Corpus, Pages
from components.core.store.document_rows import DOCUMENT_SCHEMA, document_id, shard_of
from components.core.store.executor import ProcessExecutor
from components.core.store.shards import read_shard, shard_paths
from components.core.store.workdir import Workdir
from flows.runner.progress_display import key_figure

PROSE = "This sentence is here so that there is something to read on this page. " * 6


def pages_of(tmp_path: Path, bodies: dict[str, bytes | str], kind: str = "text/html") -> Pages:
    """Pages as ``scrape`` would have sealed them."""
    work = Workdir.temporary(tmp_path / "store")
    found = []
    for url, body in bodies.items():
        content = body.encode() if isinstance(body, str) else body
        digest = hashlib.sha256(content).hexdigest()
        found.append(WebPage(url, content, kind, digest, (("content-type", kind),)))
    write_shards(work.folder, found, 3, "2026-01-01T00:00:00Z")
    return work.seal(Pages)


def documents(work: Workdir, corpus: Corpus) -> list[dict[str, Any]]:
    tables = [read_shard(path) for path in shard_paths(work.artifact_folder(corpus))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


def test_deeply_nested_html_is_read_or_set_aside(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        return f"<main>{'<div>' * depth}{PROSE}{'</div>' * depth}</main>"

    bodies: dict[str, bytes | str] = {
        f"http://a.example/{depth}": nested(depth) for depth in (5, 300, 1500)
    }
    work = Workdir.temporary(tmp_path / "store")
    corpus = extract(ExtractConfig(max_bad_share=0.5), pages_of(tmp_path, bodies), work)
    assert corpus.stats["documents"] == 2
    refused = read_shard(work.artifact_folder(corpus) / "quarantine.parquet").to_pylist()
    assert refused == [{"url": "http://a.example/1500", "reason": "nested too deeply"}]


def test_corpus_is_sharded_sorted_and_the_same_on_any_executor(tmp_path: Path) -> None:
    bodies: dict[str, bytes | str] = {
        f"http://a.example/{n}.html": f"<main><h1>P{n}</h1><p>{PROSE}{n}</p></main>"
        for n in range(30)
    }
    bodies["http://a.example/short"] = "<main>short</main>"
    pages = pages_of(tmp_path, bodies)
    inline = Workdir.temporary(tmp_path / "store")
    corpus = extract(ExtractConfig(shards=4), pages, inline)
    assert corpus.stats["documents"] == 30
    for index, path in enumerate(shard_paths(inline.artifact_folder(corpus))):
        table = read_shard(path)
        assert table.schema.equals(DOCUMENT_SCHEMA)
        ids = table["id"].to_pylist()
        assert ids == sorted(ids)
        assert {shard_of(identifier, 4) for identifier in ids} <= {index}
    row = next(r for r in documents(inline, corpus) if r["url"] == "http://a.example/7.html")
    assert row["id"] == document_id(row["url"], row["text"])
    assert (row["source"], row["title"], row["ordinal"]) == ("a.example", "P7", 0)
    refused = read_shard(inline.artifact_folder(corpus) / "quarantine.parquet").to_pylist()
    assert refused == [{"url": "http://a.example/short", "reason": "shorter than 200 characters"}]
    pooled = Workdir.temporary(tmp_path / "store")
    pooled.executor = ProcessExecutor(2)
    assert extract(ExtractConfig(shards=4), pages, pooled).digest == corpus.digest
    pooled.executor.close()


def test_finished_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: dict[str, bytes | str] = {
        f"http://a.example/{n}": f"<main>{n} {PROSE}</main>" for n in range(12)
    }
    pages = pages_of(tmp_path, bodies)
    whole = extract(ExtractConfig(), pages, Workdir.temporary(tmp_path / "store"))
    done: list[str] = []
    plain = extract_archive

    def dies_at_the_second(task: Any) -> str:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(task.name)
        return plain(task)

    work = Workdir.temporary(tmp_path / "store")
    monkeypatch.setattr(extract_module, "extract_archive", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        extract(ExtractConfig(), pages, work)
    later: list[str] = []

    def counted(task: Any) -> str:
        later.append(task.name)
        return plain(task)

    monkeypatch.setattr(extract_module, "extract_archive", counted)
    assert extract(ExtractConfig(), pages, work).digest == whole.digest
    assert len(later) == 2
    assert set(later).isdisjoint(done)


def test_bad_pages_are_set_aside_and_too_many_are_an_error(tmp_path: Path) -> None:
    bodies: dict[str, bytes | str] = {
        f"http://a.example/{n}": f"<main>{n} {PROSE}</main>" for n in range(4)
    }
    bodies["http://a.example/empty"] = "<main></main>"
    bodies["http://a.example/long"] = "<main>" + "x" * 5000
    bodies["http://a.example/short"] = "<main>a short note</main>"
    pages = pages_of(tmp_path, bodies)
    work = Workdir.temporary(tmp_path / "store")
    corpus = extract(ExtractConfig(max_chars=4000, max_bad_share=0.5), pages, work)
    refused = read_shard(work.artifact_folder(corpus) / "quarantine.parquet").to_pylist()
    assert [row["reason"] for row in refused] == [
        "holds no text",
        "longer than 4000 characters (extract.max_chars)",
        "shorter than 200 characters",
    ]
    assert key_figure(corpus) == "documents 4; set aside: 1 too short, 2 unreadable"
    strict = ExtractConfig(max_chars=4000, max_bad_share=0.1)
    with pytest.raises(
        DataError,
        match=r"2 of 7 pages gave no text .* of a\.example \(2\), the first http://a\.example/empty",
    ):
        extract(strict, pages, Workdir.temporary(tmp_path / "store"))


def test_a_source_that_loses_many_pages_is_told_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies: dict[str, bytes | str] = {
        f"http://{host}.example/{n}": f"<main>{n} {words}</main>"
        for host, words in (("good", PROSE), ("bad", "too short"))
        for n in range(6)
    }
    work = Workdir.temporary(tmp_path / "store")
    config = ExtractConfig(alarm=AlarmConfig(share=0.5, documents=6))
    corpus = extract(config, pages_of(tmp_path, bodies), work)
    assert corpus.stats["alarms"] == 1
    (line,) = [record.message for record in caplog.records]
    assert line == (
        "bad.example lost 6 of 6 documents in extract, mostly by 'shorter than 200 "
        "characters'; extract.alarm says when this is told"
    )
    rows = json.loads((work.artifact_folder(corpus) / SOURCES_FILE).read_text())
    assert [(row["source"], row["dropped"]) for row in rows] == [
        ("bad.example", 6),
        ("good.example", 0),
    ]


def test_comments_are_text_on_hosts_named_as_forums(tmp_path: Path) -> None:
    posts = "".join(
        f'<div class="comment" id="comment-{n}"><p>{n} I think that this is so. {PROSE * 2}</p></div>'
        for n in range(4)
    )
    story = "".join(f"<p>{n} It began with {n} things. {PROSE}</p>" for n in range(8))
    page = f"<body><article>{story}</article><div id='comments'>{posts}</div></body>"
    bodies: dict[str, bytes | str] = {"http://talk.a.example/": page, "http://b.example/": page}
    work = Workdir.temporary(tmp_path / "store")
    config = ExtractConfig(forums=("a.example",))
    rows = documents(work, extract(config, pages_of(tmp_path, bodies), work))
    counts = {row["source"]: row["text"].count("I think that") for row in rows}
    assert counts == {"talk.a.example": 4, "b.example": 0}
    with pytest.raises(ValueError, match=r"'https://a\.example/' is no host"):
        ExtractConfig(forums=("https://a.example/",))


def test_a_page_built_to_be_slow_is_set_aside_at_once(tmp_path: Path) -> None:
    slow = f"<p {' '.join(f'a{n}' for n in range(300_000))}>{PROSE}</p>"
    bodies: dict[str, bytes | str] = {"http://a.example/1": slow, "http://a.example/2": PROSE}
    work = Workdir.temporary(tmp_path / "store")
    corpus = extract(ExtractConfig(max_bad_share=0.5), pages_of(tmp_path, bodies), work)
    assert corpus.stats["documents"] == 1
    (row,) = read_shard(work.artifact_folder(corpus) / "quarantine.parquet").to_pylist()
    assert row["reason"] == "an element with more than 5000 attributes"
    assert read_page_facts(slow.encode(), row["url"], {}, "bot", OptoutConfig()).links == []


def test_no_document_left_is_an_error(tmp_path: Path) -> None:
    pages = pages_of(tmp_path, {"http://a.example/": "<main>few words</main>"})
    with pytest.raises(DataError, match="no document is left"):
        extract(ExtractConfig(), pages, Workdir.temporary(tmp_path / "store"))


def test_damaged_warc_names_its_file(tmp_path: Path) -> None:
    work = Workdir.temporary(tmp_path / "store")
    (work.folder / "00000.warc").write_bytes(b"nothing of the kind\n" * 20)
    pages = work.seal(Pages)
    with pytest.raises(DataError, match=r"00000\.warc: cannot be read as WARC"):
        extract(ExtractConfig(), pages, Workdir.temporary(tmp_path / "store"))


def test_what_an_earlier_crawl_brought_is_older(tmp_path: Path) -> None:
    """The first crawl is number 0 whenever it was; what a later one carried over stays older."""
    pages = [
        WebPage(f"https://a.example/{n}", f"<p>{n} {PROSE}".encode(), "text/html", "", date=date)
        for n, date in enumerate(["2026-11-08T00:00:00Z", "2026-11-01T00:00:00Z", ""])
    ]
    crawl = Workdir.temporary(tmp_path)
    write_shards(crawl.folder, pages, 2, "2026-11-08T00:00:00Z")
    work = Workdir.temporary(tmp_path)
    corpus = extract(ExtractConfig(shards=2), crawl.seal(Pages), work)
    found = {row["url"][-1]: row["ordinal"] for row in documents(work, corpus)}
    assert found == {"0": 1, "1": 0, "2": 1}


def test_an_articles_headline_is_its_documents_first_line(tmp_path: Path) -> None:
    body = f"<title>Bridges</title><body><h1>Old Stone Bridges</h1><p>{PROSE * 3}</p>"
    pages = pages_of(tmp_path, {"http://a.example/": body})
    work = Workdir.temporary(tmp_path / "store")
    (row,) = documents(work, extract(ExtractConfig(), pages, work))
    assert row["text"].startswith("# Old Stone Bridges\n\nThis sentence is here")
    assert (row["title"], row["headings"]) == ("Bridges", ["Old Stone Bridges"])


def test_what_a_page_says_of_itself_is_kept(tmp_path: Path) -> None:
    body = (
        '<html lang="pt-br"><head><meta name="author" content="A. Writer">'
        '<meta property="article:published_time" content="2024-02-29T10:00:00Z">'
        f'<link rel="license" href="https://licences.example/by"></head><body><p>{PROSE}'
    )
    pages = pages_of(
        tmp_path, {"https://a.example/x": body, "https://a.example/2023/05/06/y": PROSE}
    )
    work = Workdir.temporary(tmp_path / "store")
    rows = {row["url"][-1]: row for row in documents(work, extract(ExtractConfig(), pages, work))}
    said = [rows["x"][name] for name in ("author", "date", "language", "licence")]
    assert said == ["A. Writer", "2024-02-29", "pt-BR", "https://licences.example/by"]
    assert (rows["y"]["author"], rows["y"]["date"]) == ("", "2023-05-06")
