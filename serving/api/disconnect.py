"""Cancellation of an answer, whole or streamed, when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


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
    """Server-sent events; the source is closed when it ends or the client disconnects.

    Args:
        events: whole events, as many at once as there are.
        cancel: called when the client disconnects; makes ``events`` end.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], cancel: Callable[[], None]) -> None:
        self.status_code, self.background = 200, None
        self.events, self.cancel = events, cancel
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.events):
            with DisconnectWatch(receive, self.cancel) as client:
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": self.raw_headers,
                    }
                )
                async for body in self.events:
                    if client.disconnected:
                        return
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
