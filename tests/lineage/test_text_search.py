"""A text is found in whatever it is packed in, and not where it is not."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.settings import Settings
from components.core.store.artifact import Corpus, Tokens, canonical_json
from components.core.store.workdir import Workdir
from components.lineage.text_search import search_workspace
from components.tokenize.pack_tokens import TokensConfig, pack_tokens
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer

SENTENCE = 'The vermilion heron counted eleven brass umbrellas "before" breakfast & tea.'
OTHER = "Nothing of interest happened on the second morning, as far as anybody knows."


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


def places(settings: Settings, text: str = SENTENCE) -> list[tuple[str, str]]:
    return [(hit.path, hit.where) for hit in search_workspace(settings, [text]).hits]


def plain(path: Path, text: str) -> None:
    path.write_text(f"before {text} after")


def wrapped(path: Path, text: str) -> None:
    path.write_text(text.replace(" ", "\n   "))


def in_json(path: Path, text: str) -> None:
    path.write_text(json.dumps({"answer": f"so:\n{text}"}))


def zipped(path: Path, text: str) -> None:
    """Two members, as in a WARC."""
    path.write_bytes(gzip.compress(b"first") + gzip.compress(text.encode()))


def zstandard(path: Path, text: str) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(text.encode())


def nested(path: Path, text: str) -> None:
    rows = [{"votes": [{"said": ["no", text]}]}]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def column(path: Path, text: str) -> None:
    pq.write_table(pa.table({"text": [OTHER, text] * 50}), path, compression="zstd")


def database(path: Path, text: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (body BLOB)")
        long = b"x" * 4000 + text.encode() + b"y" * 9000  # over several pages of the file
        connection.execute("INSERT INTO answers VALUES (?)", (long,))
    connection.close()


def pickled(path: Path, text: str) -> None:
    packed = base64.b64encode(f"{'x' * 90}{text}".encode()).decode()
    path.write_text(json.dumps({"result": packed}))


@pytest.mark.parametrize(
    "write",
    [plain, wrapped, in_json, zipped, zstandard, nested, column, database, pickled],
)
def test_found_in_every_packing(settings: Settings, write: Callable[[Path, str], None]) -> None:
    write(settings.home / "holds", SENTENCE)
    write(settings.home / "other", OTHER)
    assert {path for path, _ in places(settings)} == {"holds"}


def test_tokens_are_read_with_their_tokenizer(
    settings: Settings, corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus = corpus_of([f"{OTHER} Page {number}. " * 20 for number in range(9)] + [SENTENCE])
    tokenizer = train_tokenizer(TokenizerConfig(vocabulary=300), corpus, again())
    lineage = {"corpus": corpus.digest, "tokenizer": tokenizer.digest}
    work = again()
    work.lineage = work.lineage.model_copy(update={"parents": lineage})
    tokens = pack_tokens(TokensConfig(min_train_tokens=1), corpus, tokenizer, work)
    found = places(settings)
    assert f"store/{corpus.name}" in {Path(path).parent.as_posix() for path, _ in found}
    packed = {where for path, where in found if path.startswith(f"store/{tokens.name}/")}
    assert "tokens" in packed
    assert not {path for path, _ in found if path.startswith(f"store/{tokenizer.name}/")}


def test_tokens_without_their_tokenizer_are_said(
    settings: Settings, again: Callable[[], Workdir]
) -> None:
    work = again()
    work.lineage = work.lineage.model_copy(update={"parents": {"tokenizer": "gone"}})
    np.save(work.folder / "train.npy", np.zeros(3, dtype=np.uint16))
    (work.folder / "meta.json").write_bytes(canonical_json({}))
    work.seal(Tokens)
    assert "its tokenizer is gone" in search_workspace(settings, [SENTENCE]).unreadable[0]


def test_damaged_files_are_said_and_searched_as_bytes(settings: Settings) -> None:
    (settings.home / "bad.gz").write_bytes(b"\x1f\x8b" + SENTENCE.encode())
    (settings.home / "empty").touch()
    findings = search_workspace(settings, [SENTENCE])
    assert [hit.path for hit in findings.hits] == ["bad.gz"]
    assert findings.unreadable[0].startswith("bad.gz")
    assert findings.files == 2
