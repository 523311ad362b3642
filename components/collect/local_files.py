"""Pages from the user's own files: HTML, text, Markdown, JSONL, Parquet and WARC.

A file is named by the last fixed folder of its glob and what follows, so no path of the machine
gets into a document, and the same folder elsewhere gives the same names. The place of a file in the
list as it was given stands for its date, so that what is added to the end of a list is younger than
what was there, and no document is dropped for a copy that came later.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from components.collect.crawl.fetch_ledger import Entry
from components.collect.optouts.archived_signals import is_about_a_site
from components.collect.warc.archive_reader import NoPage, read_archive
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import Revisits, Unresolved
from components.collect.web.http_fetcher import is_binary, too_large
from components.collect.web.urls import MAX_LENGTH
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import digest_file

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
_READABLE = "readable are .html, .txt, .md, .jsonl, .parquet, .warc, .wet and the last two with .gz"
_PACKED = (".warc.zst", ".warc.lz4")
_ROW_REST = 1 << 20
"""Bytes of a row besides its text."""
_TITLE = 1000
"""Characters of a row's title, at most."""
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
Found = WebPage | Entry
"""A page, or the ledger's line that says why there is none."""


class GlobError(ConfigError):
    """A glob that gives no pages; ``index`` says which."""

    def __init__(self, index: int, pattern: str, problem: str) -> None:
        self.index, self.what = index, f"given {pattern!r}: {problem}"
        super().__init__(f"scrape.files.{index}: {self.what}")


def find_files(globs: Sequence[str], folder: str = "") -> dict[str, Path]:
    """Name -> path of every matching file, in the order of globs, and of names in each; relative
    globs start from ``folder``.

    Raises:
        GlobError: a glob matches nothing or a file of unknown kind, or two files share a name.
    """
    found: dict[str, Path] = {}
    for index, pattern in enumerate(globs):
        base, rest = _split(pattern, folder)
        files = sorted(filter(Path.is_file, base.glob(rest)), key=Path.as_posix)
        if not files:
            seen = f"looked in {base}" if base.is_dir() else f"there is no folder {base}"
            raise GlobError(index, pattern, f"matches no file; {seen}")
        for path in files:
            if _reader(path) is None:
                raise GlobError(index, pattern, f"{path.name}: its kind is not known; {_READABLE}")
            name = f"{base.name}/{path.relative_to(base).as_posix()}"
            if found.setdefault(name, path).resolve() != path.resolve():
                problem = f"two files would both be called {name!r}: give their common folder"
                raise GlobError(index, pattern, f"{problem} in one glob")
    return found


def digest_files(globs: Sequence[str], folder: str = "") -> dict[str, str]:
    """Name -> sha256 of every matching file, sorted by name."""
    return {name: digest_file(path) for name, path in sorted(find_files(globs, folder).items())}


def pages_of_files(
    globs: Sequence[str],
    digests: dict[str, str],
    max_bytes: int,
    revisits: Revisits,
    folder: str = "",
) -> Iterator[Found]:
    """Every page of the files in their order, and why others are none; last, what archives'
    ``revisits`` stand for. A page without a date has one that stands for its file's place.

    Raises:
        DataError: the files are not those that ``digests`` names.
    """
    files = find_files(globs, folder)
    for name, path in files.items():
        if digests.get(name) != digest_file(path):
            raise DataError(f"{name}: changed since this run began; run the same command again")
    gone = sorted(set(digests) - set(files))
    if gone:
        raise DataError(f"{gone[0]}: was there when this run began and is gone")
    for place, (name, path) in enumerate(files.items()):
        reader, moment = _reader(path), _moment(place)
        assert reader is not None  # find_files leaves no other
        for page in reader(name, path, max_bytes, revisits):
            if isinstance(page, Entry):
                yield page
            else:
                yield _judged(replace(page, date=page.date or moment), max_bytes)
    for found in revisits.pages():
        if isinstance(found, Unresolved):
            revisit = found.revisit
            yield Entry(_address(revisit.url, revisit.place), reason=found.reason)
        elif not is_about_a_site(found.url):
            yield _judged(replace(found, url=_address(found.url, found.url)), max_bytes)


def _moment(place: int) -> str:
    """A second of 1970 for a file's place: before all that has a date of its own."""
    return datetime.fromtimestamp(place, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _judged(page: WebPage, max_bytes: int) -> Found:
    """The page, or why it is set aside."""
    if len(page.body) > max_bytes:
        return Entry(page.url, reason=too_large(max_bytes), failed=True)
    if not page.body.strip():
        return Entry(page.url, reason="an empty page")
    if is_binary(page.body):
        return Entry(page.url, reason="no page: its content is binary", failed=True)
    return page


def find_archives(globs: Sequence[str], folder: str = "") -> list[Path]:
    """The WARC files among them, in the order of their names."""
    files = sorted(find_files(globs, folder).items())
    return [path for _, path in files if _reader(path) is _archive]


def _split(pattern: str, folder: str) -> tuple[Path, str]:
    """The deepest folder that a glob names without a wildcard, absolute, and the rest."""
    given = Path(pattern).expanduser().parts
    start = Path(folder).resolve().parts if not Path(*given).is_absolute() else ()
    parts = (*start, *given)
    fixed = len(start)
    while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
        fixed += 1
    return Path(*parts[:fixed]).resolve(), "/".join(parts[fixed:])


def _reader(path: Path) -> Callable[[str, Path, int, Revisits], Iterator[Found]] | None:
    name = path.name.lower()
    if path.suffix.lower() in _TYPES:
        return _whole
    if name.endswith((".jsonl", ".ndjson")):
        return _json_lines
    if name.endswith(".parquet"):
        return _parquet
    if name.removesuffix(".gz").endswith((".warc", ".wet")) or name.endswith(_PACKED):
        return _archive
    return None


def _whole(name: str, path: Path, max_bytes: int, _: Revisits) -> Iterator[Found]:
    with path.open("rb") as file:
        yield _page(name, file.read(max_bytes + 1), _TYPES[path.suffix.lower()])


def _archive(name: str, path: Path, max_bytes: int, revisits: Revisits) -> Iterator[Found]:
    for found in read_archive(path, max_bytes, revisits, name):
        place = f"{name}#byte-{found.at}" if isinstance(found, NoPage) else name
        address = _address(found.url, place)
        if isinstance(found, WebPage) and is_about_a_site(found.url):
            yield Entry(address, reason="no page: a file about its site")
        elif isinstance(found, NoPage):
            yield Entry(address, reason=found.reason, failed=found.is_bad)
        else:
            yield replace(found, url=address)


def _json_lines(name: str, path: Path, max_bytes: int, _: Revisits) -> Iterator[Found]:
    longest = 6 * max_bytes + _ROW_REST  # a character is six in JSON, at most
    with path.open("rb") as file:
        for number in count(1):
            line = file.readline(longest)
            if not line:
                return
            place = f"{name}#{number}"
            if len(line) == longest:
                while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                    pass
                bound = f"{longest} bytes (six times scrape.max_bytes)"
                yield _bad_row(place, f"its line is longer than {bound}")
            elif line.strip():
                yield _json_row(place, line)


def _json_row(place: str, line: bytes) -> Found:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return _bad_row(place, f"no JSON: {reason}")
    return _row_page(place, row) if isinstance(row, dict) else _bad_row(place, "no object")


def _parquet(name: str, path: Path, _: int, __: Revisits) -> Iterator[Found]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        wanted = [c for c in (*TEXT_FIELDS, "url", "title") if c in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=256, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield _row_page(f"{name}#{number}", row)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        yield _bad_row(f"{name}#{number + 1}", f"cannot be read as Parquet from here on: {reason}")


def _row_page(place: str, row: dict[str, Any]) -> Found:
    field = next((f for f in TEXT_FIELDS if isinstance(row.get(f), str)), None)
    if field is None:
        return _bad_row(place, f"no text in any of {', '.join(TEXT_FIELDS)}")
    url = row.get("url")
    kind = "text/html" if field == "html" else "text/markdown"
    body = row[field].encode(errors="replace")
    page = _page(place, body, f"{kind}; charset=utf-8")
    if isinstance(row.get("title"), str):
        page = replace(page, title=_one_line(row["title"]))
    return replace(page, url=_address(url, place)) if isinstance(url, str) else page


def _one_line(title: str) -> str:
    """A title that a header of the archive can hold."""
    return " ".join(_UNFIT.sub(" ", title[:_TITLE]).split())


def _bad_row(place: str, reason: str) -> Entry:
    return Entry(_address("", place), reason=reason, failed=True)


def _page(place: str, body: bytes, kind: str) -> WebPage:
    return WebPage(_address("", place), body, kind, hashlib.sha256(body).hexdigest())


def _address(url: str, place: str) -> str:
    """``url`` where it can be one, else the place in the user's files.

    Control characters would end a header of the archive; half a character cannot be written.
    """
    given = url.strip()
    if given and len(given) <= MAX_LENGTH and not _UNFIT.search(given):
        return given
    return f"file:///{_UNFIT.sub(_escaped, place)}"


def _escaped(match: re.Match[str]) -> str:
    return quote(match[0].encode("utf-8", errors="surrogatepass"))
