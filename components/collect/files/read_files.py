"""Pages of the user's files, in the order of the files.

A file's position in the list of globs stands for its date: files that are added at the end are
younger, and no document is dropped for a copy that was added later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.files.converters.conversion_pool import missing_converter
from components.collect.files.converters.convert_document import Conversion
from components.collect.files.dumps.archive_members import list_members, read_archive
from components.collect.files.dumps.mail_messages import (
    read_mailbox,
    read_message,
    read_saved_page,
)
from components.collect.files.dumps.xml_dumps import read_xml_dump
from components.collect.files.file_kinds import (
    DOCUMENT_TYPES,
    MEDIA_TYPES,
    FileKind,
    strip_compression,
    suffix_of,
)
from components.collect.files.file_source import (
    FileSource,
    PageOrRejection,
    PlacedResult,
    ReadSettings,
)
from components.collect.files.find_files import find_files
from components.collect.files.rows.arrow_rows import read_arrow, read_parquet
from components.collect.files.rows.delimited_rows import read_delimited
from components.collect.files.rows.html_rows import judge_by_file
from components.collect.files.rows.json_rows import read_json, read_json_lines
from components.collect.files.rows.row_pages import (
    file_page,
    login_note,
    row_address,
    strip_login,
    text_pages,
)
from components.collect.files.split_text import part_address, split_stream
from components.collect.optouts.archived_signals import is_site_file
from components.collect.warc.archive_reader import SkippedRecord, read_archive_pages
from components.collect.warc.revisit_records import RevisitResolver, UnresolvedRevisit
from components.collect.web.http_fetcher import too_large_reason
from components.collect.web.media_types import is_binary
from components.core.errors import DataError
from components.core.io.decompress import BrokenStream

_MAX_DOCUMENT_BYTES = 256 << 20
"""Largest document that is converted: its pictures count, and its converter holds it whole."""
_BLANK = b"\xef\xbb\xbf \t\r\n\f\v"
"""Bytes of a page without text: white space, and a byte order mark."""
_PDF = DOCUMENT_TYPES[".pdf"]
_REST = "rest"
"""Fragment of a file's address for what lies behind a break in it."""
_ROW_KINDS = frozenset(
    {
        FileKind.JSON,
        FileKind.JSON_LINES,
        FileKind.COMMA_TABLE,
        FileKind.TAB_TABLE,
        FileKind.PARQUET,
        FileKind.ARROW,
    }
)
_ARCHIVE_KINDS = (FileKind.WARC, FileKind.ARC)
_CONTAINER_KINDS = (FileKind.ZIP, FileKind.WACZ, FileKind.TAR)


def read_file_pages(
    globs: Sequence[str], digests: Mapping[str, str], settings: ReadSettings, folder: str = ""
) -> Iterator[PlacedResult]:
    """Read every page of the files in their order, then the pages of the archives' revisit records.

    A page without a date gets one that stands for its file's position.

    Args:
        globs: Globs of files.
        digests: SHA-256 by name, or the reason for which a file is not read, as resolved for the
            run.
        settings: Bounds and fields.
        folder: Where relative globs start from.

    Raises:
        DataError: the files are not those that ``digests`` names.
    """
    found = find_files(globs, folder)
    _check_unchanged(found.digest_contents(), digests)
    for name, reason in found.set_aside.items():
        yield f"file:///{name}", LedgerEntry(f"file:///{name}", reason=reason)
    for position, (name, path) in enumerate(found.paths.items()):
        source, count = FileSource.from_path(name, path), 0
        dated = replace(settings, date=_file_date(position))
        for place, page in read_source(source, dated):
            count += 1
            yield place, _check_page(page, settings.max_bytes)
        if not count:
            yield source.reject("an empty page", failed=False)
    yield from _read_revisits(settings.revisits, settings.max_bytes)


def _check_unchanged(present: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Check the files against those that the run was resolved for.

    Raises:
        DataError: they are others.
    """
    for name, digest in present.items():
        if expected.get(name) != digest:
            raise DataError(f"{name}: changed since this run began; run the same command again")
    gone = sorted(set(expected) - set(present))
    if gone:
        raise DataError(
            f"{gone[0]}: was there when this run began and is gone; run the same command again"
        )


def read_source(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the pages of a file or member, and the reasons for which others are none."""
    mark = ""
    try:
        if source.kind in _CONTAINER_KINDS:
            results = read_archive(source, settings, read_source)
        else:
            results = _READERS[source.kind](source, settings)
        for result in judge_by_file(results) if source.kind in _ROW_KINDS else results:
            mark = _REST  # the file's own address may be a page's by now
            yield result
    except BrokenStream as error:
        yield source.reject(f"{error}; what follows is not read", mark=mark)
    except OSError as error:
        yield source.reject(f"cannot be read: {error.strerror or error}", mark=mark)


def find_archives(globs: Sequence[str], scratch: Path, folder: str = "") -> Iterator[Path]:
    """WARC and ARC files among the files and in their archives, in the order of their names.

    Each is to be read before the next: those in archives are temporary files.

    Args:
        globs: Globs of files.
        scratch: Folder for temporary files.
        folder: Where relative globs start from.
    """
    for name, path in sorted(find_files(globs, folder).paths.items()):
        yield from _archives_of(FileSource.from_path(name, path), scratch)


def _archives_of(source: FileSource, scratch: Path) -> Iterator[Path]:
    if source.kind in _ARCHIVE_KINDS:
        try:
            with source.as_local_file(scratch, decompressed=False) as path:
                yield path
        except BrokenStream:
            return  # reading the pages reports it with its reason
    elif source.kind in _CONTAINER_KINDS:
        for member in list_members(source, scratch):
            if isinstance(member, FileSource):
                yield from _archives_of(member, scratch)


def _read_text(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Page of a text, HTML or Markdown file; a long text in parts."""
    media_type = MEDIA_TYPES.get(suffix_of(strip_compression(source.name)), "text/plain")
    if "html" in media_type:
        with source.open_stream() as stream:
            body = stream.read(settings.max_bytes + 1)
        yield source.address, file_page(source.address, body, media_type, settings)
        return
    with source.open_text() as stream:
        for number, part in enumerate(split_stream(stream, settings.part_bytes), 1):
            address = part_address(source.address, number)
            yield address, file_page(address, part, media_type, settings)


def _read_document(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Page of a document, by a converter."""
    if reason := missing_converter("document"):
        yield source.reject(reason)
        return
    with source.open_stream() as stream:
        content = stream.read(_MAX_DOCUMENT_BYTES + 1)
    if len(content) > _MAX_DOCUMENT_BYTES:
        yield source.reject(f"larger than {_MAX_DOCUMENT_BYTES} bytes")
        return
    media_type = DOCUMENT_TYPES[suffix_of(strip_compression(source.name))]
    task = Conversion(source.address, content, media_type)
    for _, converted in settings.conversions.convert_all([task]):
        if isinstance(converted, str):
            yield source.reject(converted)
            continue
        for name, reason in converted.lost:
            yield source.reject(f"its chapter {name} {reason}", mark=quote(name))
        if not converted.text.strip():
            hint = "; scanned pages are not recognised" if media_type == _PDF else ""
            yield source.reject(f"holds no text{hint}")
        else:
            address = source.address
            yield from text_pages(address, address, converted.text, settings, title=converted.title)


def _read_archive(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Pages of a WARC or ARC file."""
    with source.as_local_file(settings.scratch, decompressed=False) as path:
        results = read_archive_pages(path, settings.max_bytes, settings.revisits, source.name)
        for result in results:
            mark = f"#byte-{result.at}" if isinstance(result, SkippedRecord) else ""
            address = row_address(result.url, f"{source.address}{mark}")
            if isinstance(result, SkippedRecord):
                entry = LedgerEntry(address, reason=result.reason, failed=result.is_bad)
                yield address, entry
            elif is_site_file(result.url):
                yield address, LedgerEntry(address, reason="no page: a file about its site")
            else:
                date = result.date or settings.date
                note = login_note(result.url)
                yield address, replace(result, url=address, date=date, note=note)


def _read_revisits(revisits: RevisitResolver, max_bytes: int) -> Iterator[PlacedResult]:
    for resolved in revisits.resolve_pages():
        if isinstance(resolved, UnresolvedRevisit):
            revisit = resolved.revisit
            address = row_address(revisit.url, f"file:///{revisit.place}")
            yield address, LedgerEntry(address, reason=resolved.reason)
        elif not is_site_file(resolved.url):
            address = row_address(resolved.url, strip_login(resolved.url))
            page = replace(resolved, url=address, note=login_note(resolved.url))
            yield address, _check_page(page, max_bytes)


def _file_date(position: int) -> str:
    """Second of 1970 for a file's position: older than any page with a date of its own."""
    return datetime.fromtimestamp(position, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_page(page: PageOrRejection, max_bytes: int) -> PageOrRejection:
    """The page, or a ledger entry where it is empty, too large or binary."""
    if isinstance(page, LedgerEntry):
        return page
    if len(page.body) > max_bytes:
        return LedgerEntry(page.url, reason=too_large_reason(max_bytes), failed=True)
    if not page.body.strip(_BLANK):
        return LedgerEntry(page.url, reason="an empty page")
    if is_binary(page.body):
        return LedgerEntry(page.url, reason="no page: its content is binary", failed=True)
    return page


_Reader = Callable[[FileSource, ReadSettings], Iterator[PlacedResult]]
_READERS: dict[FileKind, _Reader] = {
    FileKind.TEXT: _read_text,
    FileKind.JSON: read_json,
    FileKind.JSON_LINES: read_json_lines,
    FileKind.COMMA_TABLE: read_delimited,
    FileKind.TAB_TABLE: read_delimited,
    FileKind.PARQUET: read_parquet,
    FileKind.ARROW: read_arrow,
    FileKind.WARC: _read_archive,
    FileKind.ARC: _read_archive,
    FileKind.XML: read_xml_dump,
    FileKind.MHTML: read_saved_page,
    FileKind.MESSAGE: read_message,
    FileKind.MAILBOX: read_mailbox,
    FileKind.DOCUMENT: _read_document,
}
