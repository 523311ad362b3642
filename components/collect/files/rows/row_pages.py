"""Pages of rows: the text as Markdown or HTML, under the row's own address and title."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.files.file_kinds import FileKind
from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.html_rows import HtmlEvidence, judge_html, keep_blank_lines
from components.collect.files.rows.row_fields import Row, find_address, find_text, find_title
from components.collect.files.split_text import part_address, split_text
from components.collect.warc.page_shards import WebPage
from components.collect.web.charset import decode_page
from components.collect.web.http_fetcher import too_large_reason
from components.collect.web.media_types import HTML, MARKDOWN
from components.collect.web.urls import MAX_URL_CHARS

_HTML_CONTENT, _MARKDOWN_CONTENT = (
    f"{media_type}; charset=utf-8" for media_type in (HTML, MARKDOWN)
)
MAX_TITLE_CHARS = 1000
"""Characters kept of a row's title."""
_UNFIT_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that would end a WARC header or cannot be encoded."""
_SPACE = re.compile(r"\s")
_PLAIN_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?:/[!-Z\\^-~]*)?\Z")
"""Addresses that need no look at their parts."""
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:[/\\]{2,})[^/\\?#]*@")
"""Scheme and login of an address (URL standard, section 4.4: up to the last ``@`` of its host)."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_NAMED_FIELDS = 8


def read_row(
    source: FileSource, number: int, row: Row, settings: ReadSettings
) -> Iterator[PlacedResult]:
    """Read the page of a row, in parts where its text is long; or the reason for there being none.

    Args:
        source: The file.
        number: The row's number, from 1.
        row: The row.
        settings: Names of fields, and bounds.
    """
    try:
        found = find_text(row, settings.text_field)
        url = find_address(row, found.holder, settings.url_field)
        title = find_title(row, found.holder, settings.title_field)
    except RecursionError:
        yield source.reject("nested too deeply", mark=str(number))
        return
    if not found.name:
        reason = explain_no_text(list(row), settings.text_field)
        # Settings and data of programs are JSON, too: in a folder of texts they are no failure.
        is_failure = source.kind is not FileKind.JSON or bool(settings.text_field)
        yield source.reject(reason, failed=is_failure, mark=str(number))
        return
    if not found.text:
        reason = "an empty page" if found.is_blank else f"its field {found.name!r} holds no text"
        yield source.reject(reason, failed=not found.is_blank, mark=str(number))
        return
    place = f"{source.address}#{number}"
    text = found.text
    if isinstance(text, bytes):
        text = decode_page(text)
    address = row_address(url, place)
    is_html = judge_html(text, found.name.lower()) is HtmlEvidence.SURE
    text = keep_blank_lines(text) if is_html else text
    for part, page in text_pages(place, address, text, settings, title=title, is_html=is_html):
        yield part, replace(page, note=login_note(url)) if "@" in url else page


def text_pages(
    place: str,
    address: str,
    text: str,
    settings: ReadSettings,
    *,
    title: str = "",
    is_html: bool = False,
) -> Iterator[PlacedResult]:
    """Pages of a text: one, or parts of it where it is long.

    Args:
        place: Where it was read.
        address: Its address.
        text: The text.
        settings: Bounds.
        title: Its title.
        is_html: True for HTML, which is never split.
    """
    title = clean_title(title) if title else ""
    body = encode_text(text)
    if is_html:
        if len(body) > settings.max_bytes:
            reason = too_large_reason(settings.max_bytes)
            yield place, LedgerEntry(address, reason=reason, failed=True)
            return
        yield place, file_page(address, body, _HTML_CONTENT, settings, title)
        return
    if len(body) <= settings.part_bytes:
        yield place, file_page(address, body, _MARKDOWN_CONTENT, settings, title)
        return
    for number, part in enumerate(split_text(body, settings.part_bytes), 1):
        part_url = part_address(address, number)
        page = file_page(part_url, part, _MARKDOWN_CONTENT, settings, title)
        yield part_address(place, number), page


def row_address(url: str, place: str) -> str:
    """Address of a row's page: its own where that is usable, else the place in the file.

    A login in it is left out, since addresses are written into all that is made from the pages.
    """
    if _PLAIN_ADDRESS.match(url) and len(url) <= MAX_URL_CHARS:
        return url
    address = url.strip()
    if not address or len(address) > MAX_URL_CHARS or _UNFIT_CHARACTER.search(address):
        return place
    address = strip_login(_SPACE.sub(lambda space: quote(space[0]), address))
    try:
        _ = urlsplit(address).port
    except ValueError:
        return place
    return address


def strip_login(url: str) -> str:
    """Address without the login in it."""
    return _LOGIN.sub(r"\1", url, count=1)


def login_note(url: str) -> str:
    """Remark on an address from which ``row_address`` leaves out a login; empty for others."""
    return "a login in its address is left out" if _LOGIN.match(url.strip()) else ""


def file_page(
    address: str, body: bytes, content_type: str, settings: ReadSettings, title: str = ""
) -> WebPage:
    """Page with bytes as a file has them.

    Args:
        address: Its address.
        body: The bytes.
        content_type: Their type.
        settings: The date of the file.
        title: Its title, as a WARC header can hold it.
    """
    digest = hashlib.sha256(body).hexdigest()
    return WebPage(address, body, content_type, digest, date=settings.date, title=title)


def clean_title(title: str) -> str:
    """Title on one line without control characters, as a WARC header can hold it."""
    return " ".join(_UNFIT_CHARACTER.sub(" ", title[:MAX_TITLE_CHARS]).split())


def encode_text(text: str) -> bytes:
    """UTF-8 of a text, without NUL; half a surrogate pair becomes the replacement character."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def explain_no_text(fields: Sequence[Any], field: str) -> str:
    """Reason for a row, or a table, whose fields hold no text; ``field`` is the one asked for."""
    names = [str(name)[:40] for name in fields[:_MAX_NAMED_FIELDS]]
    more = ", …" if len(fields) > _MAX_NAMED_FIELDS else ""
    there = f"it has {', '.join(names)}{more}" if names else "it has no fields"
    if field:
        return f"has no field {field!r} (scrape.text_field); {there}"
    return f"no text in a field of a known name ({there}); name it by scrape.text_field"


def as_row(value: Any) -> Row | None:
    """Row of a decoded value: an object, or a bare string as a text; None for anything else."""
    if isinstance(value, dict):
        return value
    return {"text": value} if isinstance(value, str) else None
