"""HTTP GET requests bounded in bytes and seconds; redirects are reported, not followed.

A request may be conditional (RFC 9110, section 13): a server that still has the same page then
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

from components.collect.web.charset import media_type_of
from components.collect.web.robots_directives import join_robots_headers
from components.collect.web.ssrf_guard import AddressRefused, GuardedNetwork, HostPort
from components.collect.web.urls import normalise_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGE_TYPES = frozenset(
    {"text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-markdown", ""}
)
PAGE_HEADERS = (
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
"""Response headers that are stored: they describe the page, and are equal when it is."""
_LIST_HEADERS = frozenset({"content-signal", "content-usage", "link"})
"""Headers whose repeated lines form one list (RFC 9110, section 5.3)."""
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.8,text/markdown;q=0.8"
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_CONTROL_SHARE = 0.01
"""Share of control bytes above which a body is binary: compressed bytes hold a tenth, texts few."""
_SNIFFED_BYTES = 65536
"""First bytes of a body that its type is guessed from."""
_BINARY_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\x1f\x8b",
    b"\x7fELF",
)


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of one request: decompressed bytes, and seconds to connect, between reads, in all."""

    max_bytes: int
    connect_seconds: float
    read_seconds: float
    total_seconds: float


@dataclass
class FetchResult:
    """Outcome of one request; ``reason`` is empty for a page that can be used."""

    status: int = 0
    reason: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Those of ``PAGE_HEADERS`` that came."""
    location: str | None = None
    """Target of a redirect."""
    transient: bool = False
    """True for a failure that another try may not meet."""
    wait_seconds: float | None = None
    """``Retry-After``, in seconds."""

    @property
    def digest(self) -> str:
        """sha256 of the body."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def is_not_modified(self) -> bool:
        """True for a 304: the page is the one that the request's conditions name."""
        return self.status == 304 and not self.reason


def request_headers(user_agent: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """Headers of a request, ``Host`` aside."""
    return {
        "User-Agent": user_agent,
        "Accept": _ACCEPT,
        "Accept-Encoding": "gzip, deflate",
        **conditions,
    }


class HttpFetcher:
    """HTTP client with a connection pool, which connects only where the SSRF guard allows."""

    def __init__(
        self,
        user_agent: str,
        limits: FetchLimits,
        *,
        trusted: Mapping[HostPort, HostPort] | None = None,
        allow_private: bool = False,
        connections: int = 64,
    ) -> None:
        self._limits = limits
        self._user_agent = user_agent
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=connections,
            keepalive_expiry=30.0,
            network_backend=GuardedNetwork(trusted or {}, allow_private=allow_private),
        )

    async def __aenter__(self) -> HttpFetcher:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def fetch_url(
        self, url: str, *, text_limit: int = 0, conditions: Mapping[str, str] | None = None
    ) -> FetchResult:
        """Fetch a URL once; failures are reported in the result.

        Args:
            url: The normalised URL.
            text_limit: For robots.txt and the like: accept text of any media type, and read that
                many bytes of it. 0 for a page.
            conditions: ``If-None-Match`` and ``If-Modified-Since``.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_seconds):
                return await self._get(url, text_limit, conditions or {})
        except AddressRefused as error:
            return FetchResult(reason=f"refused: {error}")
        except TimeoutError:
            return FetchResult(reason=f"took more than {limits.total_seconds:g} s", transient=True)
        except httpcore.TimeoutException as error:
            return FetchResult(reason=f"no answer in time ({_error_name(error)})", transient=True)
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return FetchResult(
                reason=f"no connection: {error or _error_name(error)}", transient=True
            )
        except (httpcore.UnsupportedProtocol, OSError, ValueError) as error:
            return FetchResult(reason=f"cannot be fetched: {error or _error_name(error)}")

    async def _get(self, url: str, text_limit: int, conditions: Mapping[str, str]) -> FetchResult:
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
            headers = join_headers(response.headers)
            fetched = _classify_response(
                url, response.status, headers, self._limits.max_bytes, text_limit
            )
            if fetched.status == 304 and conditions:
                fetched.reason = ""
            elif not fetched.reason and not fetched.location:
                await self._read_body(fetched, response, headers, text_limit)
        if not text_limit and not fetched.reason and is_binary(fetched.body):
            fetched.reason, fetched.body = "no page: its content is binary", b""
        return fetched

    async def _read_body(
        self,
        page: FetchResult,
        response: httpcore.Response,
        headers: dict[str, str],
        text_limit: int,
    ) -> None:
        limit = text_limit or self._limits.max_bytes
        encoding = headers.get("content-encoding", "").strip().lower()
        try:
            decoder = ContentDecoder(encoding, limit)
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
            page.reason = too_large_reason(limit)
            return
        page.body = bytes(decoder.body[:limit])


def too_large_reason(max_bytes: int) -> str:
    """Reason of a page that exceeds ``scrape.max_bytes``."""
    return f"larger than {max_bytes} bytes (scrape.max_bytes)"


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Join header lines by lower-case name: those of a list joined, of any other the first."""
    lines: dict[str, list[str]] = {}
    for name, value in raw:
        lines.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {
        name: join_robots_headers(values)
        if name == "x-robots-tag"
        else ", ".join(values)
        if name in _LIST_HEADERS
        else values[0]
        for name, values in lines.items()
    }


def is_binary(body: bytes) -> bool:
    """True for a body that is no text: a known binary format, or too many control bytes."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is full of control bytes
        return False
    head = body[:_SNIFFED_BYTES]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return body.startswith(_BINARY_MAGIC) or controls > _CONTROL_SHARE * len(head)


def is_page_type(content_type: str) -> bool:
    """True for a media type of pages; a missing one counts."""
    return media_type_of(content_type) in _PAGE_TYPES


def _classify_response(
    url: str, status: int, headers: dict[str, str], max_bytes: int, text_limit: int
) -> FetchResult:
    """Result of a response by its status and headers, before the body is read."""
    stored_headers = {name: headers[name] for name in PAGE_HEADERS if name in headers}
    fetched = FetchResult(status=status, headers=stored_headers)
    media_type = media_type_of(headers.get("content-type", ""))
    if status in _REDIRECTS:
        fetched.location = normalise_url(headers.get("location", ""), url)
        if not headers.get("location") or fetched.location is None:
            fetched.reason = "a redirect that leads nowhere"
            fetched.location = None
    elif status != 200:
        fetched.reason = f"HTTP {status}"
        fetched.transient = status in (408, 425, 429) or status >= 500
        fetched.wait_seconds = _retry_after(headers.get("retry-after", ""))
    elif text_limit:
        pass  # the start of a longer text is read
    elif not is_page_type(media_type):
        fetched.reason = f"no page: {media_type}"
    elif _header_number(headers.get("content-length", "")) > max_bytes:
        fetched.reason = too_large_reason(max_bytes)
    return fetched


def _header_number(text: str) -> int:
    """Number in a header; 0 for none, and for one of twenty digits or more."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _retry_after(value: str) -> float | None:
    """Seconds of ``Retry-After``: a number of them, or a date (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(_header_number(value.strip()))
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


class ContentDecoder:
    """Streaming decoder of gzip and deflate that never holds more than ``limit`` + 1 bytes."""

    def __init__(self, encoding: str, limit: int) -> None:
        """Prepare a decoder.

        Raises:
            ValueError: the content encoding is not one that was asked for.
        """
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
        """Decode a chunk.

        Raises:
            zlib.error: it is no gzip or deflate.
        """
        if self._unpacker is None:
            self.body += chunk
            return
        while chunk and not self.full:
            chunk = self._unpack(self._unpacker, chunk)

    def finish(self) -> None:
        """Check that the encoded body is complete.

        Raises:
            ValueError: its end is missing.
        """
        if self._unpacker is not None and self._started and not self._unpacker.eof:
            raise ValueError("it ends too early")

    def _unpack(self, unpacker: zlib._Decompress, chunk: bytes) -> bytes:
        """Decompress up to the limit; the part of ``chunk`` that is left."""
        room = self._limit + 1 - len(self.body)
        try:
            self.body += unpacker.decompress(chunk, room)
        except zlib.error:
            if self._started:
                raise
            # Raw deflate without the zlib wrapper is common.
            self._unpacker = unpacker = zlib.decompressobj(-15)
            self.body += unpacker.decompress(chunk, room)
        self._started = True
        if not unpacker.eof:
            return unpacker.unconsumed_tail
        unused = unpacker.unused_data
        if not unused.startswith(b"\x1f\x8b"):  # browsers drop all but another gzip member
            return b""
        self._unpacker = zlib.decompressobj(47)
        return unused


def _error_name(error: BaseException) -> str:
    return type(error).__name__
