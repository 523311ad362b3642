"""Answers to clients that know no chunks, and to those that have said all they will say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Response that every client of HTTP/1.1 passes over (RFC 9110, 15.2.1). One that has closed its
connection answers it by a reset."""


def frame_by_close(cycle: RequestResponseCycle) -> None:
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
