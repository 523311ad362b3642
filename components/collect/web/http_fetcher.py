"""One GET request: bounded in bytes and seconds, redirects not followed but reported.

A request may be conditional (RFC 9110, section 13): a server that still has the very page then
answers 304 without a body.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

import httpcore

from components.collect.web.robots_directives import join_lines
from components.collect.web.ssrf_guard import Address, AddressRefused, GuardedNetwork
from components.collect.web.urls import normalise

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGE_TYPES = frozenset(
    {"text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-markdown", ""}
)
KEPT = (
    "content-language",
    "content-signal",
    "content-type",
    "content-usage",
    "etag",
    "last-modified",
    "link",
    "tdm-policy",
    "tdm-reservation",
    "x-robots-tag",
)
"""Response headers that say something of the page, and are equal when it is."""
_LISTS = frozenset({"content-signal", "content-usage", "link"})
"""Headers whose lines are parts of one list (RFC 9110, section 5.3)."""
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.8,text/markdown;q=0.8"
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_CONTROL_SHARE = 0.01
_SNIFFED = 65536
"""A body's first bytes, which say what it is."""
_BINARY = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\x1f\x8b", b"\x7fELF")


@dataclass(frozen=True)
class Limits:
    """How much one request may take."""

    max_bytes: int
    connect_seconds: float
    read_seconds: float
    total_seconds: float


@dataclass
class Fetched:
    """What came back. ``reason`` is empty for a page that can be used."""

    status: int = 0
    reason: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Those worth keeping, which are equal when the page is."""
    location: str | None = None
    """Where a redirect leads."""
    transient: bool = False
    """Whether it may go better another time."""
    wait_seconds: float | None = None
    """How long the server asks to be left alone."""

    @property
    def digest(self) -> str:
        """sha256 of the body."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def unchanged(self) -> bool:
        """Whether the server says that the page is the one that was named in the request."""
        return self.status == 304 and not self.reason


def request_headers(user_agent: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """What a request says besides its first line and its host."""
    return {
        "User-Agent": user_agent,
        "Accept": _ACCEPT,
        "Accept-Encoding": "gzip, deflate",
        **conditions,
    }


class Fetcher:
    """Makes requests, on kept connections, to addresses that the guard lets through."""

    def __init__(
        self,
        user_agent: str,
        limits: Limits,
        *,
        known: Mapping[Address, Address] | None = None,
        allow_private: bool = False,
        connections: int = 64,
    ) -> None:
        self._limits = limits
        self._user_agent = user_agent
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=connections,
            keepalive_expiry=30.0,
            network_backend=GuardedNetwork(known or {}, allow_private=allow_private),
        )

    async def __aenter__(self) -> Fetcher:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def get(
        self, url: str, *, text_limit: int = 0, conditions: Mapping[str, str] | None = None
    ) -> Fetched:
        """Fetch ``url`` once; failures are in the answer.

        ``text_limit``: for robots.txt and its like: text of any kind, of which as many bytes are
        read. ``conditions``: ``If-None-Match`` and ``If-Modified-Since``.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_seconds):
                return await self._get(url, text_limit, conditions or {})
        except AddressRefused as error:
            return Fetched(reason=f"refused: {error}")
        except TimeoutError:
            return Fetched(reason=f"took more than {limits.total_seconds:g} s", transient=True)
        except httpcore.TimeoutException as error:
            return Fetched(reason=f"no answer in time ({_kind(error)})", transient=True)
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Fetched(reason=f"no connection: {error or _kind(error)}", transient=True)
        except (httpcore.UnsupportedProtocol, OSError, ValueError) as error:
            return Fetched(reason=f"cannot be fetched: {error or _kind(error)}")

    async def _get(self, url: str, text_limit: int, conditions: Mapping[str, str]) -> Fetched:
        timeout = {
            "connect": self._limits.connect_seconds,
            "read": self._limits.read_seconds,
            "write": self._limits.read_seconds,
        }
        sent = request_headers(self._user_agent, conditions)
        request = self._pool.stream(
            "GET", url, headers=list(sent.items()), extensions={"timeout": timeout}
        )
        async with request as response:
            headers = joined_headers(response.headers)
            fetched = _judge(url, response.status, headers, self._limits.max_bytes, text_limit)
            if fetched.status == 304 and conditions:
                fetched.reason = ""
            elif not fetched.reason and not fetched.location:
                await self._read(fetched, response, headers, text_limit)
        if not text_limit and not fetched.reason and is_binary(fetched.body):
            fetched.reason, fetched.body = "no page: its content is binary", b""
        return fetched

    async def _read(
        self, page: Fetched, response: httpcore.Response, headers: dict[str, str], text_limit: int
    ) -> None:
        limit = text_limit or self._limits.max_bytes
        encoding = headers.get("content-encoding", "").strip().lower()
        try:
            decoder = Decoder(encoding, limit)
            async for chunk in response.aiter_stream():
                decoder.feed(chunk)
                if decoder.full:
                    break
            else:
                decoder.finish()
        except (zlib.error, ValueError) as error:
            page.reason = f"its encoding is broken: {error}"
            return
        if decoder.full and not text_limit:
            page.reason = too_large(limit)
            return
        page.body = bytes(decoder.body[:limit])


def too_large(max_bytes: int) -> str:
    """Why a page is none whose bytes are more, with the field that holds the bound."""
    return f"larger than {max_bytes} bytes (scrape.max_bytes)"


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name: the lines of a list joined, of any other the first."""
    lines: dict[str, list[str]] = {}
    for name, value in raw:
        lines.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {
        name: join_lines(values)
        if name == "x-robots-tag"
        else ", ".join(values)
        if name in _LISTS
        else values[0]
        for name, values in lines.items()
    }


def is_binary(body: bytes) -> bool:
    """Whether a body is no text: it starts like a known format, or has too many control bytes.

    One in ten of any compressed bytes is such a byte; in a text a few stray ones say nothing.
    """
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is full of them
        return False
    head = body[:_SNIFFED]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return body.startswith(_BINARY) or controls > _CONTROL_SHARE * len(head)


def is_page_type(content_type: str) -> bool:
    """Whether a media type is one of pages; none given is one."""
    return content_type.partition(";")[0].strip().lower() in _PAGE_TYPES


def _judge(
    url: str, status: int, headers: dict[str, str], max_bytes: int, text_limit: int
) -> Fetched:
    """What status line and headers say, before the body is read."""
    kept = {name: headers[name] for name in KEPT if name in headers}
    fetched = Fetched(status=status, headers=kept)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if status in _REDIRECTS:
        fetched.location = normalise(headers.get("location", ""), url)
        if not headers.get("location") or fetched.location is None:
            fetched.reason = "a redirect that leads nowhere"
            fetched.location = None
    elif status != 200:
        fetched.reason = f"HTTP {status}"
        fetched.transient = status in (408, 425, 429) or status >= 500
        fetched.wait_seconds = _retry_after(headers.get("retry-after", ""))
    elif text_limit:
        pass  # of a longer one, the start is read
    elif not is_page_type(kind):
        fetched.reason = f"no page: {kind}"
    elif _number(headers.get("content-length", "")) > max_bytes:
        fetched.reason = too_large(max_bytes)
    return fetched


def _number(text: str) -> int:
    """A header's number; 0 for none, and for one that nobody means."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _retry_after(value: str) -> float | None:
    """Seconds, from a number of them or from a date (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(_number(value.strip()))
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


class Decoder:
    """Undoes gzip and deflate, and never holds more than ``limit`` bytes and one."""

    def __init__(self, encoding: str, limit: int) -> None:
        """Raises ValueError for an encoding that is not known."""
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ValueError(f"{encoding} was not asked for")
        self._unpacker = zlib.decompressobj(47) if encoding not in ("", "identity") else None
        self._limit = limit
        self._started = False
        self.body = bytearray()

    @property
    def full(self) -> bool:
        return len(self.body) > self._limit

    def feed(self, chunk: bytes) -> None:
        """Raises zlib.error where it is no gzip or deflate."""
        if self._unpacker is None:
            self.body += chunk
            return
        while chunk and not self.full:
            chunk = self._unpack(self._unpacker, chunk)

    def finish(self) -> None:
        """Raises ValueError where the end is missing: half a page is no page."""
        if self._unpacker is not None and self._started and not self._unpacker.eof:
            raise ValueError("it ends too early")

    def _unpack(self, unpacker: zlib._Decompress, chunk: bytes) -> bytes:
        """Unpack into the room that is left; what remains of ``chunk``."""
        room = self._limit + 1 - len(self.body)
        try:
            self.body += unpacker.decompress(chunk, room)
        except zlib.error:
            if self._started:
                raise
            # Deflate without its wrapper is common.
            self._unpacker = unpacker = zlib.decompressobj(-15)
            self.body += unpacker.decompress(chunk, room)
        self._started = True
        if not unpacker.eof:
            return unpacker.unconsumed_tail
        rest = unpacker.unused_data
        if not rest.startswith(b"\x1f\x8b"):  # else another member; browsers drop all but that
            return b""
        self._unpacker = zlib.decompressobj(47)
        return rest


def _kind(error: BaseException) -> str:
    return type(error).__name__
