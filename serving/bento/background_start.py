"""Start of BentoML's application beside the server, which answers 503 until it is done.

uvicorn accepts no connection before an application says that it has started: whoever asks while a
model is loaded would wait without a word.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SERVER_LOG = "uvicorn.error"


class BackgroundStart:
    """ASGI lifespan that is complete at once; a start that fails ends the process.

    Args:
        app: has the start and end that take long.
        on_started: called with the state that uvicorn hands to every connection.
    """

    def __init__(self, app: ASGIApp, on_started: Callable[[dict[str, object]], None]) -> None:
        self.app, self._on_started = app, on_started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        messages.put_nowait(await receive())
        starting = asyncio.create_task(self._run(dict(scope), messages))
        await send({"type": "lifespan.startup.complete"})
        messages.put_nowait(await receive())
        await starting
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, scope: Scope, messages: asyncio.Queue[Message]) -> None:
        failed = ""

        async def hear(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.complete":
                self._on_started(scope.get("state", {}))
            if message["type"] == "lifespan.startup.failed":
                failed = message.get("message", "") or "no reason was given"

        try:
            await self.app(scope, messages.get, hear)
        except Exception as error:
            failed = failed or repr(error)
        if failed:
            # In uvicorn's words, by which a supervisor tells a worker that cannot start.
            log = logging.getLogger(_SERVER_LOG)
            log.error(failed)
            log.error("Application startup failed. Exiting.")
            signal.raise_signal(signal.SIGTERM)
