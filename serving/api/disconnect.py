"""Cancellation of an answer, whole or streamed, when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.api.answers.answer_feed import EventFeed, EventSource

BODY_WRITER = "modelmill.body_writer"
"""Among a scope's extensions, of the server's protocol: the ``WriteThrough`` of its response, for
pieces of the body once the response has begun. Middleware sees the start and the end of such a
response, and not each token."""


class DisconnectWatch:
    """Calls ``cancel`` once the client disconnects, while inside its ``with`` block.

    The answer itself stays in the request's own task, which ``cancel`` has to wake: a task beside
    it would cost a switch for every token.
    """

    def __init__(self, receive: Receive, cancel: Callable[[], None]) -> None:
        self.disconnected = False
        self._receive, self._cancel = receive, cancel
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> DisconnectWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
            continue
        self.disconnected = True
        self._cancel()


class EventStream(Response):
    """Server-sent events of an answer, which is given up when it ends or the client disconnects.

    Args:
        source: gives the events.
    """

    media_type = "text/event-stream"

    def __init__(self, source: EventSource) -> None:
        self.status_code, self.background = 200, None
        self.source = source
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        feed = EventFeed(self.source, scope.get("extensions", {}).get(BODY_WRITER))
        try:
            with DisconnectWatch(receive, self.source.cancel) as client:
                await send(start)
                more = True
                while more:
                    body = await feed.read()
                    if client.disconnected:
                        return
                    more = not self.source.ended
                    await send({"type": "http.response.body", "body": body, "more_body": more})
        finally:
            feed.close()
