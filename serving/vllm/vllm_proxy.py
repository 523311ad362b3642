"""Requests handed to a vLLM server and its answers handed back, in OpenAI's shape.

What vLLM understands beyond OpenAI's fields goes through untouched. Checked here is what would be
an error whoever serves: the body is a JSON object of Unicode text and names the served model, and
not more requests than may wait. vLLM's errors get this endpoint's shape. A client that leaves
closes the connection to vLLM, which then ends the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.api.api_router import ApiRouter
from serving.api.disconnect import DisconnectWatch
from serving.api.error_responses import (
    ApiError,
    loading_error,
    model_failed_error,
    queue_full_error,
    stopping_error,
)
from serving.api.request_body import invalid_type, parse_json_object
from serving.vllm.vllm_server import VllmServer

GENERATION_ROUTES = ("/chat/completions", "/completions", "/responses")
"""Handed to vLLM. Its other addresses (loading of adapters, sleeping, profiling) are nobody's."""
_ANSWER_SECONDS = 600.0
"""Longest silence of vLLM: before an answer, or between two pieces of one."""
_EVENT_END = b"\n\n"
T = TypeVar("T")


class VllmProxy:
    """Routes below ``/v1`` over a vLLM server; ``router`` is their ASGI application."""

    def __init__(self, server: VllmServer) -> None:
        self.server = server
        self.active = 0
        """Requests that vLLM is answering or has waiting."""
        self.stopping = False
        """The server ends: what is answered goes on, and nothing else begins."""
        self._deadlines: set[asyncio.Timeout] = set()
        """Of what waits for vLLM; none has one until the server cuts them."""
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=5.0)
        bounds = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(trust_env=False, timeout=timeout, limits=bounds)
        self.router = ApiRouter()
        self.router.get("/models")(self._list_models)
        self.router.get("/models/{name}")(self._describe_model)
        for path in GENERATION_ROUTES:
            self.router.post(path)(self._generate)

    async def close(self) -> None:
        """Close the connections to vLLM."""
        await self._client.aclose()

    @property
    def unfinished(self) -> int:
        """Answers that are not with their clients yet."""
        return self.active

    def refuse_requests(self) -> None:
        """Begin nothing more."""
        self.stopping = True

    def end_answers(self) -> None:
        """End what is still answered, by an error that says so."""
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    @asynccontextmanager
    async def await_vllm(self) -> AsyncIterator[None]:
        """Block that waits for vLLM, until ``end_answers``.

        Raises:
            ApiError: 503: the server ends.
        """
        deadline = asyncio.timeout(None)
        self._deadlines.add(deadline)
        try:
            async with deadline:
                yield
        except TimeoutError:
            if deadline.expired():
                raise stopping_error() from None
            raise
        finally:
            self._deadlines.discard(deadline)

    async def _list_models(self, _: Request) -> dict[str, Any]:
        return {"object": "list", "data": [self._card(name) for name in self._names]}

    async def _describe_model(self, request: Request) -> dict[str, Any]:
        name = request.path_params["name"]
        self._check_model(name)
        return self._card(name)

    @property
    def _names(self) -> list[str]:
        """The model and its adapters."""
        return [self.server.spec.model, *self.server.spec.adapters]

    def _card(self, name: str) -> dict[str, Any]:
        spec = self.server.spec
        return {
            "id": name,
            "object": "model",
            "created": spec.created,
            "owned_by": "modelmill",
            "context_length": spec.context,
            "parent": None if name == spec.model else spec.model,
        }

    def _check_model(self, name: str) -> None:
        if name not in self._names:
            names = ", ".join(f"'{known}'" for known in self._names)
            raise ApiError(
                404,
                f"The model '{name}' does not exist; this endpoint serves {names}.",
                code="model_not_found",
                param="model",
            )

    async def _generate(self, request: Request) -> Response:
        body = await request.body()
        fields = parse_json_object(body)
        if "model" not in fields:
            raise ApiError(
                400,
                "Missing required parameter: 'model'.",
                param="model",
                code="missing_required_parameter",
            )
        if not isinstance(fields["model"], str):
            raise invalid_type("model", "a string", fields["model"])
        self._check_model(fields["model"])
        if self.stopping:
            raise stopping_error()
        if not self.server.ready:
            raise loading_error()
        limits = self.server.spec.limits
        if self.active >= limits.slots + limits.queue:
            raise queue_full_error()
        self.active += 1
        try:
            async with self.await_vllm():
                answer = await self._ask(request, body)
        except BaseException:
            self.active -= 1
            raise
        if answer is None:
            self.active -= 1
            return Response(status_code=499)
        return RelayedAnswer(answer, self)

    async def _ask(self, request: Request, body: bytes) -> httpx.Response | None:
        """vLLM's answer, its head read; None where the client left before.

        Raises:
            ApiError: vLLM refused, failed or is gone.
        """
        headers = {
            "Authorization": f"Bearer {self.server.key}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        asked = self._client.build_request(
            "POST", self.server.address + request.scope["path"], content=body, headers=headers
        )
        try:
            sending = self._client.send(asked, stream=True)
            answer = await _until_disconnect(request.receive, sending)
            if answer is not None and answer.status_code >= 400:
                async with aclosing(answer):
                    raise translate_error(answer.status_code, await answer.aread())
        except httpx.TimeoutException:
            raise ApiError(
                504, "No answer began in time.", code="timeout", kind="server_error"
            ) from None
        except httpx.TransportError:
            raise loading_error() from None
        return answer


class RelayedAnswer(Response):
    """An answer of vLLM on its way to the client: whole, or event by event."""

    def __init__(self, answer: httpx.Response, proxy: VllmProxy) -> None:
        self.answer, self.proxy = answer, proxy
        self.status_code, self.background = 200, None
        self.streams = answer.headers.get("content-type", "").startswith("text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        relay = self._send_events(send) if self.streams else self._send_whole(scope, receive, send)
        try:
            async with aclosing(self.answer):
                await _until_disconnect(receive, relay)
        finally:
            self.proxy.active -= 1

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self.proxy.await_vllm():
                body = await self.answer.aread()
        except httpx.HTTPError:
            await model_failed_error().response()(scope, receive, send)
            return
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _send_events(self, send: Send) -> None:
        """Whole events alone, so that one which breaks off is not taken for an answer."""
        self.init_headers(
            {
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        failure: ApiError | None = None
        try:
            async with self.proxy.await_vllm():
                async for events in _whole_events(self.answer):
                    await send({"type": "http.response.body", "body": events, "more_body": True})
        except httpx.HTTPError:
            failure = model_failed_error()
        except ApiError as cut:
            failure = cut
        if failure is not None:
            body = f"data: {json.dumps(failure.body)}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Result of ``work``; None, and ``work`` is cancelled, if the client disconnects before."""
    task = asyncio.create_task(work)
    with DisconnectWatch(receive, lambda: _cancel(task)) as client:
        try:
            return await task
        except asyncio.CancelledError:
            if not client.disconnected:
                raise
            return None


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def _whole_events(answer: httpx.Response) -> AsyncIterator[bytes]:
    pending = b""
    async for chunk in answer.aiter_raw():
        pending += chunk
        events, end, pending = pending.rpartition(_EVENT_END)
        if end:
            yield events + end
    if pending:
        yield pending


def translate_error(status: int, body: bytes) -> ApiError:
    """An error of vLLM in this endpoint's shape; what is not the caller's fault is not told.

    Args:
        status: HTTP status.
        body: ``{"error": {"message", "type", "param", "code"}}``, or the same without ``error``.
    """
    if status in (429, 503):
        return queue_full_error() if status == 429 else loading_error()
    if status >= 500 or status in (401, 403):  # its key is ours, so a wrong one is our fault
        return model_failed_error()
    try:
        content = json.loads(body)
        error = content.get("error", content)
        message, param, code = str(error["message"]), error.get("param"), error.get("code")
    except (ValueError, AttributeError, KeyError, TypeError):
        message, param, code = "The request was refused.", None, None
    if "maximum context length" in message:
        code = "context_length_exceeded"
    return ApiError(
        status,
        message,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else "invalid_value",
    )
