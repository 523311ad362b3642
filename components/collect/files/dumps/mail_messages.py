"""Messages of mail files (``.eml``, ``.mbox``) and saved web pages (``.mhtml``), by RFC 5322.

A message is its text and its subject; addresses of people, other headers and attachments are no
part of it. A saved page (RFC 2557) is its HTML, under the address that it was saved from.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart
from typing import BinaryIO

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_pages import clean_title, file_page, row_address, text_pages
from components.collect.web.http_fetcher import too_large_reason
from components.collect.web.media_types import HTML

_ATTACHMENT_FACTOR = 8
"""Times the largest page that a message may have with its attachments."""
_MAIL_START = b"From "
_PARSE_ERRORS = (ValueError, LookupError, AttributeError, TypeError, RecursionError, KeyError)
"""Exceptions of the standard library's parser for headers and charsets that are none."""


def read_message(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the page of one message."""
    limit = _ATTACHMENT_FACTOR * settings.max_bytes
    with source.open_stream() as stream:
        content = stream.read(limit + 1)
    yield from _message_pages(source, content, "", settings)


def read_mailbox(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read a page a message of a mailbox in the ``mbox`` format (RFC 4155)."""
    limit = _ATTACHMENT_FACTOR * settings.max_bytes
    with source.open_stream() as stream:
        for number, content in enumerate(_split_mailbox(stream, limit), 1):
            yield from _message_pages(source, content, str(number), settings)


def _split_mailbox(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """Messages without the line that begins each; at most ``limit`` + 1 bytes of one."""
    lines: list[bytes] = []
    size, is_blank = 0, True
    has_begun = False
    while line := stream.readline(1 << 20):
        if is_blank and line.startswith(_MAIL_START):
            if has_begun:
                yield b"".join(lines)
            lines, size, has_begun, is_blank = [], 0, True, False
            continue
        is_blank = not line.strip()
        has_begun = has_begun or not is_blank
        if size <= limit:
            unquoted = line[1:] if line.lstrip(b">").startswith(_MAIL_START) else line
            lines.append(unquoted if line.startswith(b">") else line)
            size += len(line)
    if has_begun:
        yield b"".join(lines)


def _message_pages(
    source: FileSource, content: bytes, mark: str, settings: ReadSettings
) -> Iterator[PlacedResult]:
    limit = _ATTACHMENT_FACTOR * settings.max_bytes
    if len(content) > limit:
        yield source.reject(too_large_reason(limit), mark=mark)
        return
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(preferencelist=("plain", "html"))
        text = _decode_part(body) if body is not None else ""
        is_html = body is not None and body.get_content_subtype() == "html"
        subject = str(message.get("subject", ""))
    except _PARSE_ERRORS as error:
        yield source.reject(f"no message: {_first_line(error)}", mark=mark)
        return
    if not text.strip():
        yield source.reject("a message without text", failed=bool(not message.keys()), mark=mark)
        return
    place = f"{source.address}#{mark}" if mark else source.address
    yield from text_pages(place, place, text, settings, title=subject, is_html=is_html)


def read_saved_page(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the page that a browser saved with its images."""
    limit = _ATTACHMENT_FACTOR * settings.max_bytes
    with source.open_stream() as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        yield source.reject(too_large_reason(limit))
        return
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        parts = [part for part in message.walk() if part.get_content_type() == HTML]
        payload = parts[0].get_payload(decode=True) if parts else None
        url = str(message.get("snapshot-content-location", "")) if parts else ""
        url = url or (str(parts[0].get("content-location", "")) if parts else "")
        title = str(message.get("subject", ""))
        charset = parts[0].get_content_charset() if parts else None
    except _PARSE_ERRORS as error:
        yield source.reject(f"no saved page: {_first_line(error)}")
        return
    if not isinstance(payload, bytes) or not payload.strip():
        yield source.reject("no saved page: it holds no HTML")
        return
    if len(payload) > settings.max_bytes:
        yield source.reject(too_large_reason(settings.max_bytes))
        return
    is_web = url.startswith(("http://", "https://"))
    address = row_address(url, source.address) if is_web else source.address
    media_type = f"{HTML}; charset={charset}" if charset else HTML
    yield source.address, file_page(address, payload, media_type, settings, clean_title(title))


def _decode_part(part: MIMEPart) -> str:
    """Text of a part; bytes that fit no charset are replaced."""
    try:
        content = part.get_content()
    except (LookupError, UnicodeError, KeyError):
        payload = part.get_payload(decode=True)
        content = payload.decode("utf-8", errors="replace") if isinstance(payload, bytes) else ""
    return content if isinstance(content, str) else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
