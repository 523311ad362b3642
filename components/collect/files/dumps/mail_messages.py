"""Messages of mail files (``.eml``, ``.mbox``) and saved web pages (``.mhtml``), by RFC 5322.

A message is its text and its subject; addresses of people, other headers and attachments are no
part of it. A saved page (RFC 2557) is its HTML, under the address that it was saved from.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage, Message, MIMEPart
from typing import BinaryIO

from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_pages import (
    clean_title,
    file_page,
    login_note,
    row_address,
    text_pages,
)
from components.collect.web.charset import DecodedPage, decode_page, decode_with_codec, is_utf8
from components.collect.web.http_fetcher import too_large_reason
from components.collect.web.media_types import HTML, PLAIN

_ATTACHMENT_FACTOR = 8
"""Times the largest page that a message may have with its attachments."""
_MAIL_START = b"From "
_UNTOLD_CHARSETS = frozenset({"us-ascii", "ascii", "unknown-8bit", "x-unknown", "8bit", "binary"})
"""Charsets that programs write where they do not know it."""
_UNDECODED = re.compile("[\udc80-\udcff]")
"""Bytes beyond ASCII in a header, as the parser has them."""
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
        decoded = _decode_part(body) if body is not None else DecodedPage("", "")
        text = decoded.text
        is_html = body is not None and body.get_content_subtype() == "html"
        subject = _read_subject(message, decoded.codec)
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
        title = _read_subject(message)
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
    page = file_page(address, payload, media_type, settings, clean_title(title))
    yield source.address, replace(page, note=login_note(url) if is_web else "")


def _decode_part(part: MIMEPart) -> DecodedPage:
    """Text of a part by its declared charset, or by its bytes where that is none or wrong."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return DecodedPage("", "")
    charset = part.get_content_charset()
    parameter = f"; charset={charset}" if charset and charset not in _UNTOLD_CHARSETS else ""
    return decode_with_codec(payload, f"{part.get_content_type()}{parameter}")


def _read_subject(message: Message, codec: str = "") -> str:
    """Subject of a message, also one in bytes without an encoding (RFC 2047 asks for one).

    Args:
        message: The message.
        codec: Codec of its text, which such a subject is taken to share.
    """
    raw = next((value for name, value in message.raw_items() if name.lower() == "subject"), "")
    if _UNDECODED.search(str(raw)):
        content = str(raw).encode("utf-8", "surrogateescape")
        legacy = codec if codec and codec != "utf-8" else ""
        text = decode_page(content, PLAIN) if is_utf8(content) or not legacy else ""
        return " ".join((text or content.decode(legacy, "replace")).split())
    return str(message.get("subject", ""))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
