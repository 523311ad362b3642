"""Stands on the endpoint's public port and hands each request to the server of the moment.

Bytes go through untouched in both directions, as they come. h11 only reads along: it says where a
request and its answer end. So a client's connection outlives the server that answered its last
request: the next request on it goes to whichever server is the present one, and no connection is
ever closed under a request. Each request has a connection of its own to the server, so that the
server never closes a kept one just as a request is sent on it.

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

_CHUNK = 1 << 16
_HEAD_BYTES = 1 << 16
_CONNECT_SECONDS = 5.0
_LINGER_SECONDS = 2.0
_FLUSH_SECONDS = 60.0
_BACKLOG = 512
log = get_logger(__name__)


@dataclass(eq=False)
class Target:
    """A server on a loopback port."""

    port: int
    active: int = 0
    """Requests that are being answered by it."""


@dataclass(frozen=True)
class Unserved:
    """Why there is nothing to hand a request to."""

    code: str
    message: str


STARTING = Unserved("starting", "The model is being started.")
_ENDED = Unserved("server_ended", "The model's server ended before it answered.")


class _Hungup(Exception):
    """The client is gone, or sent half a request."""


class _Cut(Exception):
    """The server ended in the middle of an answer."""


class Front:
    """One listening port; ``target`` and ``unserved`` may be set at any time."""

    def __init__(self) -> None:
        self.target: Target | None = None
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
        task = asyncio.create_task(self._converse(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            client = _Client(reader, writer)
            while await self._exchange(client):
                continue
            await client.finish()
        except (_Hungup, _Cut, OSError) as gone:
            log.debug("a connection ended: %r", gone)
        finally:
            # A half answer must look like one: no orderly end after it.
            writer.transport.abort()

    async def _exchange(self, client: _Client) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            head = await client.request()
        except h11.RemoteProtocolError as error:
            await client.refuse(error.error_status_hint, "invalid_request", str(error))
            return False
        if head is None:
            return False
        target = self.target
        if target is None:
            await client.unserved(self.unserved)
            return False
        target.active += 1
        try:
            return await _hand_on(client, head, target)
        finally:
            target.active -= 1


async def _hand_on(client: _Client, head: bytes, target: Target) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, target.port, limit=_CHUNK)
    except (OSError, TimeoutError):
        await client.unserved(_ENDED)
        return False
    try:
        return await _relay(client, head, reader, writer)
    finally:
        writer.transport.abort()


async def _relay(
    client: _Client, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Both directions at once: an answer may come before the request is whole."""
    sending = asyncio.create_task(_send_on(client, head, writer))
    answering = asyncio.create_task(_answer(client, reader))
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and isinstance(sending.exception(), _Hungup):
            raise _Hungup
        kept = await answering
    finally:
        for task in (sending, answering):
            task.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)
    return kept and client.reusable


async def _send_on(client: _Client, head: bytes, writer: asyncio.StreamWriter) -> None:
    """The request; then a hang-up, if there is one before the answer's end.

    Raises:
        _Hungup: the client ended within its request.
    """
    try:
        writer.write(head)
        await writer.drain()
        async for chunk in client.rest():
            writer.write(chunk)
            await writer.drain()
        if await client.ends():
            writer.write_eof()
    except OSError as error:  # the server takes no more: its answer says why, or is missing
        log.debug("a server took no more of a request: %r", error)


async def _answer(client: _Client, reader: asyncio.StreamReader) -> bool:
    """Whether the server would have kept the connection, so that the client may.

    Raises:
        _Cut: it ended within its answer.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
    parser.send(h11.Request(method=client.method, target="/", headers=[("host", "model")]))
    parser.send(h11.EndOfMessage())
    said = False
    while True:
        try:
            chunk = await reader.read(_CHUNK)
        except OSError:
            chunk = b""
        if not chunk and not said:
            await client.unserved(_ENDED)
            return False
        said = True
        try:
            parser.receive_data(chunk)
            ended = _ends(parser)
        except h11.RemoteProtocolError as error:
            raise _Cut from error
        await client.give(chunk)
        if ended:
            return parser.their_state is h11.DONE


def _ends(parser: h11.Connection) -> bool:
    """Read along; whether the message ended."""
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
        self._left = b""
        """What came after the present request: a client may send the next one at once."""
        self.method = b"GET"
        self.whole = False
        """The present request has been read to its end."""

    @property
    def reusable(self) -> bool:
        """Another request may follow the present one."""
        return self.whole and self._parser.their_state is h11.DONE

    async def request(self) -> bytes | None:
        """What has come of the next request, its head at least; None where there is none.

        Raises:
            h11.RemoteProtocolError: that is no HTTP/1.
            _Hungup: it ended within the head.
        """
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self.whole = False
        taken, chunk, self._left = b"", self._left, b""
        while True:
            if not chunk:
                chunk = await self._reader.read(_CHUNK)
            if not chunk:
                if taken:
                    raise _Hungup
                return None
            taken += chunk
            self._parser.receive_data(chunk)
            chunk = b""
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self.method = event.method
                return self._own(taken)

    def _own(self, taken: bytes) -> bytes:
        """``taken`` without what already belongs to the next request."""
        self.whole = _ends(self._parser)
        if self.whole:
            self._left = self._parser.trailing_data[0]
        return taken[: len(taken) - len(self._left)]

    async def rest(self) -> AsyncIterator[bytes]:
        """The present request's further bytes, as they come.

        Raises:
            _Hungup: it ended before.
        """
        while not self.whole:
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise _Hungup
            try:
                self._parser.receive_data(chunk)
                own = self._own(chunk)
            except h11.RemoteProtocolError as error:
                raise _Hungup from error
            yield own

    async def ends(self) -> bool:
        """Whether the client sends no more; returns once it does or ends."""
        if not self._left:
            self._left = await self._reader.read(_CHUNK)
        return not self._left

    async def give(self, chunk: bytes) -> None:
        """Bytes of an answer; waits while the client does not read.

        Raises:
            OSError: the client is gone.
        """
        self._writer.write(chunk)
        await self._writer.drain()

    async def unserved(self, why: Unserved) -> None:
        """503: it may go better soon."""
        await self.refuse(503, why.code, why.message)

    async def refuse(self, status: int, code: str, message: str) -> None:
        """An answer of the front itself, in OpenAI's shape."""
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        body = json.dumps({"error": error}).encode()
        again = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{again}"
            "Connection: close\r\n\r\n"
        )
        await self.give(head.encode() + (b"" if self.method == b"HEAD" else body))

    async def finish(self) -> None:
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
