"""Tunnel of a WebSocket through the reverse proxy: its handshake, then bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import h11

UPGRADE = [("connection", "upgrade"), ("upgrade", "websocket")]
_CHUNK = 1 << 16
Pouring = Coroutine[None, None, None]


def asks_for_websocket(request: h11.Request) -> bool:
    """True for a WebSocket's handshake.

    Raises:
        h11.RemoteProtocolError: the body has two lengths, or a handshake has a body: what follows
            it would be the request for one reader and the other protocol for the next.
    """
    fields = [(name, value.lower()) for name, value in request.headers]
    lengths = {name for name, _ in fields} & {b"transfer-encoding", b"content-length"}
    if len(lengths) > 1:
        raise h11.RemoteProtocolError("a request has Content-Length or Transfer-Encoding, not both")
    upgrades = (b"upgrade", b"websocket") in fields
    if upgrades and lengths:
        raise h11.RemoteProtocolError("a WebSocket's handshake has no body")
    return upgrades


async def pour(reader: asyncio.StreamReader, send: Callable[[bytes], Pouring]) -> None:
    """Forward bytes as they come, until their end."""
    while chunk := await reader.read(_CHUNK):
        await send(chunk)


async def run_tunnel(upward: Pouring, downward: Pouring) -> None:
    """Forward both ways until either side ends."""
    tasks = {asyncio.create_task(upward), asyncio.create_task(downward)}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
