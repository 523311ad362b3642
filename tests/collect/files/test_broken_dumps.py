"""XML dumps with faults: each costs its own record, and what XML does not allow costs nothing."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.collect.files.dumps import xml_records
from tests.collect.files.reading import Reading, read_bytes
from tests.collect.files.test_dumps import wiki_dump, wiki_page


def row(number: int, body: str = "") -> str:
    text = body or f"words of {number}"
    return f'  <row Id="{number}" PostTypeId="2" Body="&lt;p&gt;{text}&lt;/p&gt;" />\n'


def posts(rows: Sequence[str], head: str = '<?xml version="1.0" encoding="utf-8"?>\n') -> str:
    return f"{head}<posts>\n{''.join(rows)}</posts>\n"


def numbers(reading: Reading) -> list[int]:
    return [int(page.url.rpartition("#")[2]) for page in reading.pages]


@pytest.mark.parametrize(
    "damage",
    ["&#x1;", "&#1;", "&#x0B;", "&#xFFFE;", "&#xd800;", "\x01", "\x0c", "\x1b[0m", "\ufffe", "&#11;"],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_characters_that_xml_does_not_allow_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, chunk: int
) -> None:
    monkeypatch.setattr(xml_records, "_CHUNK", chunk)
    rows = [row(number) for number in range(1, 41)]
    rows[9] = row(10, f"bad {damage} char")
    reading = read_bytes(tmp_path, "Posts.xml", posts(rows))
    assert numbers(reading) == list(range(1, 41))
    assert b"bad " in reading.pages[9].body
    assert b"char</p>" in reading.pages[9].body
    assert not reading.reasons


@pytest.mark.parametrize(
    "broken",
    [
        row(10, "Fish & chips"),
        row(10, "a &nbsp; b"),
        row(10, "1 < 2 and 3"),
        row(10, 'he said "no"'),
        row(10).replace(" />", ""),
        row(10).replace(' Body="', " Body="),
        row(10).replace("/>", "></b>"),
        row(10)[:20] + "\n",
        row(10).replace("PostTypeId", 'Id="3" PostTypeId'),
    ],
)
@pytest.mark.parametrize("chunk", [5, 1 << 16])
def test_a_broken_row_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, chunk: int
) -> None:
    monkeypatch.setattr(xml_records, "_CHUNK", chunk)
    rows = [row(number) for number in range(1, 41)]
    rows[9] = broken
    reading = read_bytes(tmp_path, "Posts.xml", posts(rows))
    assert numbers(reading) == [number for number in range(1, 41) if number != 10]
    (reason,) = reading.reasons.values()
    assert reason.startswith("is no XML: ")
    assert reading.failed == {"file:///in/Posts.xml#10"}


def test_bytes_that_are_none_of_the_charset_cost_their_row(tmp_path: Path) -> None:
    content = posts([row(number, f"caf\u00e9 {number}") for number in range(1, 6)]).encode()
    content = content.replace("caf\u00e9 3".encode(), b"caf\xe9 3")
    reading = read_bytes(tmp_path, "Posts.xml", content)
    assert numbers(reading) == [1, 2, 4, 5]
    assert reading.reasons == {"file:///in/Posts.xml#3": "a byte of it is none of its charset"}


@pytest.mark.parametrize("codec", ["utf-8", "iso-8859-1", "windows-1252", "utf-16", "utf-16-le"])
def test_the_declared_charset_is_read(tmp_path: Path, codec: str) -> None:
    head = f'<?xml version="1.0" encoding="{codec}"?>\n'
    content = posts([row(1, "caf\u00e9")], head).encode(codec)
    (page,) = read_bytes(tmp_path, "Posts.xml", content).pages
    assert page.body.decode() == "<p>caf\u00e9</p>"


def test_halves_of_a_character_are_joined(tmp_path: Path) -> None:
    rows = [row(1, "&#xD83D;&#xDE00; &#55357;&#56832; &#x1F600; &#55000;")]
    (page,) = read_bytes(tmp_path, "Posts.xml", "\n\n" + posts(rows)).pages
    assert page.body.decode() == "<p>\U0001f600 \U0001f600 \U0001f600 \ud6d8</p>"


@pytest.mark.parametrize("chunk", [11, 1 << 16])
def test_a_broken_article_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(xml_records, "_CHUNK", chunk)
    pages = [wiki_page(f"Page {number}", f"words of {number}") for number in range(40)]
    pages[3] = wiki_page("Page 3", "words \x0c of &#x1;3")
    pages[10] = wiki_page("Page 10", "Fish & chips")
    pages[20] = pages[20][: pages[20].index("</text>")]
    pages[30] = pages[30].replace("</revision>", "")
    reading = read_bytes(tmp_path, "dump.xml", wiki_dump(*pages))
    whole = [number for number in range(40) if number not in (10, 20, 30)]
    assert [page.title for page in reading.pages] == [f"Page {number}" for number in whole]
    assert reading.texts["https://wiki.example/wiki/Page_21"] == "# Page 21\n\nwords of 21"
    failed = {f"file:///in/dump.xml#Page_{number}" for number in (10, 20, 30)}
    assert reading.failed == failed == set(reading.reasons)


def test_prefixed_elements_and_a_cut_end(tmp_path: Path) -> None:
    rows = posts([row(1), row(2), row(3)])
    prefixed = rows.replace("<posts>", '<s:posts xmlns:s="urn:s">').replace("</", "</s:")
    prefixed = prefixed.replace("<row", "<s:row")
    assert numbers(read_bytes(tmp_path, "Posts.xml", prefixed)) == [1, 2, 3]
    cut = read_bytes(tmp_path, "Posts.xml", rows[: rows.index(' Body="', rows.index('Id="3"'))])
    assert numbers(cut) == [1, 2]
    place = "file:///in/Posts.xml#"
    assert cut.reasons[f"{place}3"] == "is no XML: its element does not end"
    assert cut.reasons[f"{place}4"].startswith("cannot be read as XML from here on")
    packed = gzip.compress(posts([row(number) for number in range(9000)]).encode())
    broken = read_bytes(tmp_path, "Posts.xml.gz", packed[: len(packed) // 2])
    assert len(broken.pages) > 1000
    assert any("cut off" in reason for reason in broken.reasons.values())


def test_a_record_longer_than_the_parsers_bound_costs_itself(tmp_path: Path) -> None:
    rows = [row(1), row(2, "x" * 11_000_000), row(3)]
    reading = read_bytes(tmp_path, "Posts.xml", posts(rows))
    assert numbers(reading) == [1, 3]
    assert set(reading.reasons) == {"file:///in/Posts.xml#2"}
