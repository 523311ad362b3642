"""Reverse proxy on the endpoint's public port; hands each request to the present backend.

Bytes go through untouched in both directions, as they come. h11 only reads along: it says where a
request and its answer end. So a client's connection outlives the server that answered its last
request: the next request on it goes to whichever server is the present one, and no connection is
ever closed under a request. Each request has a connection of its own to the server, so that the
server never closes a kept one just as a request is sent on it.

A WebSocket is a tunnel once the server has agreed to it: it stays with its server to its end, which
a change of servers waits for as it waits for an answer.

What has no answer gets one here, in OpenAI's error shape: 503 with ``Retry-After`` while nothing
serves, or where a server ended before it said anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

import h11

from components.core.log import get_logger
from components.core.process.ports import LOOPBACK
from serving.gateway.websocket_tunnel import UPGRADE, asks_for_websocket, pour, run_tunnel

_CHUNK = 1 << 16
_HEAD_BYTES = 1 << 16
"""Longest request or answer head that h11 reads before it refuses."""
_HEAD_SECONDS = 20.0
"""From the first byte of a request to the end of its head, as a Bento's server has it."""
_IDLE_SECONDS = 75.0
"""For the next request on a connection to begin: nginx's keepalive_timeout."""
_CONNECT_SECONDS = 5.0
_LINGER_SECONDS = 2.0
"""A client that was answered early may still send this long: closing at once could reset it."""
_FLUSH_SECONDS = 60.0
_BACKLOG = 512
"""Connections that may wait to be accepted: a burst of callers, not asyncio's 100."""
log = get_logger(__name__)


@dataclass(eq=False)
class ProxyTarget:
    """A server on a loopback port."""

    port: int
    active: int = 0
    """Requests that are being answered by it."""


@dataclass(frozen=True)
class UnservedReason:
    """Reason why there is no server to hand a request to."""

    code: str
    message: str


STARTING = UnservedReason("starting", "The model is being started.")
_ENDED = UnservedReason("server_ended", "The model's server ended before it answered.")


class _ClientGone(Exception):
    """The client is gone, or sent half a request."""


class _ServerGone(Exception):
    """The server ended in the middle of an answer."""


class ReverseProxy:
    """One listening port; ``target`` and ``unserved`` may be set at any time."""

    def __init__(
        self, *, head_seconds: float = _HEAD_SECONDS, idle_seconds: float = _IDLE_SECONDS
    ) -> None:
        self.head_seconds, self.idle_seconds = head_seconds, idle_seconds
        self.target: ProxyTarget | None = None
        self.unserved = STARTING
        """Said while there is no target."""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen(self, port: int) -> int:
        """Begin to answer on a loopback port (0: a free one); returns it.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(
            self._accept, LOOPBACK, port, limit=_CHUNK, backlog=_BACKLOG
        )
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """Take no more connections and end those there are."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve_client(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            client = _Client(reader, writer)
            while await self._serve_request(client):
                continue
            await client.close_in_order()
        except (_ClientGone, _ServerGone, OSError) as gone:
            log.debug("a connection ended: %r", gone)
        finally:
            # A half answer must look like one: no orderly end after it.
            writer.transport.abort()

    async def _serve_request(self, client: _Client) -> bool:
        """Serve one request; True where another may follow on the connection."""
        try:
            if not await client.wait_for_request(self.idle_seconds):
                return False
            async with asyncio.timeout(self.head_seconds):
                head = await client.read_head()
        except TimeoutError:
            await client.send_error(408, "timeout", "The request's head took too long to arrive.")
            return False
        except h11.RemoteProtocolError as error:
            await client.send_error(error.error_status_hint, "invalid_request", str(error))
            return False
        target = self.target
        if target is None:
            await client.send_unserved(self.unserved)
            return False
        target.active += 1
        try:
            return await _forward(client, head, target)
        finally:
            target.active -= 1


async def _forward(client: _Client, head: bytes, target: ProxyTarget) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, target.port, limit=_CHUNK)
    except (OSError, TimeoutError):
        await client.send_unserved(_ENDED)
        return False
    try:
        return await _forward_both_ways(client, head, reader, writer)
    finally:
        writer.transport.abort()


async def _forward_both_ways(
    client: _Client, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Forward both directions at once: an answer may come before the request is whole."""
    sending = asyncio.create_task(_forward_request(client, head, writer))
    answering = asyncio.create_task(_forward_answer(client, reader))
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and isinstance(sending.exception(), _ClientGone):
            raise _ClientGone
        keep_alive = await answering
    finally:
        for task in (sending, answering):
            task.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)
    if client.switched:
        await run_tunnel(client.pour_into(writer), pour(reader, client.send))
        return False
    return keep_alive and client.reusable


async def _forward_request(client: _Client, head: bytes, writer: asyncio.StreamWriter) -> None:
    """Forward the request; then a disconnect, if there is one before the answer's end.

    Raises:
        _ClientGone: the client ended within its request.
    """
    try:
        writer.write(head)
        await writer.drain()
        async for chunk in client.read_body():
            writer.write(chunk)
            await writer.drain()
        if await client.wait_for_end():
            writer.write_eof()
    except OSError as error:  # the server takes no more: its answer says why, or is missing
        log.debug("a server took no more of a request: %r", error)


async def _forward_answer(client: _Client, reader: asyncio.StreamReader) -> bool:
    """Forward the answer; True where the server would have kept the connection.

    Raises:
        _ServerGone: it ended within its answer.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
    headers = [("host", "model"), *(UPGRADE if client.upgrades else ())]
    parser.send(h11.Request(method=client.method, target="/", headers=headers))
    parser.send(h11.EndOfMessage())
    answered = False
    while True:
        try:
            chunk = await reader.read(_CHUNK)
        except OSError:
            chunk = b""
        if not chunk and not answered:
            await client.send_unserved(_ENDED)
            return False
        answered = True
        try:
            parser.receive_data(chunk)
            ended = _read_to_end(parser)
        except h11.RemoteProtocolError as error:
            raise _ServerGone from error
        await client.send(chunk)
        if parser.their_state is h11.SWITCHED_PROTOCOL:
            client.switched = True
            return False
        if ended:
            return parser.their_state is h11.DONE


def _read_to_end(parser: h11.Connection) -> bool:
    """Read events along; True where the message ended."""
    while True:
        event = parser.next_event()
        if isinstance(event, h11.EndOfMessage):
            return True
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return False


class _Client:
    """A client's connection, request by request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = h11.Connection(h11.SERVER)
        self._read_ahead = b""
        """Bytes after the present request: a client may send the next one at once."""
        self.method = b"GET"
        self.request_ended = False
        """The present request has been read to its end."""
        self.upgrades = self.switched = False
        """The present request asks for a WebSocket, and the server has agreed."""

    @property
    def reusable(self) -> bool:
        """Another request may follow the present one."""
        return self.request_ended and self._parser.their_state is h11.DONE

    async def wait_for_request(self, seconds: float) -> bool:
        """Wait for the first bytes of a request; False where none came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait_for_end()
        return bool(self._read_ahead)

    async def read_head(self) -> bytes:
        """Bytes of the next request, its head at least.

        Raises:
            h11.RemoteProtocolError: that is no HTTP/1, or its body has two lengths (RFC 9112, 6.3).
            _ClientGone: it ended within the head.
        """
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self.request_ended = self.switched = False
        taken, chunk, self._read_ahead = b"", self._read_ahead, b""
        while True:
            if not chunk:
                chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise _ClientGone
            taken += chunk
            self._parser.receive_data(chunk)
            chunk = b""
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self.method = event.method
                self.upgrades = asks_for_websocket(event)
                return self._split_off_next(taken)

    def _split_off_next(self, taken: bytes) -> bytes:
        """``taken`` without what already belongs to the next request."""
        self.request_ended = _read_to_end(self._parser)
        if self.request_ended:
            self._read_ahead = self._parser.trailing_data[0]
        return taken[: len(taken) - len(self._read_ahead)]

    async def read_body(self) -> AsyncIterator[bytes]:
        """Further bytes of the present request, as they come.

        Raises:
            _ClientGone: it ended before.
        """
        while not self.request_ended:
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise _ClientGone
            try:
                self._parser.receive_data(chunk)
                own = self._split_off_next(chunk)
            except h11.RemoteProtocolError as error:
                raise _ClientGone from error
            yield own

    async def wait_for_end(self) -> bool:
        """Wait until the client sends more (False) or ends (True)."""
        if not self._read_ahead:
            self._read_ahead = await self._reader.read(_CHUNK)
        return not self._read_ahead

    async def pour_into(self, writer: asyncio.StreamWriter) -> None:
        """Forward all that the client sends, whatever it is, until it ends."""
        writer.write(self._read_ahead)
        self._read_ahead = b""
        while chunk := await self._reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()

    async def send(self, chunk: bytes) -> None:
        """Send bytes of an answer; waits while the client does not read.

        Raises:
            OSError: the client is gone.
        """
        self._writer.write(chunk)
        await self._writer.drain()

    async def send_unserved(self, why: UnservedReason) -> None:
        """Answer 503: it may go better soon."""
        await self.send_error(503, why.code, why.message)

    async def send_error(self, status: int, code: str, message: str) -> None:
        """Answer for the proxy itself, in OpenAI's shape."""
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        body = json.dumps({"error": error}).encode()
        again = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{again}"
            "Connection: close\r\n\r\n"
        )
        await self.send(head.encode() + (b"" if self.method == b"HEAD" else body))

    async def close_in_order(self) -> None:
        """End in order: what the client still sends is read, or it might lose the answer."""
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_CHUNK):
                    continue
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.close()
            async with asyncio.timeout(_FLUSH_SECONDS):  # a slow reader gets the rest
                await self._writer.wait_closed()
