"""HTTP/1.1 protocol of uvicorn over httptools whose clients have bounds on all they send and read.

uvicorn times a connection that is idle after an answer, and nothing else: one that never sends its
first request, half a head, or the body of a request that was answered without it stays for ever,
and so does one that does not read its answer. httptools bounds no head, and takes some requests
that two readers could see differently (RFC 9112, 11.2); those are refused here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import httptools
import uvicorn.protocols.http.auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.api.answers.answer_feed import WriteThrough
from serving.api.disconnect import BODY_WRITER
from serving.api.error_responses import ApiError

HEAD_SECONDS = 20.0
"""From a connection, or the first byte of a further request, to the end of its head: Apache's
default, as nginx's 60 s let three times as many half heads stand."""
HEAD_BYTES = 1 << 16
"""Longest head, as uvicorn has it with h11."""
_PROBE_PAUSES = (0.1, 0.5, 2.0)
"""Between looks if a client that says no more still listens: the reset that answers the first is
seen by the second. Some clients take no more than five interim responses (Go's)."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that say where a body ends."""
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Response that every client of HTTP/1.1 passes over (RFC 9110, 15.2.1). One that has closed its
connection answers it by a reset."""
SEND_SECONDS = 30.0
"""For a client to take what waits for it, where the endpoint's limits say nothing yet."""


class RefusedHead(Exception):
    """A head that httptools takes and this endpoint does not."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One client's connection, closed where it sends or reads too slowly."""

    head_seconds = HEAD_SECONDS
    send_seconds = SEND_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._send_deadline: asyncio.TimerHandle | None = None
        self._in_head = self._in_message = False
        """A request has begun, and its head, or its body, has not ended."""
        self._head_bytes = 0
        self._passed_framing = b""
        """Header lines of a body that the parser passes over, since its request asks for an upgrade
        that is ignored."""
        self._in_framing = False
        """The parser reads these lines once more, as those of a request without an upgrade."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._bound_wait()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        self._unset_keepalive_if_required()
        try:
            self._feed_parser(data)
        except httptools.HttpParserError as error:
            self.send_400_response(str(error))
        if self.transport.is_closing():
            return
        if self._in_head and was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "The request's head is too long.")
                return
        self._bound_wait()

    def on_url(self, url: bytes) -> None:
        if not self._in_framing:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_framing:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        if self._in_framing:
            return
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        if self._in_framing:
            return
        self._in_head = False
        _check_head(self.parser.get_http_version(), self.headers)
        if self.parser.get_method() == b"CONNECT":
            raise RefusedHead("a tunnel")
        if self._upgrades and not self._may_upgrade():
            raise RefusedHead("a WebSocket opens by GET and without a body")
        if self.parser.should_upgrade() and not self._upgrades:
            self._passed_framing = b"".join(
                b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING
            )
        super().on_headers_complete()
        if self.cycle is None or self.cycle.scope is not self.scope:
            return  # an upgrade
        if self.scope.get("http_version") == "1.0":
            _frame_by_close(self.cycle)
        extensions = cast("dict[str, object]", self.scope.setdefault("extensions", {}))
        extensions[BODY_WRITER] = _write_through(self.cycle)

    def on_message_complete(self) -> None:
        if self._passed_framing:
            return  # its body is still to come
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message:
            self._bound_wait()  # an idle connection uvicorn times itself
        if self.transport.get_write_buffer_size():
            self._bound_sending()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._bound_sending()

    def resume_writing(self) -> None:
        self._cancel_send_deadline()
        super().resume_writing()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it will say may still read its answer, as ``nc -N`` does.

        One that has closed its connection says the same, and is told from it by what is sent next.
        """
        if not self._answering or self._in_message or self.transport.is_closing():
            return False
        self.cycle.keep_alive = False
        if self.cycle.scope["http_version"] == "1.1":
            self._probe_client(_PROBE_PAUSES)
        return True

    def _probe_client(self, pauses: Sequence[float]) -> None:
        """Send what a listening client passes over, while its answer has not begun."""
        waits = self._answering and not self.cycle.response_started and not self.pipeline
        if waits and not self.transport.is_closing():
            self.transport.write(_INTERIM)
            if pauses:
                self.loop.call_later(pauses[0], self._probe_client, pauses[1:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_send_deadline()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse in OpenAI's shape what could not be parsed.

        Args:
            msg: uvicorn's words, which stand in its log.
        """
        self._refuse(400, "This is no valid HTTP request.")

    def handle_websocket_upgrade(self) -> None:
        self._cancel_deadline()  # the WebSocket's own protocol has the connection from here on
        super().handle_websocket_upgrade()

    def _feed_parser(self, data: bytes) -> None:
        """Parse what came; an upgrade that is not served is ignored (RFC 9110, 7.8).

        The parser stops behind the head of a request with any upgrade, as if another protocol
        followed. ``curl --http2`` asks for one (h2c) with each of its requests.

        Raises:
            HttpParserError: it is no valid HTTP.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._upgrades:
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
                if self._passed_framing:
                    self._frame_body()
            else:
                return

    def _frame_body(self) -> None:
        """Let a new parser read the body that the present one passed over."""
        framing, self._passed_framing = self._passed_framing, b""
        self.parser = httptools.HttpRequestParser(self)
        self._in_framing = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % framing)
        self._in_framing = False

    def _should_upgrade(self) -> bool:
        """The request asks for a WebSocket; HTTP/1.0 has no upgrades."""
        is_current: bool = self.parser.get_http_version() == "1.1"
        return is_current and super()._should_upgrade()

    @property
    def _upgrades(self) -> bool:
        return bool(self.parser.should_upgrade()) and self._should_upgrade()

    def _may_upgrade(self) -> bool:
        names = {name for name, _ in self.headers}
        return self.parser.get_method() == b"GET" and not names & _FRAMING

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _bound_wait(self) -> None:
        """Begin to count where the client owes something that nobody else waits for."""
        if self._answering or self.transport.is_closing():
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        if self._in_head:
            self._refuse(408, "The request's head took too long to arrive.")
        else:
            self._close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer for the application and end the connection, after an answer that has begun."""
        if self.transport.is_closing():
            return
        if self._answering:
            in_its_body = self._in_message and not self._in_head
            if not in_its_body:
                self.cycle.keep_alive = False  # the answer to the request before ends first
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._close()  # a refusal within an answer would look like a part of it
                return
        self.transport.write(_refusal(status, message))
        self._close()

    def _close(self) -> None:
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._bound_sending()

    def _bound_sending(self) -> None:
        """Begin to count while the client does not take what waits for it."""
        if self._send_deadline is None:
            seconds = self.app_state.get("send_seconds", self.send_seconds)
            self._send_deadline = self.loop.call_later(seconds, self._end_slow_reader)

    def _end_slow_reader(self) -> None:
        self._send_deadline = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancel_send_deadline(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None


def _write_through(cycle: RequestResponseCycle) -> WriteThrough:
    """Writer of a response's chunks past ``send``, while there is nothing to wait for."""
    flow, write = cycle.flow, cycle.transport.write

    def write_chunk(body: bytes) -> bool:
        begun = cycle.response_started and not cycle.response_complete
        if flow.write_paused or cycle.disconnected or not (begun and cycle.chunked_encoding):
            return False
        write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    return write_chunk


def _frame_by_close(cycle: RequestResponseCycle) -> None:
    """Have an answer without a length end with the connection, as HTTP/1.0 knows no chunks.

    RFC 9112, 6.1 and 6.3; uvicorn frames every answer as for HTTP/1.1.
    """
    send = cycle.send
    by_close = False

    async def send_plainly(message: Any) -> None:
        nonlocal by_close
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            by_close = b"content-length" not in names
            if by_close:
                cycle.chunked_encoding = False
        elif by_close:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_plainly  # type: ignore[method-assign]


def _check_head(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a head that httptools lets pass and another reader might read otherwise.

    Raises:
        RefusedHead: a version that is not 1.0 or 1.1, no host or two, another coding than chunked
            or one in HTTP/1.0 (RFC 9112, 3.2 and 6.1), more than ``HEAD_BYTES``.
    """
    if version not in ("1.1", "1.0"):
        raise RefusedHead(f"HTTP/{version}")
    hosts = size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            raise RefusedHead("a transfer coding that is not served")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise RefusedHead(f"{hosts} Host headers")
    if size > HEAD_BYTES:
        raise RefusedHead("a head that is too long")


def _refusal(status: int, message: str) -> bytes:
    """A whole response in OpenAI's shape that ends the connection."""
    error = ApiError(status, message, code="timeout" if status == 408 else "invalid_request")
    body = json.dumps(error.body).encode()
    phrases = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
    head = (
        f"HTTP/1.1 {status} {phrases[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def install_protocol() -> None:
    """Have uvicorn serve by this protocol where its configuration names none, as BentoML's does.

    uvicorn takes uvloop where it can be imported; imported here, it is among a Bento's pins.
    """
    import uvloop  # noqa: F401

    uvicorn.protocols.http.auto.AutoHTTPProtocol = BoundedHttpProtocol
