"""Damaged files of every kind: whatever the bytes are, reading ends, with pages or reasons."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from benchmarks.curate.rows.row_situations import write_situations
from tests.collect.files.reading import read_bytes, zip_bytes
from tests.collect.files.test_compressed_files import tar_bytes
from tests.collect.files.test_dumps import FILE_HEAD, MESSAGE, POSTS, SAVED, arc_record, http

ARC = FILE_HEAD + arc_record("http://x.example/a", http("<p>page a</p>"))
SAMPLES = {
    **{
        file.name: file.content[:20_000]
        for file in write_situations()
        if file.name != "archive.zip"
    },
    "a.zip": zip_bytes({"a.txt": "words " * 50, "b.jsonl": '{"text": "x"}\n' * 9}),
    "a.tar.gz": gzip.compress(tar_bytes({"a.txt": b"words " * 50, "b.md": b"# B"})),
    "a.eml": MESSAGE.encode(),
    "a.mbox": f"From a\n{MESSAGE}\nFrom b\n{MESSAGE}".encode(),
    "a.mhtml": SAVED.encode(),
    "a.xml": POSTS.encode(),
    "a.arc": ARC,
    "a.md": b"# A\n\nwords\n",
}


def damage(content: bytes, draw: random.Random) -> bytes:
    """Content with some bytes changed, cut out, doubled, or cut off."""
    damaged = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(damaged) + 1)
        match draw.randrange(5):
            case 0:
                damaged[at : at + draw.randint(1, 8)] = draw.randbytes(draw.randint(1, 8))
            case 1:
                del damaged[at : at + draw.randint(1, 200)]
            case 2:
                damaged[at:at] = damaged[at : at + draw.randint(1, 200)]
            case 3:
                del damaged[max(1, at) :]
            case _:
                damaged[at : at + 1] = bytes([draw.choice(b'\0\xff\n"{[<,=')])
    return bytes(damaged)


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_gives_pages_or_reasons(tmp_path: Path, name: str) -> None:
    draw = random.Random(name)
    for _ in range(12):
        reading = read_bytes(tmp_path, name, damage(SAMPLES[name], draw))
        assert reading.pages or reading.reasons


def test_every_kind_takes_the_bytes_of_every_other(tmp_path: Path) -> None:
    kinds = ("json", "jsonl", "csv", "tsv", "parquet", "arrow", "zip", "tar", "warc", "arc", "wacz")
    kinds += ("xml", "eml", "mbox", "mhtml", "txt", "html", "md.gz")
    for content in list(SAMPLES.values())[::7]:
        for kind in kinds:
            reading = read_bytes(tmp_path, f"x.{kind}", content)
            assert reading.pages or reading.reasons, kind
