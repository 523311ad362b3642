"""An answer that does not begin is 504; a request leaves nothing in memory."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.bento.answer_timeout import AnswerTimeout
from serving.bento.endpoint_app import ANSWER_SECONDS
from serving.bento.service import OpenAIService

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/livez", "headers": []}


class Span:
    """A request's record, which its context holds."""


async def ask(app: Callable[..., Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(SCOPE, receive, send)
    return sent


async def begin_late(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(20)


async def end_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(0.3)
    await send({"type": "http.response.body", "body": b"whole"})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise TimeoutError("its own")


def test_an_answer_that_does_not_begin_is_504() -> None:
    start, body = asyncio.run(ask(AnswerTimeout(begin_late, 0.05)))
    assert start["status"] == 504
    assert b'"type":"server_error"' in body["body"]


def test_an_answer_that_has_begun_has_its_time() -> None:
    sent = asyncio.run(ask(AnswerTimeout(end_late, 0.1)))
    assert [message.get("body") for message in sent] == [None, b"whole"]


def test_a_timeout_of_the_application_is_its_own() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(ask(AnswerTimeout(fail, 20)))


def test_requests_leave_nothing_in_memory() -> None:
    """Through BentoML's whole application; asyncio keeps a hundred cancelled timers or so."""
    current: ContextVar[Span] = ContextVar("current")
    spans: weakref.WeakSet[Span] = weakref.WeakSet()
    app = OpenAIService.to_asgi()
    scope = {
        **SCOPE, "asgi": {"version": "3.0"}, "http_version": "1.1", "raw_path": b"/livez",
        "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "scheme": "http",
        "server": ("127.0.0.1", 2), "state": {},
    }  # fmt: skip

    async def once() -> None:
        span = Span()
        spans.add(span)
        current.set(span)
        sent = await ask(lambda _, receive, send: app(dict(scope), receive, send))
        assert sent[0]["status"] == 200

    async def check() -> int:
        for _ in range(1000):
            await asyncio.create_task(once())
        gc.collect()
        return len(spans)

    assert asyncio.run(check()) < 300


def test_bentoml_builds_its_application_with_it() -> None:
    limits = [
        m for m in OpenAIService.to_asgi().bentoml_app.user_middleware if m.cls is AnswerTimeout
    ]
    assert [limit.kwargs for limit in limits] == [{"timeout": ANSWER_SECONDS}]
