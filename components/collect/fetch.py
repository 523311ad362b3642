"""One GET request: bounded in bytes and seconds, redirects not followed but reported."""

from __future__ import annotations

import asyncio
import email.utils
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

import httpcore

from components.collect.guard import Address, AddressRefused, GuardedNetwork
from components.collect.urls import normalise

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGE_TYPES = frozenset(
    {"text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-markdown", ""}
)
_KEPT = ("content-type", "content-language", "etag", "last-modified", "link", "x-robots-tag")
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
        self._headers: dict[bytes | str, bytes | str] = {
            "User-Agent": user_agent,
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,text/markdown;q=0.8",
            "Accept-Encoding": "gzip, deflate",
        }
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

    async def get(self, url: str, *, any_text: bool = False) -> Fetched:
        """Fetch ``url`` once; failures are in the answer. ``any_text``: robots.txt, sitemaps."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_seconds):
                return await self._get(url, any_text)
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

    async def _get(self, url: str, any_text: bool) -> Fetched:
        timeout = {
            "connect": self._limits.connect_seconds,
            "read": self._limits.read_seconds,
            "write": self._limits.read_seconds,
        }
        request = self._pool.stream(
            "GET", url, headers=self._headers, extensions={"timeout": timeout}
        )
        async with request as response:
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in reversed(response.headers)  # of several, the first counts
            }
            fetched = _judge(url, response.status, headers, self._limits.max_bytes, any_text)
            if fetched.reason or fetched.location:
                return fetched
            await self._read(fetched, response, headers.get("content-encoding", ""))
        if not any_text and not fetched.reason and _is_binary(fetched.body):
            fetched.reason, fetched.body = "no page: its content is binary", b""
        return fetched

    async def _read(self, page: Fetched, response: httpcore.Response, encoding: str) -> None:
        limit = self._limits.max_bytes
        try:
            decoder = _Decoder(encoding.strip().lower(), limit)
            async for chunk in response.aiter_stream():
                decoder.feed(chunk)
                if decoder.full:
                    page.reason = f"larger than {limit} bytes"
                    return
        except (zlib.error, ValueError) as error:
            page.reason = f"its encoding is broken: {error}"
            return
        page.body = bytes(decoder.body)


def _is_binary(body: bytes) -> bool:
    start = body[:1024]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is full of zero bytes
        return False
    return start.startswith(_BINARY) or b"\0" in start


def _judge(
    url: str, status: int, headers: dict[str, str], max_bytes: int, any_text: bool
) -> Fetched:
    """What status line and headers say, before the body is read."""
    kept = {name: headers[name] for name in _KEPT if name in headers}
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
    elif kind not in _PAGE_TYPES and not any_text:
        fetched.reason = f"no page: {kind}"
    elif headers.get("content-length", "").isdigit() and int(headers["content-length"]) > max_bytes:
        fetched.reason = f"larger than {max_bytes} bytes"
    return fetched


def _retry_after(value: str) -> float | None:
    """Seconds, from a number of them or from a date."""
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


class _Decoder:
    """Undoes gzip and deflate, and never holds more than ``limit`` bytes and one."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ValueError(f"{encoding} was not asked for")
        self._unpacker = zlib.decompressobj(47) if encoding not in ("", "identity") else None
        self._limit = limit
        self.body = bytearray()

    @property
    def full(self) -> bool:
        return len(self.body) > self._limit

    def feed(self, chunk: bytes) -> None:
        if self._unpacker is None:
            self.body += chunk
            return
        room = self._limit + 1 - len(self.body)
        try:
            self.body += self._unpacker.decompress(chunk, room)
        except zlib.error:
            if self.body:
                raise
            self._unpacker = zlib.decompressobj(-15)  # deflate without its wrapper is common
            self.body += self._unpacker.decompress(chunk, room)


def _kind(error: BaseException) -> str:
    return type(error).__name__
