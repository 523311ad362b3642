"""Time limit for an answer to begin, in place of BentoML's, which keeps every request in memory.

BentoML's ``TimeoutMiddleware`` (1.4.39) starts a timer for each request and never cancels it. The
timer holds the request's context, and with it OpenTelemetry's span, until it rings: some 5 kB a
request for ten minutes, probes included, so that memory grows with the rate of requests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bentoml._internal.server.http import traffic

from serving.api.error_responses import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AnswerTimeout:
    """ASGI middleware that answers 504 where an answer has not begun in time."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self.app, self.timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.timeout(self.timeout)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self.app(scope, receive, watch)
        except TimeoutError:
            if not deadline.expired():
                raise
            late = ApiError(
                504,
                f"No answer began within {self.timeout:g} s.",
                code="timeout",
                kind="server_error",
            )
            await late.response()(scope, receive, send)


def install_answer_timeout() -> None:
    """Have BentoML, which knows no setting for it, build its applications with this limit."""
    traffic.TimeoutMiddleware = AnswerTimeout  # type: ignore[misc, assignment]
