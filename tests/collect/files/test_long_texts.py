"""Long texts come in parts: deterministic, each below the bound, together the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.collect.files.split_text import part_address, split_text
from tests.collect.files.reading import read_bytes, read_rows

PARAGRAPH = "Some words that say something.\n" * 4


@given(st.text(max_size=3000), st.integers(40, 400))
@settings(max_examples=200, deadline=None)
def test_parts_are_the_text(text: str, part_bytes: int) -> None:
    parts = list(split_text(text.encode(), part_bytes))
    assert b"".join(parts) == text.encode()
    assert all(0 < len(part) <= part_bytes for part in parts)
    assert all(part.decode() for part in parts), "a character was cut in two"


def test_parts_begin_at_headings_then_paragraphs() -> None:
    text = "".join(f"# Chapter {number}\n\n{PARAGRAPH}\n{PARAGRAPH}\n" for number in range(40))
    parts = list(split_text(text.encode(), 2000))
    assert len(parts) > 4
    assert all(part.startswith(b"# Chapter") for part in parts)
    plain = list(split_text((PARAGRAPH + "\n").encode() * 100, 2000))
    assert all(part.startswith(b"Some words") and part.endswith(b".\n\n") for part in plain)


def test_code_is_not_parted_where_it_can_be_kept() -> None:
    code = "```\n# comment\n\n" + "x = 1\n\n" * 40 + "```\n\n"
    text = f"{PARAGRAPH}\n" * 10 + code + f"{PARAGRAPH}\n" * 20
    for part in split_text(text.encode(), 1800):
        assert part.count(b"```") % 2 == 0


def test_addresses_of_parts() -> None:
    assert part_address("https://x.example/a", 1) == "https://x.example/a"
    assert part_address("https://x.example/a", 2) == "https://x.example/a#part-2"
    assert part_address("file:///a.jsonl#7", 3) == "file:///a.jsonl#7-part-3"


@pytest.mark.parametrize("name", ["book.md", "book.txt"])
def test_a_long_file_is_read_in_parts(tmp_path: Path, name: str) -> None:
    text = "".join(f"# Chapter {number}\n\n{PARAGRAPH * 9}\n" for number in range(400))
    reading = read_bytes(tmp_path, name, text, part_bytes=50_000, max_bytes=60_000)
    assert "".join(reading.texts.values()) == text
    assert list(reading.texts)[:3] == [
        f"file:///in/{name}",
        f"file:///in/{name}#part-2",
        f"file:///in/{name}#part-3",
    ]
    assert not reading.reasons
    again = read_bytes(tmp_path, name, text, part_bytes=50_000, max_bytes=60_000)
    assert [page.digest for page in again.pages] == [page.digest for page in reading.pages]


def test_a_long_row_is_read_in_parts(tmp_path: Path) -> None:
    text = f"{PARAGRAPH}\n" * 100
    rows = [{"text": text, "title": "Long"}, {"text": text, "url": "https://x.example/a"}]
    reading = read_rows(tmp_path, *rows, {"html": f"<p>{text}"}, part_bytes=5000, max_bytes=6000)
    own = [page for page in reading.pages if page.url.startswith("file:")]
    assert b"".join(page.body for page in own).decode() == text
    assert {page.title for page in own} == {"Long"}
    assert own[1].url == "file:///in/a.jsonl#1-part-2"
    assert "https://x.example/a#part-2" in reading.texts
    assert set(reading.reasons) == {"file:///in/a.jsonl#3"}


def test_text_in_utf16_is_read_in_parts(tmp_path: Path) -> None:
    text = "W\u00f6rter und mehr. \u65e5\u672c\n\n" * 300
    reading = read_bytes(tmp_path, "a.txt", text.encode("utf-16"), part_bytes=2000)
    assert "".join(reading.texts.values()) == text
