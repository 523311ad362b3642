"""WebSocket twin of a streamed route: a text message asks, text messages answer, ``[DONE]`` last.

A message is the body that would be POSTed, ``stream`` implied; the answer's chunks come as the
events of the stream would. Errors are messages in OpenAI's shape, after which the next request may
come. Requests are answered one after another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from serving.api.answers.answer_feed import EventFeed
from serving.api.api_router import Handler, refuse_socket
from serving.api.disconnect import EventStream
from serving.api.error_responses import ApiError, describe_failure, queue_full_error
from serving.api.limits import EndpointLimits
from serving.api.request_body import parse_json_object
from serving.api.response_format import encode_json

_GOING_AWAY, _UNSUPPORTED = 1001, 1003
"""Codes of RFC 6455, 7.4.1: nobody asks any more; a message that is no text."""


class StreamSockets:
    """WebSockets of one route.

    Args:
        handler: answers the route's POST.
        limits: the endpoint's; as many sockets are open as requests may run and wait.
    """

    def __init__(self, handler: Handler, limits: EndpointLimits) -> None:
        self.handler, self.limits = handler, limits
        self.open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until it ends or is idle for too long."""
        if self.open >= self.limits.slots + self.limits.queue:
            await refuse_socket(socket, queue_full_error())
            return
        self.open += 1
        try:
            await socket.accept()
            with suppress(WebSocketDisconnect):
                await _SocketSession(socket, self.handler, self.limits).run()
        finally:
            self.open -= 1


class _SocketSession:
    """One connection; a task of its own reads it, so that its end is noticed within an answer."""

    def __init__(self, socket: WebSocket, handler: Handler, limits: EndpointLimits) -> None:
        self._socket, self._handler, self._limits = socket, handler, limits
        self._messages: asyncio.Queue[Message] = asyncio.Queue(1)
        """Further requests wait in the connection: it is not read meanwhile."""
        self._stream: EventStream | None = None
        self._gone = asyncio.Event()

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            while (message := await self._next_message()) is not None:
                if message.get("text") is None:
                    await self._socket.close(_UNSUPPORTED, "a request is a text message")
                    return
                await self._answer(message["text"])
        finally:
            reading.cancel()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self._gone.set()
                if self._stream is not None:
                    self._stream.source.cancel()
            await self._messages.put(message)
            if self._gone.is_set():
                return

    async def _next_message(self) -> Message | None:
        """The next request; None where there is none any more."""
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await self._messages.get()
        except TimeoutError:
            await self._socket.close(_GOING_AWAY, "no request came in time")
            return None
        return None if message["type"] == "websocket.disconnect" else message

    async def _answer(self, text: str) -> None:
        try:
            self._stream = await self._open_stream(text)
        except Exception as error:
            await self._send(encode_json(describe_failure(error).body))
            return
        source = self._stream.source
        feed = EventFeed(source)
        try:
            while not source.ended:
                for event in _split_events(await feed.read()):
                    if self._gone.is_set():
                        return
                    await self._send(event)
        finally:
            feed.close()
            self._stream = None

    async def _open_stream(self, text: str) -> EventStream:
        """The answer's stream, as the POST of the message would begin it.

        Raises:
            ApiError: the request is refused.
        """
        body = text.encode("utf-8", "surrogatepass")
        if len(body) > self._limits.body_bytes:
            raise ApiError(
                413,
                f"The request is larger than {self._limits.body_bytes} bytes.",
                code="request_too_large",
            )
        asked = json.dumps({**parse_json_object(body), "stream": True}).encode()

        messages: list[Message] = [{"type": "http.request", "body": asked, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await self._gone.wait()
            return {"type": "http.disconnect"}

        response = await self._handler(Request(_post_scope(self._socket), receive))
        assert isinstance(response, EventStream)
        return response

    async def _send(self, text: str) -> None:
        await self._socket.send({"type": "websocket.send", "text": text})


def _post_scope(socket: WebSocket) -> dict[str, object]:
    """The scope of the POST that a message stands for."""
    return {**socket.scope, "type": "http", "method": "POST"}


def _split_events(events: bytes) -> Iterator[str]:
    """Payloads of server-sent events; JSON has no line end of its own."""
    for event in events.split(b"\n\n"):
        if event:
            yield event.removeprefix(b"data: ").decode()
