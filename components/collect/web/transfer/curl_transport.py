"""HTTP/1.1 transfers by libcurl on the event loop, pinned to one checked address each.

libcurl reads what browsers read: header lines without a colon, chunks that end in a line feed, an
unknown transfer coding. It hands over the body's bytes as they came; content codings, redirects and
name lookups are not its business here. Nothing of the environment counts: no proxy variable, no
``.netrc``.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pycurl

from components.collect.web.cookie_jar import find_changes, is_over
from components.collect.web.ssrf_guard import AddressRefused, HostPort, open_checked_socket
from components.collect.web.transfer.fetch_limits import FetchLimits
from components.collect.web.transfer.http_message import (
    HttpHead,
    parse_header_lines,
)

_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})", re.IGNORECASE)
_KEPT_SECONDS = 30
"""Time for which an idle connection is kept."""
_CUT_ERRORS = frozenset({pycurl.E_PARTIAL_FILE, pycurl.E_RECV_ERROR, pycurl.E_GOT_NOTHING})
"""Errors after which what came of a body stands."""
_WEIRD_SERVER_REPLY, _TOO_LARGE = 8, 100
"""Codes of libcurl (curl.h) for which pycurl has no name of its own."""
_ODD_HEAD_ERRORS = frozenset(
    {
        pycurl.E_BAD_CONTENT_ENCODING,
        pycurl.E_UNSUPPORTED_PROTOCOL,
        _WEIRD_SERVER_REPLY,
        _TOO_LARGE,
    }
)
ChooseLimit = Callable[[HttpHead], int]
"""Bytes of the body to read, decided when the head of a response is there; 0 for none."""


@dataclass(frozen=True)
class CurlRequest:
    """One GET request."""

    url: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    address: HostPort | None
    """Checked address to connect to; None where a proxy connects."""
    cookies: Sequence[str] = field(default=(), repr=False)
    """Cookies to choose from, as lines of a Netscape cookie file."""
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True)
class RawResponse:
    """A response with its body as it came."""

    head: HttpHead
    body: bytes
    has_more: bool = False
    """True where the body was not read to its end, as it is longer than was asked for."""
    is_cut: bool = False
    """True where the connection ended before the body did."""
    is_headless: bool = False
    """True for bytes without a status line (HTTP/0.9)."""
    cookies: tuple[str, ...] = field(default=(), repr=False)
    """Cookies that the response set or deleted, as lines of a Netscape cookie file."""


class TransferError(Exception):
    """Transfer that gave no response."""

    def __init__(self, code: int) -> None:
        self.code = code
        # libcurl's own message holds addresses and milliseconds, which differ from run to run.
        super().__init__(pycurl.easy_strerror(code))

    @property
    def is_unconnected(self) -> bool:
        """True where no connection was made, so that another address may be tried."""
        return self.code == pycurl.E_COULDNT_CONNECT

    @property
    def is_odd_head(self) -> bool:
        """True for a response whose head libcurl refuses to read."""
        return self.code in _ODD_HEAD_ERRORS

    @property
    def is_timeout(self) -> bool:
        return self.code == pycurl.E_OPERATION_TIMEDOUT

    @property
    def is_permanent(self) -> bool:
        """True for a request that cannot succeed on another try."""
        return self.code in (pycurl.E_URL_MALFORMAT, pycurl.E_COULDNT_RESOLVE_PROXY)


class CurlTransport:
    """Connection pool of libcurl, driven by the running event loop."""

    def __init__(self, limits: FetchLimits, *, connections: int, ca_file: str) -> None:
        """Prepare a pool.

        Args:
            limits: Bounds of each transfer.
            connections: Connections at one time, at most.
            ca_file: Certificates of the authorities that are trusted.
        """
        self._limits = limits
        self._ca_file = ca_file
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    async def __aenter__(self) -> CurlTransport:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._multi.aclose()

    async def get(self, request: CurlRequest, choose_limit: ChooseLimit) -> RawResponse:
        """Transfer one response.

        Args:
            request: The request.
            choose_limit: Decides, by the response's head, how much of the body is read.

        Raises:
            AddressRefused: libcurl was about to connect to another address than the request's.
            TransferError: no response came, or it is none.
        """
        exchange = _Exchange(request, choose_limit)
        with pycurl.Curl() as curl:
            code = int(pycurl.E_OK)
            try:
                self._set_options(curl, request)
                exchange.attach(curl)
                await self._multi.perform(curl)
            except pycurl.error as error:
                code = int(error.args[0])
            finally:
                exchange.close_sockets()
            # Raw, as a cookie may hold any bytes.
            cookies = curl.getinfo_raw(pycurl.INFO_COOKIELIST)
            return exchange.build_response(code, [line.decode("latin-1") for line in cookies])

    def _set_options(self, curl: pycurl.Curl, request: CurlRequest) -> None:
        limits = self._limits
        options: dict[int, Any] = {
            pycurl.URL: request.url,
            pycurl.HTTPHEADER: [f"{name}: {value}".encode() for name, value in request.headers],
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.PATH_AS_IS: True,
            # As it is written: libcurl would spell %c3 as %C3, which servers tell apart.
            pycurl.REQUEST_TARGET: _request_target(request),
            pycurl.HTTP09_ALLOWED: False,
            pycurl.FOLLOWLOCATION: False,
            pycurl.PROXY: request.proxy.encode(),  # empty: no proxy, whatever the environment says
            pycurl.NOPROXY: "",
            pycurl.CAINFO: self._ca_file,
            pycurl.COOKIEFILE: "",  # switches cookies on, and reads none
            pycurl.NOSIGNAL: True,
            pycurl.CONNECTTIMEOUT_MS: math.ceil(limits.connect_seconds * 1000),
            pycurl.TIMEOUT_MS: math.ceil(limits.total_seconds * 1000),
            # Below one byte a second for so long; libcurl takes whole seconds.
            pycurl.LOW_SPEED_LIMIT: 1,
            pycurl.LOW_SPEED_TIME: math.ceil(limits.read_seconds),
            pycurl.MAXAGE_CONN: _KEPT_SECONDS,
        }
        if request.address is not None:
            host, port = request.address
            shown = f"[{host}]" if ":" in host else host
            options[pycurl.CONNECT_TO] = [f"::{shown}:{port}"]  # whatever host the URL names
        for option, value in options.items():
            curl.setopt(option, value)
        for line in request.cookies:
            curl.setopt(pycurl.COOKIELIST, line.encode("latin-1", "replace"))


class _Exchange:
    """State of one transfer, filled by libcurl's callbacks, which must not raise."""

    def __init__(self, request: CurlRequest, choose_limit: ChooseLimit) -> None:
        self._request = request
        self._choose_limit = choose_limit
        self._head_lines: list[bytes] = []
        self._body = bytearray()
        self._limit: int | None = None
        self._has_more = False
        self._refusal: AddressRefused | None = None
        self._sockets: list[socket.socket] = []

    def attach(self, curl: pycurl.Curl) -> None:
        """Set the callbacks of a handle."""
        curl.setopt(pycurl.HEADERFUNCTION, self._take_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._take_body)
        if self._request.address is not None:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)

    def close_sockets(self) -> None:
        """Close what was opened here: libcurl goes on with a duplicate of it."""
        for opened in self._sockets:
            opened.close()

    def build_response(self, code: int, cookies: Sequence[str]) -> RawResponse:
        """Build the response of a transfer that has ended with an error code.

        Raises:
            AddressRefused: the connection was refused.
            TransferError: no response came, or it is none.
        """
        if self._refusal is not None:
            raise self._refusal
        is_stopped = code == pycurl.E_WRITE_ERROR and self._has_more
        is_cut = code in _CUT_ERRORS and bool(self._body)
        head = self._head()
        if head is None or (code != pycurl.E_OK and not is_stopped and not is_cut):
            raise TransferError(code)
        headers = [v.decode("latin-1") for name, v in head.lines if name.lower() == b"set-cookie"]
        expired = {value.partition("=")[0].strip() for value in headers if is_over(value)}
        changes = tuple(find_changes(self._request.cookies, cookies, expired))
        return RawResponse(head, bytes(self._body), self._has_more, is_cut, cookies=changes)

    def _head(self) -> HttpHead | None:
        status = _STATUS_LINE.match(self._head_lines[0]) if self._head_lines else None
        if status is None:
            return None
        return HttpHead(int(status[1]), parse_header_lines(self._head_lines[1:]))

    def _take_header(self, line: bytes) -> None:
        if self._limit is not None:
            return  # a trailer
        if _STATUS_LINE.match(line):
            self._head_lines = [line]  # the final response's replaces that of an interim one
        elif self._head_lines and line.strip():
            self._head_lines.append(line.rstrip(b"\r\n"))

    def _take_body(self, piece: bytes) -> int:
        if self._limit is None:
            self._limit = self._choose_limit(self._head() or HttpHead(200, []))
        room = self._limit + 1 - len(self._body)
        self._body += piece[:room]
        self._has_more = len(self._body) > self._limit
        return -1 if self._has_more else len(piece)

    def _open_socket(self, _: int, address: Any) -> Any:
        assert self._request.address is not None
        try:
            opened = open_checked_socket(
                address.family,
                address.socktype,
                address.protocol,
                _host_port(address.addr),
                self._request.address,
            )
        except AddressRefused as refusal:
            self._refusal = refusal
            return pycurl.SOCKET_BAD
        except OSError:  # no such family here, or no descriptor left
            return pycurl.SOCKET_BAD
        self._sockets.append(opened)
        return opened


def _request_target(request: CurlRequest) -> str:
    """Path and query; all of the URL for a proxy that is not merely tunnelled through."""
    parts = urlsplit(request.url)
    if request.proxy.lower().startswith("http") and parts.scheme == "http":
        return request.url
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _host_port(address: Any) -> HostPort:
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    return host, int(address[1])
