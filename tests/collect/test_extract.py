"""From pages to documents: Markdown, code word for word, quarantine, shards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.collect import extract as extract_module
from components.collect.extract import ExtractConfig, extract, extract_file
from components.collect.extraction.main_text import main_text
from components.collect.extraction.outline import outline
from components.collect.optout import OptoutConfig
from components.collect.pagefacts import read_page
from components.collect.textbytes import decode
from components.collect.warc import WebPage, write_shards
from components.core.artifact import Corpus, Pages
from components.core.errors import DataError
from components.core.executor import Pool
from components.core.rows import DOCUMENT, document_id, shard_of
from components.core.shards import read_shard, shard_paths
from components.core.sources import FILE, AlarmConfig
from components.core.workdir import Workdir
from flows.display import figure

CODE = 'def f(x):\n\tif x:\n\n        return "a  b"  # two  spaces\n\n\n    return `x`'
PROSE = "This sentence is here so that there is something to read on this page. " * 6


def html(body: str) -> str:
    return main_text(
        f"<html><head><title>T</title></head><body>{body}</body></html>", "text/html", "n"
    ).text


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
    tables = [read_shard(path) for path in shard_paths(work.path(corpus))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


@pytest.mark.parametrize("around", ["<main>{}</main>", "<article>{}</article>", "<div>{}</div>"])
def test_code_stays_word_for_word(around: str) -> None:
    escaped = CODE.replace("&", "&amp;").replace("<", "&lt;")
    block = (
        f'<h1>Loops</h1><p>{PROSE}</p><pre><code class="language-python">{escaped}\n</code></pre>'
    )
    page = around.format(f"{block}<p>Then come other words, quite a few of them. {PROSE}</p>")
    found = main_text(page, "text/html", "n")
    assert f"```python\n{CODE}\n```" in found.text
    assert found.code == [CODE]
    assert found.text.count("Then come other words") == 1


def test_page_of_a_documentation_site() -> None:
    page = """<!DOCTYPE html><html><head><title>json</title></head><body>
    <header><a href="/">Docs</a></header><nav><ul><li><a>json.decoder</a></li></ul></nav>
    <main><h1>json</h1><p>Reads and
    writes <a href="x">JSON</a>.</p>
    <h2 id="dumps">json.dumps<a class="headerlink" href="#dumps">¶</a></h2>
    <pre><code class="language-python">def dumps(obj) -&gt; str</code></pre>
    <p>Serialize <code>obj</code> to a <em>formatted</em> <code>str</code>.</p></main>
    <footer>Made with care.</footer></body></html>"""
    found = main_text(page, "text/html; charset=utf-8", "json.html")
    assert found.text == (
        "# json\n\nReads and writes JSON.\n\n## json.dumps\n\n"
        "```python\ndef dumps(obj) -> str\n```\n\n"
        "Serialize `obj` to a *formatted* `str`."
    )
    assert found.title == "json"
    assert found.headings == ["json", "json.dumps"]
    assert found.code == ["def dumps(obj) -> str"]
    assert found.navigation == "Docs\njson.decoder\nMade with care."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<ul><li>a<li>b<ol><li>c</li></ol></ul>", "- a\n- b\n  1. c"),
        ("<ol start='3'><li><p>a</p><p>b</p></li><li>c</li></ol>", "3. a\n\n   b\n\n4. c"),
        (
            "<table><tr><th>k</th><th>v</th></tr><tr><td>a|b</td><td>1</td></tr></table>",
            "| k | v |\n| --- | --- |\n| a\\|b | 1 |",
        ),
        (
            "<table><tr><td><div>one</div></td><td><pre>two</pre></td></tr></table>",
            "| one | `two` |\n| --- | --- |",
        ),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<p>a<br>b <b>c</b> <i> d </i>e</p>", "a\nb **c** *d* e"),
        ("<p>use <code>a `b` c</code> and <tt>x</tt></p>", "use ``a `b` c`` and `x`"),
        ("<pre>x ``` y</pre>", "````\nx ``` y\n````"),
        ("<pre>\n  a<br>  b\n\n</pre>", "```\n  a\n  b\n```"),
        (
            '<div class="highlight-python3"><div class="highlight"><pre><span class="linenos">1</span>'
            "<span>import</span> os</pre></div></div>",
            "```python\nimport os\n```",
        ),
        ("<dl><dt>term</dt><dd>meaning</dd></dl>", "term\n\nmeaning"),
        (
            '<dl><dt class="sig sig-object py" id="a.f">a.f(<em>x</em>)<a class="headerlink">¶</a></dt>'
            "<dd><p>Does.</p></dd></dl>",
            "## a.f\n\n```python\na.f(x)\n```\n\nDoes.",
        ),
        (
            "<p>seen by those who read</p><p hidden>not</p><script>no()</script><style>p{}</style>",
            "seen by those who read",
        ),
        ("<p>open <b>bold <i>both</b> end", "open **bold *both*** end"),
        ("<h2></h2><p> &nbsp; </p><p>x&nbsp;y</p>", "x y"),
    ],
)
def test_markdown_of(source: str, expected: str) -> None:
    assert html(f"<main>{source}</main>") == expected


def test_page_without_a_marked_main_part() -> None:
    page = (
        '<div id="menu"><a href="/">Home</a> <a href="/about">About us</a></div>'
        f'<div class="post"><h1>A post</h1><p>{PROSE}</p><pre>a\n\n  b</pre><p>{PROSE}</p></div>'
        '<div class="footer">All rights reserved by someone.</div>'
    )
    text = html(page)
    assert text.startswith("# A post")
    assert "```\na\n\n  b\n```" in text
    assert "modelmillcode" not in text
    assert "About us" not in text


def test_an_articles_marked_part_loses_what_is_no_text() -> None:
    paragraphs = "".join(f"<p>{n} {PROSE.replace('page', f'page {n}')}</p>" for n in "abcd")
    teasers = "".join(f'<li><a href="/{n}">Some other story, {n}</a></li>' for n in range(9))
    related = f'<div class="related"><h4>Read more</h4><ul>{teasers}</ul></div>'
    article = f'<div class="post"><h1>A post</h1>{paragraphs}</div>'
    text = html(f"<main>{article}{related}</main>")
    assert text.count("something to read") == 24
    assert "Some other story" not in text


def test_a_marked_list_stays_whole() -> None:
    links = "".join(f'<li><a href="/{n}">A chapter on the matter, {n}</a></li>' for n in range(60))
    assert html(f"<main><h1>Contents</h1><ul>{links}</ul></main>").count("A chapter") == 60


def test_small_marked_part_is_not_the_main_part() -> None:
    teaser = "<article><p>Read also this.</p></article>"
    assert "something to read" in html(f"{teaser}<div><p>{PROSE}</p><p>{PROSE}</p></div>")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("naïve".encode(), "text/html; charset=iso-8859-1", "naïve"),  # the header is wrong
        ("naïve – “x”".encode("cp1252"), "text/html; charset=iso-8859-1", "naïve – “x”"),
        ("наука".encode("koi8-r"), "text/html; charset=koi8-r", "наука"),
        ("наука".encode("koi8-r"), "text/html; charset=no-such", "наука"),
        ('<meta charset="koi8-r">наука'.encode("koi8-r"), "", '<meta charset="koi8-r">наука'),
        ("été".encode("utf-16"), "text/html", "été"),
        ("\ufeffx".encode(), "", "x"),
        ("東京へ".encode("iso-2022-jp"), "text/html; charset=iso-2022-jp", "東京へ"),
        ("plain text".encode("utf-16-le"), "text/html; charset=utf-16le", "plain text"),
        ("cut é".encode()[:-1], "text/html", "cut \ufffd"),
    ],
)
def test_charsets(body: bytes, kind: str, expected: str) -> None:
    if "no-such" in kind:  # a guess needs some text
        body, expected = body * 40, expected * 40
    assert decode(body, kind) == expected


def test_broken_html_still_gives_its_text() -> None:
    text = html("<main><div><p>one<div><table><tr><td>two</main></p><ul><li>three<p>four")
    assert [word for word in ("one", "two") if word not in text] == []


def test_deeply_nested_html_is_read_or_set_aside(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        return f"<main>{'<div>' * depth}{PROSE}{'</div>' * depth}</main>"

    bodies: dict[str, bytes | str] = {
        f"http://a.example/{depth}": nested(depth) for depth in (5, 300, 1500)
    }
    work = Workdir.temporary(tmp_path / "store")
    corpus = extract(ExtractConfig(max_bad_share=0.5), pages_of(tmp_path, bodies), work)
    assert corpus.stats["documents"] == 2
    refused = read_shard(work.path(corpus) / "quarantine.parquet").to_pylist()
    assert refused == [{"url": "http://a.example/1500", "reason": "nested too deeply"}]


@pytest.mark.parametrize(
    "body", ["", "<html></html>", "<main><p> </p></main>", "<script>x</script>"]
)
def test_empty_pages_have_no_text(body: str) -> None:
    with pytest.raises(ValueError, match="holds no text"):
        main_text(body, "text/html", "n")


def test_text_and_markdown_pass_through() -> None:
    source = "# A\n\n- item\n\n```py\n  x = 1\n```\n<b>kept</b>"
    found = main_text(f"{source}\n", "text/markdown", "a.md")
    assert (found.text, found.title, found.headings, found.code) == (
        source,
        "A",
        ["A"],
        ["  x = 1"],
    )
    plain = main_text("just words\r\nand more", "text/plain", "notes.txt")
    assert (plain.text, plain.title) == ("just words\nand more", "notes.txt")
    with pytest.raises(ValueError, match="no page: application/pdf"):
        main_text("%PDF", "application/pdf", "n")


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ('---\ntitle: "A page"\ntags: [x]\n---\n# Own\n\nText.', "A page", "# Own\n\nText."),
        ("+++\ntitle = 'T'\n+++\nText.", "T", "Text."),
        ("---\nJust a rule.\n---\nText.", "Just a rule.", "---\n## Just a rule.\nText."),
        ("Big\n===\n\nSmall\n---\n\nText.", "Big", "# Big\n\n## Small\n\nText."),
        ("- item\n---\n\n| a |\n---\n\n---", "n", "- item\n---\n\n| a |\n---\n\n---"),
        ("a <!-- no --> b\n<!-- x\ny -->\nc", "n", "a  b\nc"),
        ("```\n<!-- kept -->\nx\n---\n```", "n", "```\n<!-- kept -->\nx\n---\n```"),
    ],
)
def test_markdown_of_others(source: str, title: str, text: str) -> None:
    found = main_text(source, "text/markdown", "n")
    assert (found.title, found.text) == (title, text)


def test_outline_takes_code_out_of_lists_without_their_indent() -> None:
    text = "# one\n- item\n\n  ```sh\n  # no heading\n    ls\n  ```\n## two ##\n~~~\nopen"
    assert outline(text) == (["one", "two"], ["# no heading\n  ls", "open"])
    quoted = "> ```\n> > a\n>\n> b\n> ```\n```\n> ```\n```"
    assert outline(quoted) == ([], ["> a\n\nb", "> ```"])


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
    for index, path in enumerate(shard_paths(inline.path(corpus))):
        table = read_shard(path)
        assert table.schema.equals(DOCUMENT)
        ids = table["id"].to_pylist()
        assert ids == sorted(ids)
        assert {shard_of(identifier, 4) for identifier in ids} <= {index}
    row = next(r for r in documents(inline, corpus) if r["url"] == "http://a.example/7.html")
    assert row["id"] == document_id(row["url"], row["text"])
    assert (row["source"], row["title"], row["ordinal"]) == ("a.example", "P7", 0)
    refused = read_shard(inline.path(corpus) / "quarantine.parquet").to_pylist()
    assert refused == [{"url": "http://a.example/short", "reason": "shorter than 200 characters"}]
    pooled = Workdir.temporary(tmp_path / "store")
    pooled.executor = Pool(2)
    assert extract(ExtractConfig(shards=4), pages, pooled).digest == corpus.digest
    pooled.executor.close()


def test_finished_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: dict[str, bytes | str] = {
        f"http://a.example/{n}": f"<main>{n} {PROSE}</main>" for n in range(12)
    }
    pages = pages_of(tmp_path, bodies)
    whole = extract(ExtractConfig(), pages, Workdir.temporary(tmp_path / "store"))
    done: list[str] = []
    plain = extract_file

    def dies_at_the_second(task: Any) -> str:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(task.name)
        return plain(task)

    work = Workdir.temporary(tmp_path / "store")
    monkeypatch.setattr(extract_module, "extract_file", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        extract(ExtractConfig(), pages, work)
    later: list[str] = []

    def counted(task: Any) -> str:
        later.append(task.name)
        return plain(task)

    monkeypatch.setattr(extract_module, "extract_file", counted)
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
    refused = read_shard(work.path(corpus) / "quarantine.parquet").to_pylist()
    assert [row["reason"] for row in refused] == [
        "holds no text",
        "longer than 4000 characters (extract.max_chars)",
        "shorter than 200 characters",
    ]
    assert figure(corpus) == "documents 4; set aside: 1 too short, 2 unreadable"
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
    rows = json.loads((work.path(corpus) / FILE).read_text())
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
    (row,) = read_shard(work.path(corpus) / "quarantine.parquet").to_pylist()
    assert row["reason"] == "an element with more than 5000 attributes"
    assert read_page(slow.encode(), row["url"], {}, "bot", OptoutConfig()).links == []


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
