"""CSV and TSV in the states that people's files are in: charsets, stray quotation marks, headers."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pandas as pd
import pytest

from tests.collect.files.reading import Reading, read_bytes

PLACE = "file:///in/x.csv#"
GERMAN = "Größere Fahrzeuge müssen draußen bleiben, für den Weg über die Brücke nach Köln."
TEXTS = {
    "cp1252": GERMAN,
    "cp1251": "Это обычный русский текст о погоде и дорогах, который достаточно длинный.",
    "koi8-r": "Вчера вечером мы долго говорили о новом доме у реки и о старых друзьях.",
    "cp1250": "Zażółć gęślą jaźń, łódź płynie po rzece i świeci słońce nad miastem.",
    "iso8859-7": "Ο καιρός σήμερα είναι καλός και πηγαίνουμε μια βόλτα στην παραλία.",
    "cp1255": "היום מזג האוויר יפה ואנחנו הולכים לטייל בפארק ליד הבית הישן.",
    "gb18030": "这是一个中文的句子，今天天气很好，我们去公园散步，然后回家吃饭。",
    "big5": "這是一個中文的句子，今天天氣很好，我們去公園散步，然後回家吃飯。",
    "cp932": "これは日本語の文章です。今日は天気が良いので散歩に行きました。",
    "euc_jp": "昨日は友達と一緒に映画を見て、そのあとで晩ご飯を食べました。",
    "cp949": "오늘은 날씨가 좋아서 공원에서 산책을 하고 집에 돌아왔습니다.",
    "iso2022_jp": "電車で海へ行って、きれいな写真をたくさん撮りました。",
    "mac_roman": GERMAN,
    "cp850": "Les élèves étaient très fatigués après la fête donnée à côté du château.",
    "utf-16-le": "Words of a table without a byte order mark, für Köln.",
}


def texts(reading: Reading) -> list[str]:
    return [page.body.decode() for page in reading.pages]


@pytest.mark.parametrize("codec", TEXTS)
@pytest.mark.parametrize("plain_rows", [0, 4000])
def test_the_charset_is_told_by_the_text_wherever_it_begins(
    tmp_path: Path, codec: str, plain_rows: int
) -> None:
    plain = [f"plain words of row {number} and no more" for number in range(plain_rows)]
    rows = [*plain, *(f"{TEXTS[codec]} {number}" for number in range(30))]
    content = "id;text\r\n" + "".join(f'{at};"{row}"\r\n' for at, row in enumerate(rows))
    for name, body in {
        "x.csv": content.encode(codec),
        "x.csv.gz": gzip.compress(content.encode(codec)),
    }.items():
        reading = read_bytes(tmp_path, name, body)
        assert texts(reading) == rows
        assert not reading.reasons


def test_a_few_quotation_marks_of_windows_are_read(tmp_path: Path) -> None:
    rows = ["It\u2019s here." if at % 40 == 0 else "plain words " * 30 for at in range(400)]
    content = "text,n\n" + "".join(f'"{row}",{at}\n' for at, row in enumerate(rows))
    reading = read_bytes(tmp_path, "x.csv", content.encode("cp1252"))
    assert texts(reading) == [row.rstrip() if row.endswith("here.") else row for row in rows]


def test_a_byte_that_is_none_of_the_charset_costs_its_row(tmp_path: Path) -> None:
    rows = [f"{TEXTS['gb18030']} {number}".encode("gb18030") for number in range(20)]
    rows[7] = b"broken \xff\xff" + rows[7]
    reading = read_bytes(tmp_path, "x.csv", b"text,n\n" + b"".join(row + b",1\n" for row in rows))
    assert len(reading.pages) == 19
    assert reading.reasons == {f"{PLACE}8": "a byte of it is no gb18030"}
    lone = b"text,n\n" + b"more words,2\n" * 500 + b"bad \xff,3\n"
    reading = read_bytes(tmp_path, "x.csv", lone)
    assert reading.reasons == {f"{PLACE}501": "a byte of it is no UTF-8"}


def test_a_break_keeps_the_rows_before_it(tmp_path: Path) -> None:
    draw = random.Random(5)
    lines = "".join(f"{at},{GERMAN.replace(',', '')} {draw.random()}\n" for at in range(30_000))
    packed = gzip.compress(f"n,text\n{lines}".encode())
    reading = read_bytes(tmp_path, "x.csv.gz", packed[: len(packed) // 2])
    assert len(reading.pages) > 10_000
    assert "cut off" in reading.reasons["file:///in/x.csv.gz#rest"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("at", [0, 50, 398, 399])
def test_a_stray_quotation_mark_costs_no_other_row(tmp_path: Path, delimiter: str, at: int) -> None:
    rows = [f"Row {number} tells of a bridge" for number in range(400)]
    rows[at] = f'"{rows[at]}'
    content = f"id{delimiter}text\n"
    content += "".join(f"{number}{delimiter}{row}\n" for number, row in enumerate(rows))
    name = "x.tsv" if delimiter == "\t" else "x.csv"
    reading = read_bytes(tmp_path, name, content)
    assert texts(reading) == rows


def test_stray_quotation_marks_of_any_place(tmp_path: Path) -> None:
    """Marks that open at one row's beginning and would close at another's, also at its end."""
    draw = random.Random(11)
    for trial in range(30):
        marks = draw.sample(range(300), 5)
        rows = [f"row {number} of some words" for number in range(300)]
        for at in marks:
            rows[at] = draw.choice(('"{}', '"{}', 'a 7" {}', '{} 7"')).format(rows[at])
        first = draw.choice((1, 2**20))
        lines = [
            f"{first + number}\thttps://x.example/{number}\t{r}" for number, r in enumerate(rows)
        ]
        reading = read_bytes(tmp_path, "x.tsv", "id\turl\ttext\n" + "\n".join(lines) + "\n")
        read = {page.url: page.body.decode() for page in reading.pages}
        whole = {f"https://x.example/{n}": row for n, row in enumerate(rows) if n not in marks}
        assert whole.items() <= read.items(), trial
        assert len(reading.pages) + len(reading.reasons) == 300


def test_a_row_with_a_stray_mark_that_has_other_fields_is_set_aside(tmp_path: Path) -> None:
    rows = "".join(f'{at},"words, and {at}"\n' for at in range(2, 40))
    reading = read_bytes(tmp_path, "x.csv", f'id,text\n0,good\n1,"open, and more\n{rows}')
    assert texts(reading) == ["good", *(f"words, and {at}" for at in range(2, 40))]
    reason = "a quotation mark in it is not closed before the end of the file"
    assert reading.reasons == {f"{PLACE}2": reason}
    assert reading.failed


def test_texts_of_several_lines_stay_whole(tmp_path: Path) -> None:
    written = [
        "one, two\nthree, four\nfive, six",
        "How do I read this?\n\n1,apple\n2,banana\n3,cherry\n\nThanks.",
        "A table:\n1,apple\n2,banana",
        'He said:\n"Hello, there"\nand left, at once',
        "Shall I compare thee,\nto a day, 5\nof summer, 6",
        "a\rb\r\nc",
    ] * 3  # fmt: skip
    frame = pd.DataFrame({"id": range(100, 100 + len(written)), "text": written})
    for quoting in (0, 1, 2):
        content = frame.to_csv(index=False, quoting=quoting, lineterminator="\n")
        assert texts(read_bytes(tmp_path, "x.csv", content.encode())) == written
    swapped = frame[["text", "id"]].to_csv(index=False)
    assert texts(read_bytes(tmp_path, "x.csv", swapped.encode())) == written


def test_a_text_that_is_cut_off_is_one_row(tmp_path: Path) -> None:
    content = 'text,id\ngood,1\n"A text, of many words\nwith a line, and more\nand cut of'
    reading = read_bytes(tmp_path, "x.csv", content)
    assert texts(reading) == ["good"]
    assert set(reading.reasons) == {f"{PLACE}2"} == reading.failed


def test_a_column_alone_with_an_open_quotation_mark(tmp_path: Path) -> None:
    rows = "".join(f"words of {at}\n" for at in range(20))
    reading = read_bytes(tmp_path, "x.csv", f'text\ngood\n"open\n{rows}')
    assert texts(reading) == ["good", '"open', *(f"words of {at}" for at in range(20))]


def test_an_open_quotation_mark_is_bounded(tmp_path: Path) -> None:
    content = 'text,n\ngood,1\n"open,2\n' + "words,3\n" * 20_000
    reading = read_bytes(tmp_path, "x.csv", content, max_bytes=5_000)
    assert texts(reading) == ["good", '"open', *["words"] * 20_000]
    prose = '"' + "many words, and no row\n" * 3_000 + '",3\n'
    reading = read_bytes(tmp_path, "x.csv", f"text,n\ngood,1\n{prose}last,4\n", max_bytes=5_000)
    assert texts(reading) == ["good", "last"]
    assert reading.reasons[f"{PLACE}2"].startswith("a field of it is longer than the bound")
    line = "x" * 200_000
    reading = read_bytes(tmp_path, "x.csv", f"text,n\n{line},2\nlast,4\n", max_bytes=5_000)
    assert texts(reading) == ["last"]
    assert set(reading.reasons) == {f"{PLACE}1"}


@pytest.mark.parametrize(
    "head",
    ["\n", "\r\n\r\n", " \n\t\n", ",,\n\n", "\ufeff\n", "sep=,\n", "SEP=,\r\n", '"sep=,"\n', "\n\nsep=,\n"],
)  # fmt: skip
def test_lines_above_the_header(tmp_path: Path, head: str) -> None:
    reading = read_bytes(tmp_path, "x.csv", f"{head}id,text\n1,words\n2,more\n")
    assert texts(reading) == ["words", "more"]
    assert not reading.reasons


@pytest.mark.parametrize(
    ("head", "above"),
    [
        ("Export of 2024-01-01\n\n", 2),
        ("# a comment, by us\n", 1),
        ("Report\nby Max\n\n", 3),
        ('Sales, all of them\n"quoted"\n', 2),
    ],
)
def test_the_head_of_a_report_is_no_header(tmp_path: Path, head: str, above: int) -> None:
    reading = read_bytes(tmp_path, "x.csv", f'{head}id;url;text\n1;https://x.example/;"a, b"\n')
    assert reading.texts == {"https://x.example/": "a, b"}
    assert reading.reasons == {f"{PLACE}0": f"{above} lines above the header"}
    assert not reading.failed


def test_headers_of_several_lines_and_columns_alone_stay(tmp_path: Path) -> None:
    assert texts(read_bytes(tmp_path, "x.csv", '"id\n(number)","text"\n1,words\n')) == ["words"]
    alone = read_bytes(tmp_path, "x.csv", "sentence\nfirst\ntext and more\n")
    assert texts(alone) == ["first", "text and more"]
    alone = read_bytes(tmp_path, "x.csv", 'text\nfirst\n"id,text"\n')
    assert texts(alone) == ["first", "id,text"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "~"])
def test_excels_own_line_names_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    table = f"sep={delimiter}\r\nid{delimiter}text\r\n1{delimiter}a, b; c\r\n"
    table = table.replace("; c", "") if delimiter == ";" else table
    for name in ("x.csv", "x.tsv"):
        (page,) = read_bytes(tmp_path, name, table).pages
        assert page.body.decode().startswith("a, b")


def test_the_delimiter_is_told_by_named_fields_and_rows(tmp_path: Path) -> None:
    rows = "".join(f'{at};"Muster, Max";"Words, and more {at}"\r\n' for at in range(3))
    content = f"Nr.;Name, Vorname;Beschreibung\r\n{rows}"
    expected = [f"Words, and more {at}" for at in range(3)]
    assert texts(read_bytes(tmp_path, "x.csv", content, text_field="Beschreibung")) == expected
    reason = read_bytes(tmp_path, "x.csv", content).reasons[f"{PLACE}1"]
    assert "it has Nr., Name, Vorname, Beschreibung" in reason
    piped = "a,b|Notes\nx,y|words, words\n"
    assert texts(read_bytes(tmp_path, "x.csv", piped, text_field="notes")) == ["words, words"]


def test_of_two_columns_of_one_name_the_first_counts(tmp_path: Path) -> None:
    reading = read_bytes(tmp_path, "x.csv", "text,url,text\nfirst,https://x.example/,second\n")
    assert reading.texts == {"https://x.example/": "first"}
    third = read_bytes(tmp_path, "x.csv", "text,text\nfirst,second\n", text_field="text.1")
    assert texts(third) == ["second"]
