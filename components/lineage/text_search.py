"""Search for texts in every file of a workspace, inside whatever format packs them.

Parquet columns, gzip and zstd streams, SQLite rows, base64 in JSON, and token arrays, which are
decoded with their own tokenizer. Any white space matches any other, since extraction changes it.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import mmap
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.settings import Settings
from components.core.store.artifact import Tokens
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode

_CHUNK, _OVERLAP = 1 << 24, 1 << 16
"""Bytes scanned at a time, and the overlap of consecutive pieces, which bounds a match."""
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")
_LARGEST_JSON = 1 << 22
_SQLITE = b"SQLite format 3\0"
_DAMAGED = (OSError, EOFError, ValueError, pa.ArrowException, sqlite3.Error)


@dataclass(frozen=True)
class SearchHit:
    """File that holds a text, and the place in it."""

    path: str
    """Relative to the workspace."""
    where: str
    """Column, table or kind of packing."""


@dataclass
class SearchFindings:
    """Hits of a search, and the files it could not read."""

    hits: list[SearchHit] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    files: int = 0

    def as_json(self) -> dict[str, object]:
        hits = [asdict(hit) for hit in self.hits]
        return {"found": hits, "unread": self.unreadable, "files": self.files}


class Needle:
    """Text to search for: plain, or escaped for JSON or HTML."""

    def __init__(self, text: str) -> None:
        plain = " ".join(text.split())
        forms = {plain, html.escape(plain), html.escape(plain, quote=False)}
        forms |= {
            json.dumps(form, ensure_ascii=ascii_)[1:-1]
            for form in (plain,)
            for ascii_ in (True, False)
        }
        self._patterns = [_pattern(form) for form in sorted(forms) if form]

    def occurs_in(self, data: bytes | mmap.mmap) -> bool:
        """True if a piece of a file holds the text."""
        return any(
            data.find(rarest) >= 0 and pattern.search(data) is not None
            for rarest, pattern in self._patterns
        )


def _pattern(form: str) -> tuple[bytes, re.Pattern[bytes]]:
    """(longest word, which rules most files out fast; pattern of the whole, any white space)."""
    words = [word.encode() for word in form.split()]
    return max(words, key=len), re.compile(rb"(?:\s|\\[nrt])+".join(map(re.escape, words)))


def search_workspace(
    settings: Settings,
    texts: Sequence[str],
    path_filter: Callable[[str], bool] = lambda path: True,
) -> SearchFindings:
    """Search every file of the workspace.

    Args:
        settings: workspace, all files of which are searched.
        texts: texts of which any is to be found.
        path_filter: True for paths, relative to the workspace, to search.
    """
    needles = [Needle(text) for text in texts if text.strip()]
    findings = SearchFindings()
    for path in sorted(p for p in settings.home.rglob("*") if p.is_file() and not p.is_symlink()):
        name = path.relative_to(settings.home).as_posix()
        if not path_filter(name):
            continue
        findings.files += 1
        try:
            places = {where for where, data in _unpack_file(path) if _any_occurs(needles, data)}
        except FileNotFoundError:
            continue  # gone meanwhile
        except _DAMAGED as error:
            findings.unreadable.append(f"{name}: {error}")
            places = {"raw bytes"} if _any_occurs(needles, path.read_bytes()) else set()
        findings.hits += [SearchHit(name, where) for where in sorted(places)]
    _search_tokens(settings, needles, path_filter, findings)
    return findings


def _any_occurs(needles: Iterable[Needle], data: bytes | mmap.mmap) -> bool:
    return any(needle.occurs_in(data) for needle in needles)


def _unpack_file(path: Path) -> Iterator[tuple[str, bytes | mmap.mmap]]:
    """(what it is, content) of a file, unpacked; the raw bytes too."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            yield "raw bytes", raw
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(path) as stream:
            yield from _read_overlapping("gzip", stream.read)
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        with pa.input_stream(str(path), compression="zstd") as stream:
            yield from _read_overlapping("zstd", stream.read)
    elif head.startswith(b"PAR1"):
        yield from _read_columns(path)
    elif head == _SQLITE:
        yield from _read_tables(path)
    elif head[:1] in (b"{", b"[") and path.stat().st_size <= _LARGEST_JSON:
        yield from _decode_base64(path.read_bytes())


def _decode_base64(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Pickled results, as Prefect keeps them: base64, its lines divided by an escaped newline."""
    for match in _BASE64.finditer(content.replace(b"\\n", b"")):
        packed = match[0].rstrip(b"=")
        if len(packed) % 4 == 1:  # a digest in hex looks like base64 and need not be
            packed = packed[:-1]
        yield "base64", base64.b64decode(packed + b"=" * (-len(packed) % 4))


def _read_overlapping(kind: str, read: Callable[[int], bytes]) -> Iterator[tuple[str, bytes]]:
    tail = b""
    while chunk := read(_CHUNK):
        yield kind, tail + chunk
        tail = chunk[-_OVERLAP:]


def _read_columns(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every column that holds strings, a row group at a time."""
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        for name in table.column_names:
            texts = list(_string_values(table[name].combine_chunks()))
            if texts:
                yield f"column {name}", b"\0".join(texts)


def _string_values(array: pa.Array | pa.ChunkedArray) -> Iterator[bytes]:
    """All strings in an array, however deeply they lie in lists and structs."""
    if isinstance(array, pa.ChunkedArray):
        for chunk in array.chunks:
            yield from _string_values(chunk)
    elif pa.types.is_struct(array.type):
        for inner in array.flatten():
            yield from _string_values(inner)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _string_values(array.flatten())
    elif pa.types.is_dictionary(array.type):
        yield from _string_values(array.dictionary)
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        yield from (value.encode() for value in array.to_pylist() if value is not None)
    elif pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        yield from (value for value in array.to_pylist() if value is not None)


def _read_tables(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every text and blob of every table: long values lie scattered over a database's pages."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20.0)) as database:
        database.text_factory = bytes
        names = [
            row[0].decode()
            for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for name in names:
            quoted = name.replace('"', '""')
            for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - its own name
                values = [value for value in row if isinstance(value, bytes)]
                if values:
                    yield f"table {name}", b"\0".join(values)


def _search_tokens(
    settings: Settings,
    needles: Sequence[Needle],
    path_filter: Callable[[str], bool],
    findings: SearchFindings,
) -> None:
    graph = ArtifactGraph.read(settings.store)
    for node in graph.with_format(Tokens.format):
        name = f"store/{node.name}"
        if not path_filter(f"{name}/train.npy"):
            continue
        tokenizers = graph.with_digest(node.parents.get("tokenizer", ""))
        if not tokenizers:
            findings.unreadable.append(
                f"{name}: its tokenizer is gone, so its tokens cannot be read"
            )
            continue
        for split, text in _decode_documents(settings.store, node, tokenizers[0]):
            if _any_occurs(needles, text):
                findings.hits.append(SearchHit(f"{name}/{split}.npy", "tokens"))
                break


def _decode_documents(
    store: Path, tokens: ArtifactNode, tokenizer: ArtifactNode
) -> Iterator[tuple[str, bytes]]:
    """(split, text) of each packed document."""
    from components.text.chat.tokenizer_files import read_fast_tokenizer

    model = read_fast_tokenizer(store / tokenizer.name)
    for split in ("train", "heldout"):
        folder = store / tokens.name
        flat = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        starts = np.load(folder / f"{split}.docs.npy", allow_pickle=False)
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            yield split, model.decode(flat[begin:end].tolist(), skip_special_tokens=False).encode()
