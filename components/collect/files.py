"""Pages from the user's own files: HTML, text, Markdown, JSONL, Parquet and WARC.

A file is named by the last fixed folder of its glob and what follows, so no path of the machine
gets into a document, and the same folder elsewhere gives the same names.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.collect.ledger import Entry
from components.collect.warc import WebPage, read_pages
from components.core.artifact import digest_file
from components.core.errors import ConfigError, DataError

TEXT_FIELDS = ("text", "content", "markdown", "html", "body")
"""Names of the field that holds a row's text, the first present counts."""
_TYPES = {
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
}
Found = WebPage | Entry
"""A page, or the ledger's line that says why there is none."""


def find_files(globs: Sequence[str]) -> dict[str, Path]:
    """Name -> path of every matching file, sorted by name.

    Raises:
        ConfigError: a glob matches nothing or a file of unknown kind, or two files share a name.
    """
    found: dict[str, Path] = {}
    for pattern in globs:
        base, rest = _split(pattern)
        files = sorted(match for match in base.glob(rest) if match.is_file())
        if not files:
            raise ConfigError(f"files: {pattern!r} matches no file")
        for path in files:
            _reader(path)
            name = f"{base.name}/{path.relative_to(base).as_posix()}"
            if found.setdefault(name, path).resolve() != path.resolve():
                raise ConfigError(
                    f"files: two files would both be called {name!r}: give their common folder "
                    "in one glob"
                )
    return dict(sorted(found.items()))


def digest_files(globs: Sequence[str]) -> dict[str, str]:
    """Name -> sha256 of every matching file."""
    return {name: digest_file(path) for name, path in find_files(globs).items()}


def pages_of_files(
    globs: Sequence[str], digests: dict[str, str], max_bytes: int
) -> Iterator[Found]:
    """Every page of the files in order of names, and why others are none.

    Raises:
        DataError: the files are not those that ``digests`` names, or one cannot be read.
    """
    files = find_files(globs)
    for name, path in files.items():
        if digests.get(name) != digest_file(path):
            raise DataError(f"{name}: changed since this run began; run the same command again")
    gone = sorted(set(digests) - set(files))
    if gone:
        raise DataError(f"{gone[0]}: was there when this run began and is gone")
    for name, path in files.items():
        for page in _reader(path)(name, path):
            if isinstance(page, Entry):
                yield page
            elif len(page.body) > max_bytes:
                yield Entry(page.url, reason=f"larger than {max_bytes} bytes", failed=True)
            elif not page.body.strip():
                yield Entry(page.url, reason="an empty page")
            else:
                yield page


def _split(pattern: str) -> tuple[Path, str]:
    """The deepest folder that a glob names without a wildcard, absolute, and the rest."""
    parts = Path(pattern).expanduser().parts
    fixed = 0
    while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
        fixed += 1
    return Path(*parts[:fixed]).resolve(), "/".join(parts[fixed:])


def _reader(path: Path) -> Callable[[str, Path], Iterator[Found]]:
    name = path.name.lower()
    if path.suffix.lower() in _TYPES:
        return _whole
    if name.endswith((".jsonl", ".ndjson")):
        return _json_lines
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith((".warc", ".warc.gz", ".warc.zst", ".warc.lz4")):
        return _archive
    raise ConfigError(
        f"files: {path.name}: its kind is not known; readable are .html, .txt, .md, .jsonl, "
        ".parquet, .warc and .warc.gz"
    )


def _whole(name: str, path: Path) -> Iterator[Found]:
    yield _page(f"file:///{name}", path.read_bytes(), _TYPES[path.suffix.lower()])


def _archive(name: str, path: Path) -> Iterator[Found]:
    for page in read_pages(path):
        yield _page(page.url, page.body, page.content_type)


def _json_lines(name: str, path: Path) -> Iterator[Found]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{name}#{number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                yield _bad_row(place, f"no JSON: {error}")
                continue
            yield _row_page(place, row) if isinstance(row, dict) else _bad_row(place, "no object")


def _parquet(name: str, path: Path) -> Iterator[Found]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield _row_page(f"{name}#{number}", row)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name}: cannot be read as Parquet: {error}") from error


def _row_page(place: str, row: dict[str, Any]) -> Found:
    field = next((f for f in TEXT_FIELDS if isinstance(row.get(f), str)), None)
    if field is None:
        return _bad_row(place, f"no text in any of {', '.join(TEXT_FIELDS)}")
    url = row.get("url")
    kind = "text/html" if field == "html" else "text/markdown"
    address = url if isinstance(url, str) and url else f"file:///{place}"
    return _page(address, row[field].encode(errors="replace"), f"{kind}; charset=utf-8")


def _bad_row(place: str, reason: str) -> Entry:
    return Entry(f"file:///{place}", reason=reason, failed=True)


def _page(url: str, body: bytes, kind: str) -> WebPage:
    return WebPage(url, body, kind, hashlib.sha256(body).hexdigest())
