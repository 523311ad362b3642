"""HTML in rows, wherever in the text it stands; and what only speaks of tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.collect.extraction.main_text import extract_main_text
from components.collect.files.rows.html_rows import HtmlEvidence, judge_html
from tests.collect.files.reading import Reading, read_bytes, read_rows

COMMENTS = [
    "I think that&#x27;s right about <i>bridges</i>.<p>See <a href=\"https:&#x2F;&#x2F;e.example"
    '&#x2F;x" rel="nofollow">e.example</a> for more.<p>Use &lt;stdio.h&gt; and &quot;main&quot;.',
    "Old bridges don&#x27;t fall.<p>They sag.",
    "One paragraph without any tag, but it&#x27;s escaped.",
    "Nothing of it here.",
    "It is <i>so</i> much better &amp; simpler.",
]  # fmt: skip
PROSE = [
    "A bridge over the river was built of stone.\n\nIt stands & lasts.",
    "The <p> tag opens a paragraph, and <br> breaks a line.",
    "Use `<br>` or `a<br>b` in a cell.",
    "Write <p>words</p> into the file and open it in a browser to see a paragraph of words.",
    "if a < b and b > c: print(a)",
    "AT&amp;T was founded in 1885.",
    "# Title\n\nSome <b>words</b>.<br>\n\n- one\n- two",
    "See [the manual](https://x.example/).<br>It helps.",
    '<p align="center"><img src="logo.png"></p>\n\nA tool.\n\nIt works.\n\nUse it.\n\nNow.',
]


def kinds(reading: Reading) -> list[str]:
    return [page.content_type.partition(";")[0].removeprefix("text/") for page in reading.pages]


@pytest.mark.parametrize(
    "text",
    [
        COMMENTS[0],
        "<p>Words of a message, which are many.</p>\n\nSent from my phone",
        "<p>Words of\na message\nover lines\nand more</p>\n<p>Next.</p>\n\nBest regards,\nMax",
        "Hello<br>world<br/>and &eacute;t&eacute;",
        "<p>List:<br>\n- one<br>\n- two &amp; three</p><p>More.</p>",
        "Intro of a text.<ul><li>one</li><li>two</li></ul>Outro&hellip;",
        "First line<br />\nsecond line<br />\nthird&nbsp;line",
        "<h2>Title</h2>Words and words<p>next",
        "<b>Bold</b> words &amp; <i>more</i>",
        "Dear all,<div>words of it</div><div>and &quot;more&quot;</div>Bye",
    ],
)
def test_html_is_told_by_the_row_itself(tmp_path: Path, text: str) -> None:
    rows = [{"text": PROSE[0]}] * 20
    reading = read_rows(tmp_path, *rows, {"text": text})
    assert kinds(reading) == ["markdown"] * 20 + ["html"]


@pytest.mark.parametrize("text", PROSE)
def test_prose_with_tags_stays_as_it_is(tmp_path: Path, text: str) -> None:
    reading = read_rows(tmp_path, *({"text": other} for other in PROSE), {"text": text})
    assert kinds(reading) == ["markdown"] * (len(PROSE) + 1)
    assert reading.pages[-1].body.decode() == text


def test_the_rows_of_a_file_tell_of_each_other(tmp_path: Path) -> None:
    reading = read_rows(tmp_path, *({"text": f"{text} {n}"} for n in range(9) for text in COMMENTS))
    assert kinds(reading) == ["html", "html", "html", "markdown", "html"] * 9
    alone = read_rows(tmp_path, {"text": "Hello<br>world"})
    assert kinds(alone) == ["html"]
    late = [{"text": text} for text in [*COMMENTS[:2], *["words"] * 30] * 40 + ["it&#39;s late"]]
    assert kinds(read_rows(tmp_path, *late))[-1] == "html"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_every_table_is_judged(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"text": COMMENTS})
    path = tmp_path / f"x.{kind}"
    writers: dict[str, Any] = {
        "csv": frame.to_csv, "json": frame.to_json, "parquet": frame.to_parquet,
    }  # fmt: skip
    writers[kind](path)
    reading = read_bytes(tmp_path, path.name, path.read_bytes())
    assert kinds(reading) == ["html", "html", "html", "markdown", "html"]


def test_what_is_read_has_neither_tags_nor_entities(tmp_path: Path) -> None:
    rows = [*COMMENTS[:3], "<p>Words of a message.</p>\n\nSent from my phone", "Hello<br>world"]
    reading = read_rows(tmp_path, *({"text": row} for row in rows))
    texts = [extract_main_text(page.body.decode(), "text/html", "x").text for page in reading.pages]
    assert "that's right about" in texts[0]
    assert texts[0].count("\n\n") == 2
    assert '<stdio.h> and "main"' in texts[0]
    assert texts[1] == "Old bridges don't fall.\n\nThey sag."
    assert "it's escaped" in texts[2]
    assert "Words of a message.\n\nSent from my phone" in texts[3]
    assert texts[4].split() == ["Hello", "world"]


def test_blank_lines_between_words_part_paragraphs(tmp_path: Path) -> None:
    post = "First <em>words</em> of a post&hellip;\n\nSecond paragraph.<br>\n\nThird."
    (page,) = read_rows(tmp_path, {"body_html": post}).pages
    assert page.body.decode().count("<p>") == 2
    (page,) = read_rows(tmp_path, {"body_html": "a &lt; b &amp; c"}).pages
    assert page.content_type.startswith("text/html")


def test_markdown_with_html_outweighs_a_few_pages_of_html(tmp_path: Path) -> None:
    readme = "# Tool\n\nIt is <b>fast</b> &amp; small.<br>\n\n- one\n- two"
    rows = [readme] * 50 + ["<p>A page of HTML among them.</p>"] * 5 + ["It&apos;s <b>ok</b>"]
    reading = read_rows(tmp_path, *({"text": f"{row} {n}"} for n, row in enumerate(rows)))
    assert kinds(reading) == ["markdown"] * 50 + ["html"] * 5 + ["markdown"]


def test_a_break_in_the_file_keeps_the_rows_before_it(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in COMMENTS)
    reading = read_bytes(tmp_path, "x.jsonl", lines + '{"text": "cut')
    assert len(reading.pages) == len(COMMENTS)
    assert len(reading.failed) == 1


@pytest.mark.parametrize(
    "unit",
    ["<p>", "<pre>", "<dt>", "[", "[a](", "`", "```\n", "<p ", "<p a", "<p a=", "&amp", "|", "<!--", "<b", "**", "\n \n"],
)  # fmt: skip
def test_judging_ends(unit: str) -> None:
    assert isinstance(judge_html(unit * (70_000 // len(unit))), HtmlEvidence)
