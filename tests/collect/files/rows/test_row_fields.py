"""Text, address and title of rows, by the names that data sets use and those a user gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.collect.files.reading import read_rows

WORDS = "Some words of a row."


@pytest.mark.parametrize(
    "row",
    [
        *({name: WORDS} for name in ("text", "Text", "TEXT", "content", "Contents", "raw_content")),
        *({name: WORDS, "id": 1} for name in ("document", "markdown", "body", "page_content")),
        {"text": None, "content": WORDS},
        {"text": "", "raw_content": WORDS},
        {"text": " \n\t", "markdown": WORDS},
        {"text": {"value": WORDS}},
        {"text": [WORDS]},
        {"content": [{"type": "text", "text": WORDS}]},
        {"page": {"text": WORDS}, "n": 1},
        {"a": {"b": {"content": WORDS}}, "n": 1},
        {"sentence": WORDS},
        {"text": [], "paragraphs": [{"text": WORDS}]},
    ],
    ids=json.dumps,
)
def test_the_first_known_field_that_is_not_empty_is_the_text(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    assert list(read_rows(tmp_path, row).texts.values()) == [WORDS]


def test_messages_keep_their_roles(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    share = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    reading = read_rows(tmp_path, {"messages": chat}, {"conversations": share})
    assert list(reading.texts.values()) == [
        "user: hi\n\nassistant: hello",
        "human: hi\n\ngpt: hello",
    ]


def test_sections_keep_their_headings(tmp_path: Path) -> None:
    sections = [{"title": "One", "text": "first"}, {"heading": "Two", "paragraphs": ["a", "b"]}]
    reading = read_rows(tmp_path, {"sections": sections})
    assert list(reading.texts.values()) == ["## One\n\nfirst\n\n## Two\n\na\n\nb"]


def test_empty_rows_are_left_out_and_others_without_text_fail(tmp_path: Path) -> None:
    rows = [{"text": None}, {"text": ""}, {"text": [], "x": 1}, {"text": float("nan")}]
    reading = read_rows(tmp_path, *rows, {"text": 7}, {"prompt": "p", "n": 1}, 5, {})
    place = "file:///in/a.jsonl#"
    assert {reading.reasons[f"{place}{number}"] for number in (1, 2, 3, 4)} == {"an empty page"}
    assert reading.reasons[f"{place}5"] == "its field 'text' holds no text"
    assert reading.reasons[f"{place}6"] == (
        "no text in a field of a known name (it has prompt, n); name it by scrape.text_field"
    )
    assert reading.reasons[f"{place}7"] == "no object"
    assert "it has no fields" in reading.reasons[f"{place}8"]
    assert reading.failed == {f"{place}{number}" for number in (5, 6, 7, 8)}


def test_fields_are_named_by_the_user(tmp_path: Path) -> None:
    row = {
        "text": "not this",
        "doc": {"Body": WORDS, "at": "https://a.example/x", "names": ["first", "Second"]},
    }
    fields = {"text_field": "doc.body", "url_field": "doc.at", "title_field": "doc.names.1"}
    reading = read_rows(tmp_path, row, {"text": "x"}, {"doc": {"body": ""}}, **fields)
    (page,) = reading.pages
    assert (page.url, page.body.decode(), page.title) == ("https://a.example/x", WORDS, "Second")
    place = "file:///in/a.jsonl#"
    assert reading.reasons == {
        f"{place}2": "has no field 'doc.body' (scrape.text_field); it has text",
        f"{place}3": "an empty page",
    }


def test_a_name_with_a_dot_may_be_the_fields_own(tmp_path: Path) -> None:
    reading = read_rows(tmp_path, {"a.b": WORDS, "a": {"b": "not this"}}, text_field="a.b")
    assert list(reading.texts.values()) == [WORDS]


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"url": "https://x.example/a"}, "https://x.example/a"),
        ({"URL": "https://x.example/a"}, "https://x.example/a"),
        ({"link": "https://x.example/a"}, "https://x.example/a"),
        ({"metadata": {"url": "https://x.example/a"}}, "https://x.example/a"),
        ({"meta": '{"url": "https://x.example/a", "n": 1}'}, "https://x.example/a"),
        ({"warc_headers": {"WARC-Target-URI": "https://x.example/a"}}, "https://x.example/a"),
        ({"url": None, "source_url": "https://x.example/a"}, "https://x.example/a"),
        ({"url": " https://x.example/a b\u00a0c "}, "https://x.example/a%20b%C2%A0c"),
        ({"url": "https://x.example/stra\u00dfe/\u65e5"}, "https://x.example/stra\u00dfe/\u65e5"),
        ({"url": "doi:10.1000/182"}, "doi:10.1000/182"),
        ({"url": "n/a"}, ""),
        ({"url": "/wiki/A"}, ""),
        ({"url": 5}, ""),
        ({"url": "http://[broken/"}, ""),
        ({"url": "http://x.example:port/"}, ""),
        ({"url": "https://x.example/" + "a" * 3000}, ""),
        ({"url": "https://x.example/\r\nWARC-Type: x"}, ""),
    ],
)
def test_an_address_counts_where_it_is_one(
    tmp_path: Path, fields: dict[str, Any], address: str
) -> None:
    (page,) = read_rows(tmp_path, {"text": WORDS, **fields}).pages
    assert page.url == (address or "file:///in/a.jsonl#1")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://bob:s3cret@host.example/x", "https://host.example/x"),
        ("https://bob@host.example/x?a=b@c", "https://host.example/x?a=b@c"),
        ("ftp://bob:s3cret@host.example/x", "ftp://host.example/x"),
        ("HTTPS://bob:p@ss@host.example:8443/", "HTTPS://host.example:8443/"),
        (" https://bob:s3 cret@host.example/x ", "https://host.example/x"),
        ("https://bob:s3cret@[broken/", ""),
        ("https://host.example/@bob", "https://host.example/@bob"),
        ("mailto:bob@host.example", "mailto:bob@host.example"),
    ],
)
def test_a_login_in_an_address_is_left_out(tmp_path: Path, url: str, address: str) -> None:
    reading = read_rows(tmp_path, {"text": WORDS, "url": url})
    (page,) = reading.pages
    assert page.url == (address or "file:///in/a.jsonl#1")
    assert "s3" not in str(reading.ledger)
    has_login = "//bob" in url
    note = "a login in its address is left out" if has_login else ""
    assert reading.ledger[page.url].note == note


def test_titles_stand_beside_the_text_or_in_the_metadata(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a", "Title": "One"},
        {"text": "b", "title": "", "headline": "Two"},
        {"text": "c", "meta": {"title": "Three"}},
        {"text": "d", "title": 7},
    ]
    assert [page.title for page in read_rows(tmp_path, *rows).pages] == ["One", "Two", "Three", ""]


PAGE = "<h1>Name</h1>" + "<p>words of the page</p>" * 3


@pytest.mark.parametrize(
    ("field", "text", "is_html"),
    [
        ("text", f"<!DOCTYPE html><html><body>{PAGE}</body></html>", True),
        ("text", f"<?xml version='1.0'?>\n<!-- x -->\n<html>{PAGE}</html>", True),
        ("content", f"<div>{PAGE}</div>\n", True),
        ("body", "<p>How?</p><pre><code># comment\n- x\n</code></pre>\n<p>So\nis\nit.</p>", True),
        ("html", "words &amp; <b>more</b>", True),
        ("html", "no tag at all", False),
        ("text", "if a < b and b > c", False),
        ("text", '<div align="center"><h1>Tool</h1></div>\n\n# Tool\n\nIt works.</div>', False),
        ("text", "<p>one</p>\n\nmany\n\nlines\n\nof\n\ntext\n\n<b>x</b> and so on", False),
        ("text", "List<String> names;\nMap<K, V>", False),
        ("markdown", "<details>\n\n- a\n- b\n\n</details>", False),
    ],
)
def test_html_in_a_row_is_read_as_html(
    tmp_path: Path, field: str, text: str, is_html: bool
) -> None:
    (page,) = read_rows(tmp_path, {field: text}).pages
    assert page.content_type.startswith("text/html" if is_html else "text/markdown")


def test_rows_of_one_address_are_pages_of_their_own(tmp_path: Path) -> None:
    url = "https://wiki.example/A"
    texts = ["first section", "second section", "second section", "third section"]
    rows: list[dict[str, Any]] = [{"url": url, "text": text} for text in texts]
    reading = read_rows(tmp_path, *rows, {"url": url, "html": "<p>" + "x" * 3000}, max_bytes=2000)
    assert [page.body.decode() for page in reading.pages] == [texts[0], texts[1], texts[3]]
    assert {page.url for page in reading.pages} == {url}
    assert reading.ledger[url].bytes == sum(len(text) for text in set(texts))
    assert reading.reasons["file:///in/a.jsonl#3"] == f"the same text as another row of {url}"
    assert reading.reasons["file:///in/a.jsonl#5"].startswith("larger than")


def test_a_refused_row_keeps_its_line_when_another_has_its_address(tmp_path: Path) -> None:
    url = "https://wiki.example/A"
    large, small = {"url": url, "html": "<p>" + "x" * 3000}, {"url": url, "text": "small"}
    reading = read_rows(tmp_path, large, small, large, max_bytes=2000)
    assert reading.texts == {url: "small"}
    assert set(reading.reasons) == {"file:///in/a.jsonl#1", "file:///in/a.jsonl#3"}
