"""HTTP/1.1 protocol of uvicorn whose clients have a bounded time for everything they send.

uvicorn times a connection that is idle after an answer, and nothing else: one that never sends its
first request, half a head, or the body of a request that was answered without it stays for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
import uvicorn.protocols.http.auto
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""From a connection, or the first byte of a further request, to the end of its head: Apache's
default, as nginx's 60 s let three times as many half heads stand."""
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedHttpProtocol(H11Protocol):
    """One client's connection, closed where a head or an unread body takes too long."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._has_sent = False
        """Some bytes of the request that is waited for have come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._bound_wait()

    def data_received(self, data: bytes) -> None:
        self._has_sent = True
        super().data_received(data)
        self._bound_wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A part of the next head may have come already; an idle connection uvicorn times itself.
        self._has_sent = bool(self.conn.trailing_data[0])
        if self._has_sent or self.conn.their_state is not h11.IDLE:
            self._bound_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _bound_wait(self) -> None:
        """Begin to count where the client owes something that nobody else waits for."""
        ours, theirs = self.conn.our_state, self.conn.their_state
        if ours not in (h11.IDLE, h11.DONE) or theirs not in (h11.IDLE, h11.SEND_BODY):
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        if self._has_sent and self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self.transport.write(_TIMED_OUT)
        self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def install_protocol() -> None:
    """Have uvicorn serve by this protocol where its configuration names none, as BentoML's does."""
    uvicorn.protocols.http.auto.AutoHTTPProtocol = BoundedHttpProtocol
