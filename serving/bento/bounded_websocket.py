"""WebSocket protocol of uvicorn with the endpoint's bounds on messages and on slow readers."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.protocols.websockets.auto
import websockets  # noqa: F401  (uvicorn needs it for the protocol: a Bento pins what is imported)
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from serving.bento.bounded_protocol import SEND_SECONDS

MESSAGE_BYTES = 1 << 20
"""Longest message, where the endpoint's limits say nothing yet."""


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One client's WebSocket; closed by code 1009 over a message that is too long."""

    send_seconds = SEND_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn.max_message_size = int(self.app_state.get("body_bytes", MESSAGE_BYTES))
        self._send_deadline: asyncio.TimerHandle | None = None

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # uvicorn takes a refused handshake for one that was never answered, and logs an error.
            self.handshake_complete = True

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_deadline is None:
            seconds = float(self.app_state.get("send_seconds", self.send_seconds))
            self._send_deadline = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel_send_deadline()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_send_deadline()
        super().connection_lost(exc)

    def _cancel_send_deadline(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None


def install_websocket_protocol() -> None:
    """Have uvicorn serve WebSockets by this protocol where its configuration names none."""
    uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol = BoundedWebSocketProtocol
