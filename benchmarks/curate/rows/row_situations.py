"""Files of rows in the states that bug reports tell of, each with the rows that can be read.

A row's text is made from its tag, so it is known again in whatever a reader gives.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class RowFile:
    """A file with the tags of its readable rows, and the number of rows that are broken."""

    name: str
    content: bytes
    tags: tuple[str, ...]
    broken: int = 0


def row_text(tag: str) -> str:
    """Text of the row with a tag."""
    return f"# {tag}\n\nThis is the text of row {tag}. It says \u201cenough\u201d about {tag}."


def write_situations() -> list[RowFile]:
    """Every situation."""
    return [*_json_files(), *_compressed_files(), *_delimited_files(), *_arrow_files()]


def _lines(*rows: Any) -> bytes:
    lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    return b"\n".join(lines) + b"\n"


def _json_files() -> list[RowFile]:
    return [*_json_lines(), *_json_documents(), *_named_fields()]


_FIRST, _SECOND = {"text": row_text("a1")}, {"text": row_text("b1")}
_FIRST_LINE, _SECOND_LINE = json.dumps(_FIRST).encode(), json.dumps(_SECOND).encode()
_PAIR = ("a1", "b1")


def _json_lines() -> list[RowFile]:
    a, b, line_a, line_b = _FIRST, _SECOND, _FIRST_LINE, _SECOND_LINE
    large = b'{"n": ' + b"9" * 6000 + b", " + line_a[1:]
    nan = _lines(b'{"n": NaN, ' + line_a[1:], b'{"n": -Infinity, ' + line_b[1:])
    return [
        RowFile("bom.jsonl", b"\xef\xbb\xbf" + _lines(a, b), _PAIR),
        RowFile("crlf.jsonl", line_a + b"\r\n\r\n" + line_b + b"\r\n", _PAIR),
        RowFile("no-end.jsonl", line_a + b"\n" + line_b, _PAIR),
        RowFile("cut-end.jsonl", line_a + b"\n" + line_b[:-9], ("a1",), 1),
        RowFile("bad-byte.jsonl", _lines(a, b'{"text": "caf\xe9"}', b), _PAIR, 1),
        RowFile("bad-line.jsonl", _lines(a, b"{oops", b), _PAIR, 1),
        RowFile("twice.jsonl", b'{"text": "x", "text": ' + line_a[9:] + b"\n" + line_b, _PAIR),
        RowFile("nan.jsonl", nan, _PAIR),
        RowFile("large-number.jsonl", _lines(large, b), _PAIR),
        RowFile("utf16.jsonl", _lines(a, b).decode().encode("utf-16"), _PAIR),
    ]


def _json_documents() -> list[RowFile]:
    a, b = _FIRST, _SECOND
    array = json.dumps([a, b])
    objects = "\n".join(json.dumps(row, indent=1) for row in (a, b))
    frame = pd.DataFrame([a, b])
    files = [
        RowFile("pretty.jsonl", json.dumps([a, b], indent=1).encode(), _PAIR),
        RowFile("objects.jsonl", objects.encode(), _PAIR),
        RowFile("array.json", array.encode(), _PAIR),
        RowFile("lines.json", _lines(a, b), _PAIR),
        RowFile("cut-array.json", array[:-5].encode(), ("a1",), 1),
        RowFile("wrapped.json", json.dumps({"version": 1, "data": [a, b]}).encode(), _PAIR),
    ]
    for orient in ("columns", "index", "split", "table", "records", "values"):
        content = frame.to_json(orient=orient).encode()
        files.append(RowFile(f"{orient}.json", content, _PAIR))
        named = frame.set_axis([f"https://wiki.example/{orient}/{name}" for name in "ab"])
        content = named.to_json(orient=orient).encode()
        files.append(RowFile(f"named-{orient}.json", content, _PAIR))
    return files


def _named_fields() -> list[RowFile]:
    t = row_text
    url = "https://wiki.example/A"
    names = ("raw_content", "document", "Text", "contents", "body", "page_content", "article")
    rows = [{name: t(f"{name}1"), "n": 1} for name in names]
    nested: list[Any] = [
        {"text": {"value": t("in1")}},
        {"text": [t("in2")]},
        {"page": {"text": t("in3")}, "n": 1},
        {"messages": [{"role": "user", "content": t("in4")}]},
    ]
    nulls = _lines({"text": None, "content": t("a1")}, {"text": "", "markdown": t("b1")})
    sections = _lines(*({"text": t(tag), "url": url} for tag in (*_PAIR, "c1")))
    return [
        RowFile("names.jsonl", _lines(*rows), tuple(f"{name}1" for name in names)),
        RowFile("nested.jsonl", _lines(*nested), ("in1", "in2", "in3", "in4")),
        RowFile("nulls.jsonl", nulls, _PAIR),
        RowFile("same-address.jsonl", sections, (*_PAIR, "c1")),
    ]


def _compressed_files() -> list[RowFile]:
    rows = [f"z{number}" for number in range(300)]
    lines = _lines(*({"text": row_text(tag)} for tag in rows))
    packed = gzip.compress(lines, mtime=0)
    second = gzip.compress(_lines({"text": row_text("m1")}), mtime=0)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("deep/a.jsonl", lines)
    tags = tuple(rows)
    return [
        RowFile("a.jsonl.gz", packed, tags),
        RowFile("a.jsonl.bz2", bz2.compress(lines), tags),
        RowFile("a.jsonl.xz", lzma.compress(lines), tags),
        RowFile("a.jsonl.zst", pa.Codec("zstd").compress(lines, asbytes=True), tags),
        RowFile("members.jsonl.gz", packed + second, (*tags, "m1")),
        RowFile("unpacked.jsonl.gz", lines, tags),
        RowFile("archive.zip", archive.getvalue(), tags),
    ]  # fmt: skip


def _delimited_files() -> list[RowFile]:
    frame = pd.DataFrame({"n": [1, 2], "text": [row_text("a1"), row_text("b1")]})
    pair = ("a1", "b1")
    plain = frame.to_csv(index=False)
    return [
        RowFile("plain.csv", plain.encode(), pair),
        RowFile("bom.csv", plain.encode("utf-8-sig"), pair),
        RowFile("utf16.csv", plain.encode("utf-16"), pair),
        RowFile("windows.csv", plain.encode("cp1252"), pair),
        RowFile("crlf.csv", frame.to_csv(index=False, lineterminator="\r\n").encode(), pair),
        RowFile("semicolon.csv", frame.to_csv(index=False, sep=";").encode(), pair),
        RowFile("quoted.csv", frame.to_csv(index=False, quoting=1).encode(), pair),
        RowFile("index.csv", frame.to_csv().encode(), pair),
        RowFile("tabs.tsv", frame.to_csv(index=False, sep="\t").encode(), pair),
        RowFile("moved.csv", (plain + "3,x,moved\n").encode(), pair, 1),
        *_odd_tables(frame, pair),
    ]


def _odd_tables(frame: pd.DataFrame, pair: tuple[str, ...]) -> list[RowFile]:
    """Tables as people and their programs leave them."""
    plain = frame.to_csv(index=False)
    twice = pd.concat([frame, frame["n"].rename("text")], axis=1).to_csv(index=False)
    first, rows = plain.split("\n", 1)
    late = "".join((first, "\n", "0,plain words\n" * 3000, rows))
    wide = frame.assign(**{"Name, Vorname": "Muster, Max"}).to_csv(index=False, sep=";")
    stray = frame.to_csv(index=False, sep="\t") + '3\t"words of a row\n'
    stray += "".join(f"{number}\twords of a row\n" for number in range(4, 300))
    return [
        RowFile("blank-lines.csv", f"\n\n{plain}".encode(), pair),
        RowFile("named-delimiter.csv", f"sep=,\n{plain}".encode(), pair),
        RowFile("two-columns.csv", twice.encode(), pair),
        RowFile("late-windows.csv", late.encode("cp1252"), pair),
        RowFile("comma-in-name.csv", wide.encode(), pair),
        RowFile("stray-mark.tsv", stray.encode(), pair),
    ]


def _parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def _unchecked_strings(values: Sequence[bytes]) -> pa.Array:
    column = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), column.buffers())


def _arrow_files() -> list[RowFile]:
    text = row_text("a1")
    columns: dict[str, pa.Table] = {
        "string": pa.table({"text": [text]}),
        "large": pa.table({"text": pa.array([text], pa.large_string())}),
        "dictionary": pa.table({"text": pa.array([text]).dictionary_encode()}),
        "view": pa.table({"text": pa.array([text], pa.string_view())}),
        "binary": pa.table({"text": pa.array([text.encode()], pa.binary())}),
        "struct": pa.table({"doc": [{"text": text}]}),
        "list": pa.table({"text": [[text]]}),
        "upper": pa.table({"TEXT": [text]}),
        "second": pa.table({"text": pa.array([None], pa.string()), "content": [text]}),
        "twice": pa.table([pa.array([text]), pa.array(["other"])], names=["text", "text"]),
    }
    files = [RowFile(f"{name}.parquet", _parquet(t), ("a1",)) for name, t in columns.items()]
    for codec in ("zstd", "brotli", "gzip", "lz4", "none"):
        content = _parquet(columns["string"], compression=codec)
        files.append(RowFile(f"{codec}.parquet", content, ("a1",)))
    bad = _unchecked_strings([text.encode(), b"caf\xe9", row_text("b1").encode()])
    files.append(RowFile("bad-byte.parquet", _parquet(pa.table({"text": bad})), ("a1", "b1"), 1))
    for name, make in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        sink = io.BytesIO()
        with make(sink, columns["string"].schema) as writer:
            writer.write_table(columns["string"])
        files.append(RowFile(f"{name}.arrow", sink.getvalue(), ("a1",)))
    feather = io.BytesIO()
    pd.DataFrame({"text": [text]}).to_feather(feather)
    files.append(RowFile("a.feather", feather.getvalue(), ("a1",)))
    return files


_CHARACTERS = "ab ,;\t\"'\n|\\\u00e9\u65e5\U0001f600#<&\u2028"
_FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "feather")
_PACKING = {"": "", ".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}


def draw_tables(count: int, seed: int) -> list[RowFile]:
    """Tables that pandas writes in forms drawn at random, with texts full of separators.

    Args:
        count: Number of files.
        seed: Start of the random numbers.
    """
    draw = random.Random(seed)  # noqa: S311 - must repeat
    return [_draw_table(draw, f"drawn{number}") for number in range(count)]


def _draw_table(draw: random.Random, name: str) -> RowFile:
    tags = [f"{name}r{row}" for row in range(draw.randint(1, 40))]
    texts = [
        f"{row_text(tag)} {''.join(draw.choices(_CHARACTERS, k=draw.randint(0, 60)))}."
        for tag in tags
    ]
    columns: dict[str, Any] = {"text": texts, "n": range(len(tags)), "empty": [None] * len(tags)}
    order = draw.sample(list(columns), len(columns))
    frame = pd.DataFrame({column: columns[column] for column in order})
    kind, packing = draw.choice(_FORMATS), draw.choice(list(_PACKING))
    file = io.BytesIO()
    if kind in ("csv", "tsv"):
        separator = "\t" if kind == "tsv" else draw.choice(",;")
        text = frame.to_csv(
            index=draw.random() < 0.5,
            sep=separator,
            quoting=draw.choice((0, 1, 2)),
            lineterminator=draw.choice(("\n", "\r\n")),
        )
        file.write(text.encode(draw.choice(("utf-8", "utf-8-sig", "utf-16"))))
    elif kind == "jsonl":
        text = frame.to_json(orient="records", lines=True, force_ascii=draw.random() < 0.5)
        file.write(text.encode())
    elif kind == "json":
        orient: Any = draw.choice(("records", "columns", "index", "split", "table"))
        indent = draw.choice((None, 2))
        file.write(frame.to_json(orient=orient, indent=indent).encode())
    elif kind == "parquet":
        codec: Any = draw.choice(("snappy", "zstd", "gzip", None))
        frame.to_parquet(file, compression=codec)
        packing = ""
    else:
        frame.to_feather(file)
        packing = ""
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": partial(gzip.compress, mtime=0),  # else the clock would be in its header
        "bz2": bz2.compress,
        "xz": lzma.compress,
    }
    content = file.getvalue()
    packed = packers[_PACKING[packing]](content) if packing else content
    return RowFile(f"{name}.{kind}{packing}", packed, tuple(tags))
