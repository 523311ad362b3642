"""What strangers' files hold goes through the real chain: each page is kept, dropped with a reason
in the ledger, or set aside with one. Nothing hangs, nothing ends the run.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.collect.warc.test_archive_reader import record
from tests.flows.pipelines.curating import Curated, curate

WORDS = ["garden", "river", "the", "of", "stone", "and", "bridge", "walks", "with", "morning"]
HEBREW = "בראשית ברא אלהים את השמים ואת הארץ והארץ היתה תהו ובהו וחשך על פני תהום ורוח אלהים "
CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
BYTES = 50_000_000
MOST_MEMORY = 6_000
"""Megabytes; a page of 50 needs about half as much, most of it for the quality statistics."""


def prose(seed: int, count: int = 120) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)} {draw.randrange(10**6)}x" for _ in range(count))


def plain_pages(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    for number in range(count):
        (folder / f"good{number:02d}.txt").write_text(prose(number))
    return [f"{folder}/*"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    """A folder with one of everything among twenty good pages."""
    root = tmp_path_factory.mktemp("mixed")
    files = plain_pages(root / "in", 20)
    there = root / "in"
    (there / "broken.html").write_text(f"<html><p>{prose(101)}<div><b>{prose(102)}</i></table><p")
    (there / "nested.html").write_text("<div>" * 60_000 + prose(103))
    latin = f"<meta charset=utf-8><main><p>Grüße {prose(104)}</main>".encode("latin-1")
    (there / "latin.html").write_bytes(latin)
    (there / "both.txt").write_bytes(f"é {prose(105)} ".encode() + "é".encode("latin-1"))
    (there / "utf16.txt").write_text(prose(106), encoding="utf-16")
    (there / "nulls.txt").write_bytes(b"\0\1\2" * 300 + prose(107).encode())
    (there / "null.html").write_text(f"<main><p>one \0 {prose(108)}</main>")
    (there / "hebrew.html").write_text(f"<main dir=rtl><p>{HEBREW * 8}</main>")
    (there / "chinese.txt").write_text(CHINESE * 400)
    (there / "empty.html").write_text("")
    (there / "blank.html").write_text("<html><body></body></html>")
    archive = record("http://a.example/whole", f"<main><p>{prose(109)}</main>".encode())
    cut = record("http://a.example/cut", f"<main><p>{prose(110)}</main>".encode())
    (there / "cut.warc").write_bytes(archive + cut[: len(cut) // 2])
    pq.write_table(pa.table({"n": [1], "words": [prose(111)]}), there / "column.parquet")
    (there / "cut.parquet").write_bytes((there / "column.parquet").read_bytes()[:-40])
    rows = [json.dumps({"text": prose(112)}), "{no json", json.dumps({"text": None})]
    (there / "rows.jsonl").write_text("\n".join(rows))
    shares = {"max_failed_share": 0.5}
    languages = {"select": {"language": {"allowed": ()}}}
    return curate(root / "store", files, scrape=shares, extract={"max_bad_share": 0.5}, **languages)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("file:///in/nulls.txt", "its content is binary"),
        ("file:///in/empty.html", "an empty page"),
        ("file:///in/blank.html", "holds no text"),
        ("file:///in/nested.html", "nested too deeply"),
        ("http://a.example/cut", "cut off"),
        ("file:///in/column.parquet#1", "no text in a field of a known name"),
        ("file:///in/cut.parquet#1", "cannot be read as Parquet"),
        ("file:///in/rows.jsonl#2", "no JSON"),
        ("file:///in/rows.jsonl#3", "an empty page"),
    ],
)
def test_set_aside_with_a_reason(mixed: Curated, page: str, reason: str) -> None:
    assert reason in mixed.aside[page]
    assert page not in mixed.ledger


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("file:///in/broken.html", prose(102)),
        ("file:///in/latin.html", "Grüße"),
        ("file:///in/both.txt", prose(105)),
        ("file:///in/utf16.txt", prose(106)),
        ("file:///in/null.html", prose(108)),
        ("file:///in/hebrew.html", "בראשית ברא אלהים את השמים"),
        ("http://a.example/whole", prose(109)),
        ("file:///in/rows.jsonl#1", prose(112)),
    ],
)
def test_kept_with_its_text(mixed: Curated, page: str, said: str) -> None:
    assert said in mixed.kept[page]["text"]
    assert "\0" not in mixed.kept[page]["text"]


def test_text_without_spaces_is_judged_and_not_lost(mixed: Curated) -> None:
    row = mixed.ledger["file:///in/chinese.txt"]
    assert row["reasons"] == [rule["rule"] for rule in row["rules"] if not rule["passed"]]


def test_every_page_is_accounted_for(mixed: Curated) -> None:
    assert len([url for url in mixed.kept if "/in/good" in url]) == 20
    dropped = {url for url, row in mixed.ledger.items() if row["reasons"]}
    assert set(mixed.kept) == set(mixed.ledger) - dropped
    assert len(set(mixed.ledger) | set(mixed.aside)) == 20 + 7 + 10 + 1


MAKERS: dict[str, Callable[[], str]] = {
    "words.txt": lambda: (prose(1, 4000) + " ") * (BYTES // 60_000),
    "run.txt": lambda: "x" * BYTES,
    "page.html": lambda: "<main>" + f"<p>{prose(1, 4)}</p>" * (BYTES // 65) + "</main>",
    "open.html": lambda: "<p><b>" + prose(1, 4) * (BYTES // 60),
}
"""Each a single line of fifty megabytes or so."""


def write_large(folder: Path, name: str) -> None:
    (folder / name).write_text(MAKERS[name]())


def test_a_single_line_of_fifty_megabytes_is_set_aside_or_split(tmp_path: Path) -> None:
    files = plain_pages(tmp_path / "in", 6)
    write_large(tmp_path / "in", "page.html")
    write_large(tmp_path / "in", "run.txt")
    found = curate(tmp_path / "store", files)
    assert found.aside == {"file:///in/page.html": "larger than 8000000 bytes (scrape.max_bytes)"}
    parts = [url for url in found.ledger if url.startswith("file:///in/run.txt")]
    assert len(parts) == -(-BYTES // 2_000_000)
    assert len(found.kept) == 6  # no part of a run of one letter is a text


PROGRAM = """
import resource, sys
from pathlib import Path
from tests.flows.pipelines.curating import curate
root, name = Path(sys.argv[1]), sys.argv[2]
limits = {"scrape": {"max_bytes": 10**8, "part_bytes": 10**8}, "extract": {"max_chars": 10**8}}
found = curate(root / "store", [f"{root}/in/*"], **limits)
page = f"file:///in/{name}"
print(len([url for url in found.kept if "good" in url]))
print(found.aside.get(page) or ",".join(found.ledger[page]["reasons"]) or "kept")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MAKERS)
def test_with_wider_bounds_it_goes_through_every_scorer(name: str, tmp_path: Path) -> None:
    plain_pages(tmp_path / "in", 6)
    write_large(tmp_path / "in", name)
    given = [sys.executable, "-c", PROGRAM, str(tmp_path), name]
    told = subprocess.run(given, capture_output=True, text=True, timeout=580, check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    good, said, memory = told.stdout.splitlines()[-3:]
    assert good == "6"
    assert said != "kept"  # a page of ten million words, or of one
    assert int(memory) < MOST_MEMORY
