"""Rows of JSON, delimited text, Parquet and Arrow: what is odd is read right, what is broken costs
itself alone.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.collect.files.reading import Reading, read_bytes

WORDS = "Some words of a row."


def texts(reading: Reading) -> list[str]:
    return [page.body.decode() for page in reading.pages]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf{"text": "b"}\n',
        b'{"text": "a"}\r\n\r\n  \r\n{"text": "b"}\r\n',
        b'{"text": "a"}\n{"text": "b"}',
        b'{"text": "x", "text": "a"}\n{"n": NaN, "m": -Infinity, "text": "b"}\n',
        b'{"id": ' + b"9" * 9000 + b', "text": "a"}\n{"f": 1e999, "text": "b"}\n',
        b'\x1e{"text": "a"}\n\x1e{"text": "b"}\n',
        b'[{"text": "a"}, {"text": "b"}]',
        b'[{"text": "a"},\n{"text": "b"}]\n',
        b'[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n',
        b'{\n "text": "a"\n}\n{\n "text": "b"\n}\n',
        b'"a"\n"b"\n',
        '{"text": "a"}\n{"text": "b"}\n'.encode("utf-16"),
        '{"text": "a"}\n{"text": "b"}\n'.encode("utf-16-be").join([b"\xfe\xff", b""]),
    ],
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.ndjson"])
def test_json_however_it_is_laid_out(tmp_path: Path, name: str, content: bytes) -> None:
    reading = read_bytes(tmp_path, name, content)
    assert texts(reading) == ["a", "b"]
    assert not reading.reasons


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_json_of_pandas_in_every_orientation(tmp_path: Path, orient: Any) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "url": [f"http://x.example/{n}" for n in "abc"]})
    reading = read_bytes(tmp_path, "x.json", frame.to_json(orient=orient))
    assert reading.texts == {f"http://x.example/{n}": n for n in "abc"}


def test_json_objects_of_rows(tmp_path: Path) -> None:
    squad = {"version": "1", "tags": [{"a": 1}], "data": [{"text": "a"}, {"text": "b"}, {"n": 1}]}
    reading = read_bytes(tmp_path, "x.json", json.dumps(squad))
    assert texts(reading) == ["a", "b"]
    assert set(reading.reasons) == {"file:///in/x.json#3"}
    alone = read_bytes(tmp_path, "y.json", json.dumps({"text": "a", "notes": [{"text": "b"}]}))
    assert texts(alone) == ["a"]


def test_broken_json_costs_its_row(tmp_path: Path) -> None:
    lines = [b'{"text": "a"}', b"{oops", b'{"text": "caf\xe9"}', b'{"text": "b"}', b'{"text": "cut']
    place = "file:///in/x.jsonl#"
    reading = read_bytes(tmp_path, "x.jsonl", b"\n".join(lines))
    assert texts(reading) == ["a", "b"]
    assert reading.failed == {f"{place}2", f"{place}3", f"{place}5"}
    assert reading.reasons[f"{place}3"] == "no JSON: byte 14 of its row is no UTF-8"
    stream = read_bytes(tmp_path, "x.json", b"\n".join(lines[:4]))
    assert texts(stream) == ["a", "b"]
    assert set(stream.reasons) == {"file:///in/x.json#2", "file:///in/x.json#3"}


def test_a_cut_array_keeps_its_rows(tmp_path: Path) -> None:
    content = json.dumps([{"text": "a"}, {"text": "b"}, {"text": "c"}])
    reading = read_bytes(tmp_path, "x.json", content[:-6])
    assert texts(reading) == ["a", "b"]
    assert "from here on nothing is read" in reading.reasons["file:///in/x.json#3"]
    whole_rows = read_bytes(tmp_path, "y.json", content[: content.index(', {"text": "c"')])
    assert texts(whole_rows) == ["a", "b"]
    assert whole_rows.reasons["file:///in/y.json#3"] == "its array is cut off"


def test_json_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    rows = [{"text": f"row {number} \u00e9" + "x" * 3000} for number in range(2000)]
    reading = read_bytes(tmp_path, "x.json", json.dumps(rows, ensure_ascii=False, indent=1))
    assert texts(reading) == [row["text"] for row in rows]
    long_row = json.dumps({"text": "y" * 5_000_000})
    content = f"{json.dumps(rows[0])}\n{long_row}\n{json.dumps(rows[1])}\n"
    for name in ("a.jsonl", "a.json"):
        bounded = read_bytes(tmp_path, name, content, max_bytes=10_000)
        assert texts(bounded) == [rows[0]["text"], rows[1]["text"]]
        assert bounded.reasons[f"file:///in/{name}#2"].startswith("its row is longer than")


def test_escapes_that_are_no_characters(tmp_path: Path) -> None:
    reading = read_bytes(
        tmp_path, "x.jsonl", b'{"text": "\\ud83d\\ude00 \\ud800 \\u0000nul \xe2\x80\xa8 line"}'
    )
    assert texts(reading) == ["\U0001f600 \ufffd nul \u2028 line"]


def test_deep_json_is_refused(tmp_path: Path) -> None:
    content = b'{"text": "a"}\n' + b'{"text":' * 60_000 + b"\n"
    reading = read_bytes(tmp_path, "x.jsonl", content)
    assert texts(reading) == ["a"]
    assert reading.reasons["file:///in/x.jsonl#2"].startswith("no JSON")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'url,text\nhttp://x.example/1,"a, ""b""\nc"\n'),
        ("x.csv", '\ufeffurl,text\r\nhttp://x.example/1,"a, ""b""\nc"\r\n'),
        ("x.csv", 'url;text\nhttp://x.example/1;"a, ""b""\nc"\n'),
        ("x.tsv", 'url\ttext\nhttp://x.example/1\t"a, ""b""\nc"\n'),
        ("x.csv", 'URL , Text\nhttp://x.example/1,"a, ""b""\nc"\n\n'),
        ("x.csv", '"url","text","n"\nhttp://x.example/1,"a, ""b""\nc"'),
        ("x.csv", 'url,text\nhttp://x.example/1,"a, ""b""\nc",,\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_delimited_text(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    reading = read_bytes(tmp_path, name, content.encode(encoding))
    assert reading.texts == {"http://x.example/1": 'a, "b"\nc'}
    assert not reading.reasons


def test_delimited_text_with_faults(tmp_path: Path) -> None:
    rows = b"text,n\ngood,1\n" + b"more words,2\n" * 500 + b"bad \xff,3\nx,4,moved\n,5\nlast,6\n"
    reading = read_bytes(tmp_path, "x.csv", rows)
    place = "file:///in/x.csv#"
    assert len(reading.pages) == 502
    assert reading.reasons == {
        f"{place}502": "a byte of it is no UTF-8",
        f"{place}503": "has 3 fields, the header has 2",
        f"{place}504": "an empty page",
    }
    legacy = read_bytes(
        tmp_path, "y.csv", "text,n\ncaf\u00e9 \u2013 na\u00efve,1\n".encode("cp1252")
    )
    assert texts(legacy) == ["caf\u00e9 \u2013 na\u00efve"]
    headless = read_bytes(tmp_path, "z.csv", "a,b\n1,2\n")
    assert headless.reasons["file:///in/z.csv#1"].startswith("no text in a field of a known name")


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def arrow_bytes(table: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def unchecked_strings(values: list[bytes]) -> pa.Array:
    """A column of strings that are not all UTF-8, as some writers leave them."""
    column = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), column.buffers())


TABLES: dict[str, pa.Table] = {
    "large": pa.table({"text": pa.array([WORDS], pa.large_string())}),
    "dictionary": pa.table({"text": pa.array([WORDS]).dictionary_encode()}),
    "view": pa.table({"text": pa.array([WORDS], pa.string_view())}),
    "binary": pa.table({"text": pa.array([WORDS.encode()], pa.binary())}),
    "utf16": pa.table({"text": pa.array([WORDS.encode("utf-16")], pa.binary())}),
    "struct": pa.table({"doc": [{"text": WORDS, "n": 1}], "n": [1]}),
    "list": pa.table({"text": [[WORDS]]}),
    "messages": pa.table({"messages": [[{"content": WORDS}]]}),
    "upper": pa.table({"TEXT": [WORDS], "vector": [[0.5] * 9]}),
    "second": pa.table({"text": pa.array([None], pa.string()), "content": [WORDS]}),
    "twice": pa.table([pa.array([WORDS]), pa.array(["other"])], names=["text", "text"]),
    "null type": pa.table({"text": pa.nulls(1), "body": [WORDS]}),
    "dotted": pa.table({"a.b": ["x"], "text": [WORDS]}),
    "only": pa.table({"sentence": [WORDS]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_every_type(tmp_path: Path, name: str) -> None:
    table = TABLES[name]
    reading = read_bytes(tmp_path, "x.parquet", parquet_bytes(table, compression="zstd"))
    assert texts(reading) == [WORDS]
    for kind in ("file", "stream"):
        assert texts(read_bytes(tmp_path, f"{kind}.arrow", arrow_bytes(table, kind))) == [WORDS]


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_a_byte_that_is_no_utf8_costs_its_row(tmp_path: Path, kind: str) -> None:
    column = unchecked_strings([b"good", b"caf\xe9", "caf\u00e9".encode()] + [b"more"] * 300)
    table = pa.table({"text": column, "url": [f"http://x.example/{n}" for n in range(303)]})
    is_parquet = kind == "parquet"
    content = parquet_bytes(table) if is_parquet else arrow_bytes(table, kind)
    name = "x.parquet" if is_parquet else "x.arrow"
    reading = read_bytes(tmp_path, name, content)
    assert len(reading.pages) == 302
    assert reading.texts["http://x.example/2"] == "caf\u00e9"
    (reason,) = reading.reasons.values()
    assert reason.startswith(("a byte of it is no UTF-8", "cannot be decoded"))


def test_broken_tables_keep_what_can_be_read(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {number} " + "x" * 50 for number in range(4000)]})
    content = bytearray(parquet_bytes(table, row_group_size=1000, use_dictionary=False))
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    reading = read_bytes(tmp_path, "x.parquet", bytes(content))
    assert 0 < len(reading.pages) < 4000
    assert any("cannot be read as Parquet from here on" in r for r in reading.reasons.values())
    for name, broken in {
        "cut.parquet": bytes(content[:-30]),
        "text.parquet": b"hello",
        "cut.arrow": arrow_bytes(table, "file")[:-30],
        "text.arrow": b"hello",
        "feather1.feather": b"FEA1" + bytes(100) + b"FEA1",
    }.items():
        outcome = read_bytes(tmp_path, name, broken)
        assert not outcome.pages
        assert outcome.failed, name
    cut_stream = read_bytes(tmp_path, "cut2.arrow", arrow_bytes(table, "stream")[:50_000])
    assert 0 < len(cut_stream.pages) < 4000
    assert len(cut_stream.failed) == 1


def test_wrong_offsets_of_an_arrow_file_are_found(tmp_path: Path) -> None:
    """Unchecked they lead outside of the file."""
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1 << 30, 5)))
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"words")])
    content = arrow_bytes(pa.table({"text": column}), "file")
    reading = read_bytes(tmp_path, "x.arrow", content)
    assert not reading.pages
    assert reading.failed


def test_files_without_rows_have_a_line(tmp_path: Path) -> None:
    contents = {
        "a.parquet": parquet_bytes(pa.table({"text": pa.array([], pa.string())})),
        "b.parquet": b"",
        "c.arrow": arrow_bytes(pa.table({"text": pa.array([], pa.string())}), "file"),
        "d.jsonl": b"",
        "e.jsonl": b"\n \n",
        "f.json": b"[]",
        "g.csv": b"text,url\n",
        "h.csv": b"",
    }
    for name, content in contents.items():
        reading = read_bytes(tmp_path, name, content)
        assert reading.reasons == {f"file:///in/{name}": "an empty page"}
        assert not reading.failed


def test_a_table_without_text_has_one_line(tmp_path: Path) -> None:
    numbers = pa.table({"a": range(500), "b": ["x"] * 500})
    for name, content in {
        "a.csv": b"a,b\n" + b"1,x\n" * 500,
        "a.parquet": parquet_bytes(numbers),
        "a.arrow": arrow_bytes(numbers, "file"),
    }.items():
        reason = "no text in a field of a known name (it has a, b); name it by scrape.text_field"
        assert read_bytes(tmp_path, name, content).reasons == {f"file:///in/{name}#1": reason}
        named = read_bytes(tmp_path, name, content, text_field="c.d")
        assert list(named.reasons.values()) == [
            "has no field 'c.d' (scrape.text_field); it has a, b"
        ]
        assert len(read_bytes(tmp_path, name, content, text_field="B").pages) == 500


def test_json_of_programs_is_no_failure(tmp_path: Path) -> None:
    reading = read_bytes(tmp_path, "package.json", '{"name": "x", "files": ["a"], "n": {"b": 1}}')
    assert len(reading.reasons) == 1
    assert not reading.failed
    assert read_bytes(tmp_path, "b.json", '{"name": "x"}', text_field="text").failed
