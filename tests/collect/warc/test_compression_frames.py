"""Archives in zstd and LZ4: a broken frame costs its record, and what cannot be read is said."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from fastwarc.stream_io import Lz4Writer, ZstdWriter, zstd_train_dictionary_from_samples

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc import damaged_stream
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from tests.collect.crawling import NOW, stored
from tests.collect.warc.test_archive_reader import MB, found, record

NO_OTHER = "; no frame follows that reading could go on with"


def page(name: str, size: int = 300) -> bytes:
    """A record whose text repeats little."""
    words = " ".join(f"{name}{number * 7919 % 10007}" for number in range(size))
    return record(f"http://a.example/{name}", f"<p>{words}</p>".encode())


RECORDS = [page(name) for name in "abcde"]


def frames(records: list[bytes], suffix: str = "zst") -> list[bytes]:
    """Each as a frame of its own."""
    found = []
    for one in records:
        packed = io.BytesIO()
        writer = ZstdWriter(packed) if suffix == "zst" else Lz4Writer(packed)
        for at in range(0, len(one), MB):  # of more at a time, zstd's writer takes but a part
            writer.write(one[at : at + MB])
        writer.finish()
        writer.flush()
        writer.close()
        found.append(packed.getvalue())
    return found


def with_dictionary(records: list[bytes], *, packed: bool) -> tuple[bytes, int]:
    """(A file that starts with the dictionary that its frames need, its dictionary's length.)"""
    samples = [one[at : at + 200] for one in records for at in range(0, len(one), 200)]
    dictionary = zstd_train_dictionary_from_samples(samples, 2048)
    file = io.BytesIO()
    writer = ZstdWriter(file, dictionary=dictionary, compress_dictionary_frame=packed)
    for one in records:
        writer.write(one)
        writer.finish()
    writer.flush()
    writer.close()
    whole = file.getvalue()
    return whole, 8 + int.from_bytes(whole[4:8], "little")


def broken(frame: bytes, at: int = 100, length: int = 12) -> bytes:
    """A frame with nothing where something was: LZ4 has no digest, and notices little else."""
    return frame[:at] + bytes(length) + frame[at + length :]


@pytest.mark.parametrize(("suffix", "name"), [("zst", "zstd"), ("lz4", "LZ4")])
def test_a_broken_frame_costs_its_record_alone(tmp_path: Path, suffix: str, name: str) -> None:
    whole = frames(RECORDS, suffix)
    assert found(tmp_path, b"".join(whole), f"x.warc.{suffix}") == (list("abcde"), [])
    for at in (100, 6, 5):  # in its content, and in what says where it ends
        whole[1] = broken(frames(RECORDS, suffix)[1], at, 200)
        pages, reasons = found(tmp_path, b"".join(whole), f"x.warc.{suffix}")
        assert pages == ["a", "c", "d", "e"]
        assert f"its {name} frame is broken or cut off" in reasons


def test_what_a_broken_frame_holds_is_no_frame_of_the_file(tmp_path: Path) -> None:
    """A page may show packed bytes: where its frame says that it ends, reading goes on."""
    (inner,) = frames([page("inner")])
    noise = random.Random(1).randbytes(3000)
    (outer,) = frames([record("http://a.example/outer", noise + inner + noise)])
    assert inner in outer
    torn = broken(outer, 1000)
    pages, reasons = found(tmp_path, torn + frames(RECORDS)[0], "x.warc.zst")
    assert (pages, reasons) == (["a"], ["its zstd frame is broken or cut off"])


@pytest.mark.parametrize("suffix", ["zst", "lz4"])
def test_cut_off_and_interrupted_files(tmp_path: Path, suffix: str) -> None:
    one, two, three, *_ = frames(RECORDS, suffix)
    pages, reasons = found(tmp_path, one + two + three[:-30], f"x.warc.{suffix}")
    assert pages == ["a", "b"]
    assert len(reasons) == 1
    assert reasons[0].endswith(f"frame is broken or cut off{NO_OTHER}")
    pages, reasons = found(tmp_path, one + b"junk" * 20 + two[:-30] + three, f"x.warc.{suffix}")
    assert pages == ["a", "c"]
    assert reasons[0].startswith("no ")


@pytest.mark.parametrize("suffix", ["zst", "lz4"])
def test_a_file_that_is_one_frame_ends_at_its_break(tmp_path: Path, suffix: str) -> None:
    records = [page(name, 30_000) for name in "abcdef"]
    (whole,) = frames([b"".join(records)], suffix)
    assert found(tmp_path, whole, f"x.warc.{suffix}") == (list("abcdef"), [])
    pages, reasons = found(tmp_path, broken(whole, len(whole) * 3 // 4, 5000), f"x.warc.{suffix}")
    # An LZ4 block is four megabytes and comes whole or not at all.
    assert pages[:2] == (["a", "b"] if suffix == "zst" else [])
    assert "f" not in pages
    assert len(reasons) == 1
    assert reasons[0].endswith(NO_OTHER)


@pytest.mark.parametrize("packed", [False, True])
def test_frames_with_a_dictionary(tmp_path: Path, packed: bool) -> None:
    whole, start = with_dictionary(RECORDS, packed=packed)
    assert found(tmp_path, whole, "x.warc.zst") == (list("abcde"), [])
    second = whole.index(b"\x28\xb5\x2f\xfd", start + 4)
    torn = whole[: second + 60] + bytes(20) + whole[second + 80 :]
    pages, reasons = found(tmp_path, torn, "x.warc.zst")
    assert pages == ["a", "c", "d", "e"]
    assert reasons == ["its zstd frame is broken or cut off"]


def test_frames_whose_dictionary_is_lost(tmp_path: Path) -> None:
    whole, start = with_dictionary(RECORDS, packed=False)
    pages, reasons = found(tmp_path, whole[start:], "x.warc.zst")
    assert pages == []
    needs = "its zstd frame needs a dictionary that the file does not hold"
    assert reasons == [*[needs] * 4, needs + NO_OTHER]


@pytest.mark.parametrize("suffix", ["zst", "lz4"])
def test_a_skippable_frame_is_skipped(tmp_path: Path, suffix: str) -> None:
    note = b"\x50\x2a\x4d\x18\x04\0\0\0note"
    one, two, *_ = frames(RECORDS, suffix)
    assert found(tmp_path, one + note + two, f"x.warc.{suffix}") == (["a", "b"], [])
    endless = b"\x50\x2a\x4d\x18\xff\xff\xff\xff"
    pages, reasons = found(tmp_path, one + endless + two, f"x.warc.{suffix}")
    assert pages == ["a", "b"]
    assert len(reasons) == 1


@pytest.mark.parametrize("suffix", ["zst", "lz4"])
def test_a_bomb_costs_its_frame_alone(tmp_path: Path, suffix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(damaged_stream, "_BOMB_BYTES", 10 * MB)
    bomb = record("http://a.example/x", b"\0" * 50 * MB)
    content = b"".join(frames([bomb, RECORDS[0]], suffix))
    assert found(tmp_path, content, f"x.warc.{suffix}") == (
        ["a"],
        [f"unpacks to more than {10 * MB} bytes"],
    )


def test_a_file_with_breaks_everywhere_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(damaged_stream, "_MAX_BREAKS", 3)
    torn = [broken(frame) for frame in frames(RECORDS)]
    _, reasons = found(tmp_path, b"".join(torn), "x.warc.zst")
    assert reasons[-1] == "broken in 3 places; the rest is not read"


def test_what_is_broken_is_counted_and_named(tmp_path: Path, work: Workdir) -> None:
    whole = frames(RECORDS)
    whole[2] = broken(whole[2])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.warc.zst").write_bytes(b"".join(whole))
    crawl = ScrapeConfig(files=[f"{tmp_path}/in/*.zst"], shards=1, max_failed_share=0.5)
    pages = scrape(resolve_crawl(crawl, [], False, NOW), work)
    assert {url[-1] for url in stored(work, pages)} == set("abde")
    assert pages.stats["failed"] == 1
    rows = read_shard(work.artifact_folder(pages) / "ledger.parquet").to_pylist()
    (bad,) = [row for row in rows if row["reason"]]
    assert bad["url"] == f"file:///in/x.warc.zst#byte-{len(RECORDS[0] + RECORDS[1])}"
    assert bad["reason"] == "its zstd frame is broken or cut off"
