"""HTTP responses as browsers read them: odd header lines, repeated ones, bytes of any charset.

libcurl reads the messages of a crawl; those of archives, and one that does not begin with its
status line, are split here.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from components.collect.web.robots_directives import join_robots_headers

_BODILESS = frozenset({204, 205})
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
MAX_HEAD_BYTES = 256 * 1024
"""Largest head of an HTTP message, as in browsers."""
_MAX_HEADER_LINES = 1000
_LIST_HEADERS = frozenset(
    {"content-encoding", "content-signal", "content-type", "content-usage", "link"}
)
"""Headers whose repeated lines form one list (RFC 9110, section 5.3).

``Content-Type`` is none, but browsers read one as such: the last type of it counts.
"""
HeaderLine = tuple[bytes, bytes]


@dataclass(frozen=True)
class HttpHead:
    """Status and header lines of a response."""

    status: int
    lines: list[HeaderLine]


def parse_header_lines(lines: Iterable[bytes]) -> list[HeaderLine]:
    """(name, value) of each line; one that has no colon or no name is left out."""
    pairs: list[HeaderLine] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and pairs:  # folded (RFC 9112, section 5.2)
            name, value = pairs[-1]
            pairs[-1] = name, value + b" " + line.strip()
            continue
        name, colon, value = line.partition(b":")
        if colon and name.strip():
            pairs.append((name.strip(), value.strip()))
    return pairs


def split_http_message(message: bytes) -> tuple[HttpHead, bytes]:
    """(head, body) of an HTTP response.

    Raises:
        ValueError: it is none.
    """
    head, mark, body = message.partition(b"\r\n\r\n")
    if not mark or len(head) > MAX_HEAD_BYTES:
        head, mark, body = message.partition(b"\n\n")
    first, *lines = head.splitlines()[:_MAX_HEADER_LINES] or [b""]
    words = first.split()
    if not first.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        raise ValueError("it is no HTTP response")
    return HttpHead(int(words[1][:3]), parse_header_lines(lines)), body


def decode_chunks(body: bytes) -> bytes:
    """Body without its chunked coding (RFC 9112, section 7.1); unchanged where it has none."""
    content, offset = bytearray(), 0
    while True:
        end = body.find(b"\n", offset, offset + 1024)
        size = body[offset:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() and len(size) <= 12 else -1
        except ValueError:
            length = -1
        if length < 0:
            return bytes(content) if offset else body
        if length == 0:
            return bytes(content)
        content += body[end + 1 : end + 1 + length]
        offset = end + 1 + length
        offset += 2 if body[offset : offset + 1] == b"\r" else 1


def join_headers(raw: Iterable[HeaderLine]) -> dict[str, str]:
    """Join header lines by lower-case name: those of a list joined, of any other the first."""
    lines: dict[str, list[str]] = {}
    for name, value in raw:
        lines.setdefault(name.decode("latin-1").lower(), []).append(_decode_value(name, value))
    return {
        name: join_robots_headers(values)
        if name == "x-robots-tag"
        else ", ".join(values)
        if name in _LIST_HEADERS
        else values[0]
        for name, values in lines.items()
    }


def _decode_value(name: bytes, value: bytes) -> str:
    """Text of a header's value: a character a byte, so that archives hold the bytes that came.

    An address is UTF-8; of one that is not, browsers ask for the very bytes.
    """
    if name.lower() not in (b"location", b"refresh"):
        return value.decode("latin-1")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 128 else quote(bytes([byte])) for byte in value)


def has_page_status(status: int) -> bool:
    """True for a status of success whose response has a body, known or not (RFC 9110, 15.3).

    Browsers show such a body as they show that of a 200.
    """
    return 200 <= status < 300 and status not in _BODILESS


def describe_part(status: int, headers: Mapping[str, str]) -> tuple[bool, str]:
    """(True where the beginning came, words on what is missing) of a response; empty for nothing.

    A server may send a part that nobody asked for (RFC 9110, section 15.3.7).
    """
    part = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if status != 206 or part is None:
        return True, ""
    first, last = int(part[1]), int(part[2])
    is_whole = first == 0 and part[3] in ("*", str(last + 1))
    return first == 0, "" if is_whole else f"bytes {first} to {last} of {part[3]} came"


def header_number(text: str) -> int:
    """Number in a header; 0 for none, and for one of twenty digits or more."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def parse_retry_after(value: str) -> float | None:
    """Seconds of ``Retry-After``: a number of them, or a date (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(header_number(value.strip()))
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
