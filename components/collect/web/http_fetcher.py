"""HTTP GET requests bounded in bytes and seconds; redirects are reported, not followed.

Transfers are libcurl's (``curl_transport``), lookups the SSRF guard's. What came is read as
browsers read it: by its status or, where that is odd, by its body; without its content codings; as
the media type that it has. A request may be conditional (RFC 9110, section 13): a server that still
has the same page then answers 304 without a body.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

import certifi

from components.collect.web.media_types import (
    HTML,
    judge_media_type,
    may_be_page,
    unreadable_reason,
)
from components.collect.web.named_links import explain_unfollowed
from components.collect.web.refresh import parse_refresh
from components.collect.web.ssrf_guard import (
    AddressGuard,
    AddressRefused,
    HostLookupError,
    HostPort,
)
from components.collect.web.transfer.content_codings import (
    ACCEPTED_CODINGS,
    ContentCodingError,
    decode_content,
)
from components.collect.web.transfer.curl_transport import (
    CurlRequest,
    CurlTransport,
    RawResponse,
    TransferError,
)
from components.collect.web.transfer.fetch_limits import FetchLimits
from components.collect.web.transfer.http_message import (
    HttpHead,
    describe_part,
    has_page_status,
    header_number,
    join_headers,
    parse_retry_after,
)
from components.collect.web.transfer.lenient_transfer import transfer_leniently
from components.collect.web.transfer.request_identity import RequestIdentity
from components.collect.web.urls import normalise_url

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
_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
_USUAL_STATUSES = frozenset({200, 203})
"""Statuses that need no note: 203 is a page that a proxy has changed (RFC 9110, 15.3.4)."""
_REFUSING_STATUS = 999
"""Status by which a large site refuses robots; browsers show its page, which says so."""
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.8,text/markdown;q=0.8"
_UNREAD_BODY_BYTES = 65536
"""Bytes of a body that nobody needs, read so that the connection can be kept."""
_INSTANT_SECONDS = 1.0
"""Delay of a ``Refresh`` up to which nobody reads the page: it is a redirect."""


@dataclass
class FetchResult:
    """Outcome of one request; ``reason`` is empty for a page that can be used."""

    status: int = 0
    reason: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Those of ``PAGE_HEADERS`` that came."""
    location: str | None = None
    """Target of a redirect, a ``Refresh`` without delay included."""
    transient: bool = False
    """True for a failure that another try may not meet."""
    wait_seconds: float | None = None
    """``Retry-After``, in seconds."""
    note: str = ""
    """Oddity of a page that is used nevertheless, such as a missing end."""
    refresh: str | None = None
    """Target of a ``Refresh`` with a delay: an address that the page leads to."""
    unfollowed: dict[str, str] = field(default_factory=dict)
    """Target of a ``Refresh`` that cannot be asked for, as it may be shown -> reason."""
    cookies: tuple[str, ...] = field(default=(), repr=False)
    """Cookies that the response set or deleted, as lines of a Netscape cookie file."""
    requests: int = 1
    """Requests that led to it, retries not counted."""

    @property
    def digest(self) -> str:
        """sha256 of the body."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def is_not_modified(self) -> bool:
        """True for a 304: the page is the one that the request's conditions name."""
        return self.status == 304 and not self.reason


def request_headers(user_agent: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """Headers of a request that records show: those of the user, and ``Host``, aside."""
    return {
        "User-Agent": user_agent,
        "Accept": _ACCEPT,
        "Accept-Encoding": ACCEPTED_CODINGS,
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
        identity: RequestIdentity | None = None,
    ) -> None:
        """Prepare a client.

        Args:
            user_agent: ``User-Agent`` of every request.
            limits: Bounds of each request.
            trusted: Addresses that need no check, by host and port.
            allow_private: Reach private addresses too.
            connections: Connections at one time, at most.
            identity: Headers, cookies, proxy and authorities of the user's own.
        """
        self._limits = limits
        self._user_agent = user_agent
        self._identity = identity or RequestIdentity()
        self._guard = AddressGuard(trusted or {}, allow_private=allow_private)
        self._ca_file = self._identity.ca_file or certifi.where()
        self._transport = CurlTransport(limits, connections=connections, ca_file=self._ca_file)
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> HttpFetcher:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def fetch_url(
        self,
        url: str,
        *,
        text_limit: int = 0,
        conditions: Mapping[str, str] | None = None,
        cookies: Sequence[str] = (),
    ) -> FetchResult:
        """Fetch a URL once; failures are reported in the result.

        Args:
            url: The normalised URL.
            text_limit: For robots.txt and the like: accept text of any media type, and read that
                many bytes of it. 0 for a page.
            conditions: ``If-None-Match`` and ``If-Modified-Since``.
            cookies: Cookies to choose from, as lines of a Netscape cookie file.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_seconds):
                return await self._fetch(url, text_limit, conditions or {}, cookies)
        except AddressRefused as error:
            return FetchResult(reason=f"refused: {error}")
        except TimeoutError:
            return FetchResult(reason=f"took more than {limits.total_seconds:g} s", transient=True)
        except TransferError as error:
            if error.is_permanent:
                return FetchResult(reason=f"cannot be fetched: {error}")
            problem = "no answer in time" if error.is_timeout else "no connection"
            return FetchResult(reason=f"{problem}: {error}", transient=True)
        except HostLookupError as error:
            return FetchResult(reason=f"no connection: {error}", transient=True)
        except (OSError, ValueError) as error:
            return FetchResult(reason=f"cannot be fetched: {error or type(error).__name__}")

    async def _fetch(
        self, url: str, text_limit: int, conditions: Mapping[str, str], cookies: Sequence[str]
    ) -> FetchResult:
        own = self._identity.headers_for(url)
        overridden = {name.lower() for name in own}
        usual = request_headers(self._user_agent, conditions)
        headers = {n: v for n, v in usual.items() if n.lower() not in overridden} | own
        cookies = [*self._identity.cookies_for(url), *cookies]

        def choose_limit(head: HttpHead) -> int:
            fetched = self._classify_head(url, head, text_limit)
            if fetched.location is not None or fetched.reason:
                length = header_number(join_headers(head.lines).get("content-length", ""))
                return _UNREAD_BODY_BYTES if length <= _UNREAD_BODY_BYTES else 0
            return text_limit or self._limits.max_bytes

        raw = await self._transfer(url, list(headers.items()), cookies, choose_limit)
        fetched = self._classify_head(url, raw.head, text_limit)
        fetched.cookies = raw.cookies
        if fetched.status == 304 and conditions:
            fetched.reason = ""
        elif not fetched.reason and fetched.location is None:
            self._read_body(fetched, raw, text_limit)
        return fetched

    async def _transfer(
        self,
        url: str,
        headers: Sequence[tuple[str, str]],
        cookies: Sequence[str],
        choose_limit: Callable[[HttpHead], int],
    ) -> RawResponse:
        """Transfer by the first of the host's addresses that can be connected to.

        Args:
            url: The URL.
            headers: Headers of the request.
            cookies: Cookies to choose from.
            choose_limit: Decides how much of the body is read.

        Raises:
            AddressRefused: the host has an address that may not be reached.
            HostLookupError: it cannot be looked up.
            TransferError: no response came.
        """
        failure: TransferError | None = None
        for address in await self._addresses(url):
            request = CurlRequest(url, headers, address, cookies, self._identity.proxy)
            try:
                return await self._transport.get(request, choose_limit)
            except TransferError as error:
                failure = error
                if error.is_odd_head and address is not None:
                    return await transfer_leniently(
                        request, self._limits, self._tls_context(), choose_limit
                    )
                if not error.is_unconnected:
                    raise
        assert failure is not None  # a lookup gives an address
        raise failure

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        return self._tls

    async def _addresses(self, url: str) -> Sequence[HostPort | None]:
        """Checked addresses of a URL's host; one None where a proxy connects.

        The proxy looks names up itself. Those that lead inside from here are refused all the same.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        seconds = self._limits.connect_seconds
        if not self._identity.proxy:
            return await self._guard.resolve_host(host, port, seconds)
        try:
            await self._guard.resolve_host(host, port, seconds)
        except HostLookupError:
            return [None]  # as behind a proxy that alone knows the names of the web
        return [None]

    def _classify_head(self, url: str, head: HttpHead, text_limit: int) -> FetchResult:
        """Result of a response by its status and headers, before the body is read."""
        headers, status = join_headers(head.lines), head.status
        stored_headers = {name: headers[name] for name in PAGE_HEADERS if name in headers}
        fetched = FetchResult(status=status, headers=stored_headers)
        content_type = headers.get("content-type", "")
        if status in _REDIRECTS and headers.get("location"):
            fetched.location = normalise_url(headers["location"], url)
            if fetched.location is None:
                shown, why = explain_unfollowed(headers["location"], url)
                fetched.reason = (
                    f"redirects to {shown}, which is not followed: {why}"
                    if shown
                    else "a redirect that leads nowhere"
                )
        elif not _is_page_status(status):
            fetched.reason = f"HTTP {status}"
            fetched.transient = status in (408, 425, 429) or 500 <= status < 600
            fetched.wait_seconds = parse_retry_after(headers.get("retry-after", ""))
        elif text_limit:
            pass  # the start of a longer text is read
        elif not may_be_page(content_type):
            fetched.reason = unreadable_reason(content_type)
        elif header_number(headers.get("content-length", "")) > self._limits.max_bytes:
            fetched.reason = too_large_reason(self._limits.max_bytes)
        else:
            _note_refresh(fetched, url, headers.get("refresh", ""))
        return fetched

    def _read_body(self, page: FetchResult, raw: RawResponse, text_limit: int) -> None:
        """Put the decoded body into a result, or the reason for which it is no page."""
        limit = text_limit or self._limits.max_bytes
        headers = join_headers(raw.head.lines)
        try:
            decoded = decode_content(raw.body, headers.get("content-encoding", ""), limit)
        except ContentCodingError as error:
            page.reason = f"its encoding is broken: {error}"
            return
        if (decoded.is_full or raw.has_more) and not text_limit:
            page.reason = too_large_reason(limit)
            return
        body = decoded.body[:limit]
        notes = [decoded.note] if decoded.note and not raw.has_more else []
        if raw.is_cut:
            notes.append("the connection ended before it did")
        has_start, missing = describe_part(page.status, headers)
        if not has_start:
            page.reason = f"HTTP {page.status}: {missing}"
            return
        if missing:
            notes.append(missing)
        if page.status not in _USUAL_STATUSES:
            notes.append(f"sent as HTTP {page.status}")
        if not text_limit:
            verdict = judge_media_type(headers.get("content-type", ""), body)
            page.reason = verdict.reason
            if raw.is_headless and verdict.media_type != HTML:
                page.reason = "no page: it has neither a status line nor HTML"
        if not body and page.status in _REDIRECTS:
            page.reason = "a redirect that leads nowhere"
        elif not body and notes:
            page.reason = f"nothing came: {notes[0]}"
        page.transient = raw.is_cut  # another try may bring the rest
        page.note = "; ".join(notes) if not page.reason else ""
        page.body = body if not page.reason else b""


def too_large_reason(max_bytes: int) -> str:
    """Reason of a page that exceeds ``scrape.max_bytes``."""
    return f"larger than {max_bytes} bytes (scrape.max_bytes)"


def _is_page_status(status: int) -> bool:
    """True for a status whose body is the page, as it is in browsers.

    A redirect without a target is its body. Above 599 no status has a meaning.
    """
    return (
        has_page_status(status)
        or status in _REDIRECTS
        or (status >= 600 and status != _REFUSING_STATUS)
    )


def _note_refresh(page: FetchResult, url: str, header: str) -> None:
    """Enter the target of a ``Refresh`` header: a redirect where it comes without delay."""
    refresh = parse_refresh(header)
    target = normalise_url(refresh[1], url) if refresh is not None and refresh[1] else None
    if refresh is not None and refresh[1] and target is None:
        shown, reason = explain_unfollowed(refresh[1], url)
        page.unfollowed |= {shown: reason} if shown else {}
    if refresh is None or target is None or target == url:
        return
    if refresh[0] <= _INSTANT_SECONDS:
        page.location = target
    else:
        page.refresh = target
