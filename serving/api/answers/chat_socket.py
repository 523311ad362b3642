"""WebSocket twin of a streamed route: a text message asks, text messages answer, ``[DONE]`` last.

A message is the body that would be POSTed, ``stream`` implied; the answer's chunks come as the
events of the stream would. Errors are messages in OpenAI's shape, after which the next request may
come. Requests are answered one after another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from serving.api.answers.answer_feed import EventFeed
from serving.api.api_router import Handler, refuse_socket
from serving.api.disconnect import EventStream
from serving.api.error_responses import ApiError, describe_failure, queue_full_error
from serving.api.limits import EndpointLimits
from serving.api.request_body import parse_json_object
from serving.api.response_format import encode_json

WATCH_REQUEST = "modelmill.watch_request"
"""Extension of a WebSocket's scope: the ``RequestWatch`` that each of its requests runs in."""
RequestWatch = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""Runs the application of one request, as metrics and traces see the requests over HTTP."""
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
        """Answer a message as the POST of it, watched as requests over HTTP are."""
        unread = [text]

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": _add_stream(unread.pop(), self._limits)}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                for event in _split_events(message["body"]):
                    await self._socket.send({"type": "websocket.send", "text": event})

        scope = _post_scope(self._socket)
        watch: RequestWatch | None = scope.get("extensions", {}).get(WATCH_REQUEST)
        if watch is None:
            await self._write_answer(scope, receive, send)
        else:
            await watch(self._write_answer, scope, receive, send)

    async def _write_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._handler(Request(scope, receive))
            assert isinstance(response, EventStream)
        except Exception as error:
            failure = describe_failure(error)
            await send({"type": "http.response.start", "status": failure.status, "headers": []})
            body = encode_json(failure.body).encode()
            await send({"type": "http.response.body", "body": body})
            return
        self._stream = response
        await send({"type": "http.response.start", "status": 200, "headers": []})
        source = response.source
        feed = EventFeed(source)
        try:
            while not source.ended:
                events = await feed.read()
                if self._gone.is_set():
                    return
                await send({"type": "http.response.body", "body": events, "more_body": True})
        finally:
            feed.close()
            self._stream = None


def _post_scope(socket: WebSocket) -> dict[str, Any]:
    """The scope of the POST that a message stands for."""
    return {**socket.scope, "type": "http", "method": "POST"}


def _add_stream(text: str, limits: EndpointLimits) -> bytes:
    """The body that is POSTed for a message.

    Raises:
        ApiError: it is too large, or no JSON object.
    """
    body = text.encode("utf-8", "surrogatepass")
    if len(body) > limits.body_bytes:
        raise ApiError(
            413,
            f"The request is larger than {limits.body_bytes} bytes.",
            code="request_too_large",
        )
    return json.dumps({**parse_json_object(body), "stream": True}).encode()


def _split_events(chunk: bytes) -> list[str]:
    """Payloads of server-sent events, or the body of an error; JSON has no line end of its own."""
    return [event.removeprefix(b"data: ").decode() for event in chunk.split(b"\n\n") if event]
