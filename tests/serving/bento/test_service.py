"""The root of the endpoint is answered here: BentoML's page there would load a tracker."""

from __future__ import annotations

import asyncio
from typing import Any

from serving.bento.service import NoLandingPage, OpenAIService


def answer(path: str) -> tuple[int | str, bytes]:
    """(status, body) of one request; the application behind says its own name."""
    sent: list[dict[str, Any]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "behind"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    asyncio.run(NoLandingPage(behind)(scope, receive, send))
    if sent[0]["type"] == "behind":
        return "behind", b""
    return sent[0]["status"], sent[1]["body"]


def test_the_root_is_no_page() -> None:
    status, body = answer("/")
    assert status == 404
    assert b"/v1" in body
    assert b"<script" not in body


def test_everything_else_goes_through() -> None:
    assert answer("/v1/models") == ("behind", b"")
    assert answer("/readyz") == ("behind", b"")


def test_the_service_has_it() -> None:
    assert any(NoLandingPage in entry for entry in map(tuple, OpenAIService.middlewares))
