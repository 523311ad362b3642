"""Reader of pages in the user's own files: HTML, text, Markdown, JSONL, Parquet and WARC.

A file is named by the last fixed folder of its glob and the path below it, so no path of the
machine gets into a document, and the same folder elsewhere gives the same names. A file's position
in the list of globs stands for its date: files that are added at the end are younger, and no
document is dropped for a copy that was added later.
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

from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.optouts.archived_signals import is_site_file
from components.collect.warc.archive_reader import SkippedRecord, read_archive_pages
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver, UnresolvedRevisit
from components.collect.web.http_fetcher import too_large_reason
from components.collect.web.media_types import is_binary
from components.collect.web.urls import MAX_URL_CHARS
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import digest_file

TEXT_FIELDS = ("text", "content", "markdown", "html", "body")
"""Names of the field that holds a row's text; the first that a row has is taken."""
_MEDIA_TYPES = {
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
}
_READABLE = "readable are .html, .txt, .md, .jsonl, .parquet, .warc, .wet and the last two with .gz"
_COMPRESSED_WARC = (".warc.zst", ".warc.lz4")
_MAX_ROW_OVERHEAD = 1 << 20
"""Bytes of a JSON row besides its text, at most."""
_MAX_TITLE_CHARS = 1000
"""Characters kept of a row's title."""
_UNFIT_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
PageOrRejection = WebPage | LedgerEntry
"""A page, or the ledger entry with the reason for which there is none."""


class GlobError(ConfigError):
    """Glob that gives no pages; ``index`` is its position in ``scrape.files``."""

    def __init__(self, index: int, pattern: str, problem: str) -> None:
        self.index, self.problem = index, f"given {pattern!r}: {problem}"
        super().__init__(f"scrape.files.{index}: {self.problem}")


def find_files(globs: Sequence[str], folder: str = "") -> dict[str, Path]:
    """Find matching files: path by name, in the order of globs, and of names in each.

    Relative globs start from ``folder``.

    Raises:
        GlobError: a glob matches nothing or a file of unknown kind, or two files share a name.
    """
    files_by_name: dict[str, Path] = {}
    for index, pattern in enumerate(globs):
        base, pattern_rest = _split_glob(pattern, folder)
        files = sorted(filter(Path.is_file, base.glob(pattern_rest)), key=Path.as_posix)
        if not files:
            seen = f"looked in {base}" if base.is_dir() else f"there is no folder {base}"
            raise GlobError(index, pattern, f"matches no file; {seen}")
        for path in files:
            if _reader_for(path) is None:
                raise GlobError(index, pattern, f"{path.name}: its kind is not known; {_READABLE}")
            name = f"{base.name}/{path.relative_to(base).as_posix()}"
            if files_by_name.setdefault(name, path).resolve() != path.resolve():
                problem = f"two files would both be called {name!r}: give their common folder"
                raise GlobError(index, pattern, f"{problem} in one glob")
    return files_by_name


def digest_files(globs: Sequence[str], folder: str = "") -> dict[str, str]:
    """Digest every matching file: SHA-256 by name, sorted by name."""
    return {name: digest_file(path) for name, path in sorted(find_files(globs, folder).items())}


def read_file_pages(
    globs: Sequence[str],
    digests: dict[str, str],
    max_bytes: int,
    revisits: RevisitResolver,
    folder: str = "",
) -> Iterator[PageOrRejection]:
    """Read every page of the files in their order, then the pages of the archives' revisit records.

    A page without a date gets one that stands for its file's position.

    Args:
        globs: Globs of files.
        digests: SHA-256 by name, as resolved for the run.
        max_bytes: Largest page, decompressed.
        revisits: Resolver that knows which records the archives' revisit records refer to.
        folder: Where relative globs start from.

    Raises:
        DataError: the files are not those that ``digests`` names.
    """
    files = find_files(globs, folder)
    for name, path in files.items():
        if digests.get(name) != digest_file(path):
            raise DataError(f"{name}: changed since this run began; run the same command again")
    gone = sorted(set(digests) - set(files))
    if gone:
        raise DataError(
            f"{gone[0]}: was there when this run began and is gone; run the same command again"
        )
    for position, (name, path) in enumerate(files.items()):
        reader, moment = _reader_for(path), _file_date(position)
        assert reader is not None  # find_files leaves no other
        for page in reader(name, path, max_bytes, revisits):
            if isinstance(page, LedgerEntry):
                yield page
            else:
                yield _check_page(replace(page, date=page.date or moment), max_bytes)
    for resolved in revisits.resolve_pages():
        if isinstance(resolved, UnresolvedRevisit):
            revisit = resolved.revisit
            yield LedgerEntry(_page_address(revisit.url, revisit.place), reason=resolved.reason)
        elif not is_site_file(resolved.url):
            yield _check_page(
                replace(resolved, url=_page_address(resolved.url, resolved.url)), max_bytes
            )


def _file_date(position: int) -> str:
    """Second of 1970 for a file's position: older than any page with a date of its own."""
    return datetime.fromtimestamp(position, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_page(page: WebPage, max_bytes: int) -> PageOrRejection:
    """The page, or a ledger entry where it is empty, too large or binary."""
    if len(page.body) > max_bytes:
        return LedgerEntry(page.url, reason=too_large_reason(max_bytes), failed=True)
    if not page.body.strip():
        return LedgerEntry(page.url, reason="an empty page")
    if is_binary(page.body):
        return LedgerEntry(page.url, reason="no page: its content is binary", failed=True)
    return page


def find_archives(globs: Sequence[str], folder: str = "") -> list[Path]:
    """WARC files among the matching files, in the order of their names."""
    files = sorted(find_files(globs, folder).items())
    return [path for _, path in files if _reader_for(path) is _read_warc]


def _split_glob(pattern: str, folder: str) -> tuple[Path, str]:
    """Split a glob into the deepest absolute folder without a wildcard, and the rest."""
    glob_parts = Path(pattern).expanduser().parts
    base_parts = Path(folder).resolve().parts if not Path(*glob_parts).is_absolute() else ()
    parts = (*base_parts, *glob_parts)
    fixed = len(base_parts)
    while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
        fixed += 1
    return Path(*parts[:fixed]).resolve(), "/".join(parts[fixed:])


def _reader_for(
    path: Path,
) -> Callable[[str, Path, int, RevisitResolver], Iterator[PageOrRejection]] | None:
    name = path.name.lower()
    if path.suffix.lower() in _MEDIA_TYPES:
        return _read_whole_file
    if name.endswith((".jsonl", ".ndjson")):
        return _read_json_lines
    if name.endswith(".parquet"):
        return _read_parquet
    if name.removesuffix(".gz").endswith((".warc", ".wet")) or name.endswith(_COMPRESSED_WARC):
        return _read_warc
    return None


def _read_whole_file(
    name: str, path: Path, max_bytes: int, _: RevisitResolver
) -> Iterator[PageOrRejection]:
    with path.open("rb") as file:
        yield _file_page(name, file.read(max_bytes + 1), _MEDIA_TYPES[path.suffix.lower()])


def _read_warc(
    name: str, path: Path, max_bytes: int, revisits: RevisitResolver
) -> Iterator[PageOrRejection]:
    for result in read_archive_pages(path, max_bytes, revisits, name):
        place = f"{name}#byte-{result.at}" if isinstance(result, SkippedRecord) else name
        address = _page_address(result.url, place)
        if isinstance(result, WebPage) and is_site_file(result.url):
            yield LedgerEntry(address, reason="no page: a file about its site")
        elif isinstance(result, SkippedRecord):
            yield LedgerEntry(address, reason=result.reason, failed=result.is_bad)
        else:
            yield replace(result, url=address)


def _read_json_lines(
    name: str, path: Path, max_bytes: int, _: RevisitResolver
) -> Iterator[PageOrRejection]:
    longest = 6 * max_bytes + _MAX_ROW_OVERHEAD  # JSON escapes a byte in six characters, at most
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
                yield _reject_row(place, f"its line is longer than {bound}")
            elif line.strip():
                yield _read_json_row(place, line)


def _read_json_row(place: str, line: bytes) -> PageOrRejection:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return _reject_row(place, f"no JSON: {reason}")
    return _row_page(place, row) if isinstance(row, dict) else _reject_row(place, "no object")


def _read_parquet(name: str, path: Path, _: int, __: RevisitResolver) -> Iterator[PageOrRejection]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        columns = [c for c in (*TEXT_FIELDS, "url", "title") if c in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield _row_page(f"{name}#{number}", row)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        yield _reject_row(
            f"{name}#{number + 1}", f"cannot be read as Parquet from here on: {reason}"
        )


def _row_page(place: str, row: dict[str, Any]) -> PageOrRejection:
    field = next((f for f in TEXT_FIELDS if isinstance(row.get(f), str)), None)
    if field is None:
        return _reject_row(place, f"no text in any of {', '.join(TEXT_FIELDS)}")
    url = row.get("url")
    kind = "text/html" if field == "html" else "text/markdown"
    body = row[field].encode(errors="replace")
    page = _file_page(place, body, f"{kind}; charset=utf-8")
    if isinstance(row.get("title"), str):
        page = replace(page, title=_clean_title(row["title"]))
    return replace(page, url=_page_address(url, place)) if isinstance(url, str) else page


def _clean_title(title: str) -> str:
    """Title on one line without control characters, as a WARC header can hold it."""
    return " ".join(_UNFIT_CHARACTER.sub(" ", title[:_MAX_TITLE_CHARS]).split())


def _reject_row(place: str, reason: str) -> LedgerEntry:
    return LedgerEntry(_page_address("", place), reason=reason, failed=True)


def _file_page(place: str, body: bytes, content_type: str) -> WebPage:
    return WebPage(_page_address("", place), body, content_type, hashlib.sha256(body).hexdigest())


def _page_address(url: str, place: str) -> str:
    """URL of a page: ``url`` where it is usable, else the place in the user's files.

    Control characters would end a WARC header, and surrogates cannot be encoded.
    """
    address = url.strip()
    if address and len(address) <= MAX_URL_CHARS and not _UNFIT_CHARACTER.search(address):
        return address
    return f"file:///{_UNFIT_CHARACTER.sub(_escape_unfit, place)}"


def _escape_unfit(match: re.Match[str]) -> str:
    return quote(match[0].encode("utf-8", errors="surrogatepass"))
