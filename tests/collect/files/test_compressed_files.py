"""Compressed files and archives: every format, breaks, bombs, and names that would lead outside."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.io import decompress
from tests.collect.files.reading import read_bytes, read_folder, zip_bytes

ROWS = [{"text": f"row {number} " + "words " * 30} for number in range(3000)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def zstd_bytes(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)  # type: ignore[no-any-return]


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstd_bytes,
    "bz2": lambda content: bz2.compress(content, 1),  # blocks of 100 kB
    "xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_of_every_compression(tmp_path: Path, suffix: str) -> None:
    pack = FORMATS[suffix]
    half = len(LINES) // 2
    for name, content in {
        f"x.jsonl.{suffix}": pack(LINES),
        f"members.jsonl.{suffix}": pack(LINES[:half]) + pack(LINES[half:]),
        "misnamed.jsonl": pack(LINES),
        f"plain.jsonl.{suffix}": LINES,
        f"x.csv.{suffix}": pack(b"text\n" + b"".join(r["text"].encode() + b"\n" for r in ROWS)),
    }.items():
        reading = read_bytes(tmp_path, name, content)
        assert len(reading.pages) == len(ROWS), name
        assert not reading.reasons
    text = read_bytes(tmp_path, f"a.md.{suffix}", pack(b"# A\n\nwords"))
    assert text.texts == {f"file:///in/a.md.{suffix}": "# A\n\nwords"}
    assert text.pages[0].content_type == "text/markdown"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_broken_stream_keeps_what_comes_before(tmp_path: Path, suffix: str) -> None:
    varied = [{"text": f"{n} " + str(n**50)} for n in range(4000)]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in varied)
    packed = FORMATS[suffix](lines)
    for name, content in {
        "cut": packed[: len(packed) * 2 // 3],
        "broken": packed[: len(packed) * 2 // 3] + bytes(60) + packed[len(packed) * 2 // 3 + 60 :],
    }.items():
        reading = read_bytes(tmp_path, f"{name}.jsonl.{suffix}", content)
        assert 500 < len(reading.pages) < 4000, name
        assert any("what follows is not read" in reason for reason in reading.reasons.values())
    padded = read_bytes(tmp_path, f"padded.jsonl.{suffix}", packed + bytes(512))
    if suffix != "zst":
        assert len(padded.pages) == 4000


def test_a_bomb_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "_BOMB_BYTES", 1 << 20)
    content = gzip.compress(b"a \n" * 5_000_000)
    reading = read_bytes(tmp_path, "x.txt.gz", content, part_bytes=100_000)
    assert len(reading.pages) < 20
    assert any("unpacks to more than" in reason for reason in reading.reasons.values())
    packed = zip_bytes({"a.txt": b"a \n" * 5_000_000})
    inside = read_bytes(tmp_path, "x.zip", packed, part_bytes=100_000)
    assert len(inside.pages) < 40  # of 150
    assert any("unpacks to more than" in reason for reason in inside.reasons.values())


def test_an_xz_stream_may_not_take_all_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0}]
    content = lzma.compress(b"words\n" * 10, format=lzma.FORMAT_XZ, filters=filters)
    reading = read_bytes(tmp_path, "x.txt.xz", content)
    assert not reading.pages
    assert "its xz stream is broken: Memory usage limit" in str(reading.reasons)


def tar_bytes(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link.md")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["in parquet"]}), file)
    return file.getvalue()


def members() -> dict[str, bytes]:
    return {
        "docs/a.md": b"# A",
        "docs/b c#.txt": b"words of b",
        "rows.jsonl.gz": gzip.compress(b'{"text": "row one"}\n{"text": "row two"}\n'),
        "t.parquet": parquet_bytes(),
        "../../etc/up.md": b"outside",
        "/abs.md": b"absolute",
        "picture.png": b"\x89PNG",
        "__MACOSX/docs/._a.md": b"junk",
        ".DS_Store": b"junk",
        "inner.zip": zip_bytes({"deep.txt": "deep words"}),
    }


EXPECTED = {
    "docs/a.md": "# A",
    "docs/b%20c%23.txt": "words of b",
    "rows.jsonl.gz#1": "row one",
    "rows.jsonl.gz#2": "row two",
    "t.parquet#1": "in parquet",
    "etc/up.md": "outside",
    "abs.md": "absolute",
    "inner.zip/deep.txt": "deep words",
}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2"])
def test_members_are_read_as_the_files_that_they_are(tmp_path: Path, name: str) -> None:
    if name == "x.zip":
        content = zip_bytes(members())
    else:
        modes = {"tar": "w", "gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}
        content = tar_bytes(members(), modes[name.rpartition(".")[2]])
    reading = read_bytes(tmp_path, name, content)
    place = f"file:///in/{name}/"
    assert reading.texts == {f"{place}{member}": text for member, text in EXPECTED.items()}
    assert reading.reasons.pop(f"{place}link.md", "a link or device in an archive")
    assert reading.reasons == {
        f"{place}picture.png": "its kind is not known",
        f"{place}__MACOSX/docs/._a.md": "a hidden file",
        f"{place}.DS_Store": "a hidden file",
        **({} if name == "x.zip" else {f"{place}link.md": "a link or device in an archive"}),
    }
    assert not reading.failed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "scratch"]


def test_archives_in_archives_end(tmp_path: Path) -> None:
    content = zip_bytes({"a.txt": "words"})
    for _ in range(5):
        content = zip_bytes({"a.zip": content, "b.txt": "beside"})
    reading = read_bytes(tmp_path, "x.zip", content)
    assert len(reading.pages) == 3
    assert list(reading.reasons.values()) == ["lies in more than 3 archives"]


def test_broken_archives_are_set_aside_with_a_reason(tmp_path: Path) -> None:
    whole = zip_bytes({"a.txt": b"words of a " * 400, "b.txt": b"words of b " * 400})
    broken_member = bytearray(whole)
    broken_member[45:60] = bytes(15)
    tar = tar_bytes({"a.txt": b"words of a " * 400, "b.txt": b"words of b " * 4000})
    encrypted = bytearray(zip_bytes({"a.txt": "secret"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(magic) + offset] |= 1
    for name, content, pages, reason in (
        ("cut.zip", whole[:-40], 0, "cannot be read as an archive"),
        ("member.zip", bytes(broken_member), 1, "is broken in its archive"),
        ("text.zip", b"PK", 0, "cannot be read as an archive"),
        ("locked.zip", bytes(encrypted), 0, "is encrypted in its archive"),
        ("cut.tar", tar[:8000], 1, "cannot be read"),
        ("cut.tar.gz", gzip.compress(tar)[:150], None, "its gzip stream is cut off"),
        ("text.tar", b"hello", 0, "cannot be read as an archive"),
    ):
        reading = read_bytes(tmp_path, name, content)
        assert pages is None or len(reading.pages) == pages, name
        assert any(reason in found for found in reading.reasons.values()), reading.reasons
        assert reading.failed


def test_an_archive_in_a_folder_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.md").write_text("beside")
    (folder / "empty.zip").write_bytes(zip_bytes({}))
    stored = zip_bytes({"a.txt": b"stored"}, zipfile.ZIP_STORED)
    (folder / "b.zip").write_bytes(stored)
    reading = read_folder(folder)
    assert set(reading.texts) == {"file:///in/a.md", "file:///in/b.zip/a.txt"}
    assert reading.reasons == {"file:///in/empty.zip": "an empty page"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_of_one_name_have_addresses_of_their_own(tmp_path: Path, kind: str) -> None:
    packed = gzip.compress(b'{"text": "row"}\n', mtime=0)
    members = [
        ("a.md", b"# first"), ("a.md", b"# second"), ("./a.md", b"# third"), ("b/c.md", b"c"),
        ("../b/c.md", b"other c"), ("b\\c.md", b"another c"), ("a (2).md", b"named so"),
        ("x.jsonl.gz", packed), ("x.jsonl.gz", packed), (".h", b""), (".h", b""),
    ]  # fmt: skip
    archive = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in members:
                file.writestr(name, content)
    else:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    reading = read_bytes(tmp_path, f"x.{kind}", archive.getvalue())
    place = f"file:///in/x.{kind}/"
    assert [(page.url.removeprefix(place), page.body) for page in reading.pages] == [
        ("a.md", b"# first"),
        ("a%20%282%29.md", b"# second"),
        ("a%20%283%29.md", b"# third"),
        ("b/c.md", b"c"),
        ("b/c%20%282%29.md", b"other c"),
        ("b/c%20%283%29.md", b"another c"),
        ("a%20%282%29%20%282%29.md", b"named so"),
        ("x.jsonl.gz#1", b"row"),
        ("x%20%282%29.jsonl.gz#1", b"row"),
    ]
    assert {page.content_type for page in reading.pages[:7]} == {"text/markdown"}
    assert set(reading.reasons) == {f"{place}.h", f"{place}.h%20%282%29"}


@pytest.mark.parametrize("suffix", ["tgz", "taz", "tbz", "tb2", "tbz2", "tz2", "txz", "TBZ"])
def test_short_suffixes_of_packed_archives(tmp_path: Path, suffix: str) -> None:
    archive = io.BytesIO()
    mode: Any = {"g": "w:gz", "a": "w:gz", "x": "w:xz"}.get(suffix[1].lower(), "w:bz2")
    with tarfile.open(fileobj=archive, mode=mode) as tar:
        entry = tarfile.TarInfo("a.md")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"words"))
    reading = read_bytes(tmp_path, f"x.{suffix}", archive.getvalue())
    assert reading.texts == {f"file:///in/x.{suffix}/a.md": "words"}
