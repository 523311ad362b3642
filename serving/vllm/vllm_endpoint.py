"""Endpoint in front of vLLM, in the foreground: ``python -m`` this, SPEC HOST PORT [--json].

SPEC is a ``VllmSpec`` as JSON. The endpoint listens at once and answers 503 until vLLM is ready. A
first start that fails ends it with one line; a server that dies later is started again. SIGTERM
lets answers in progress go on for a while (``drain_seconds``), as with a Bento's server.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket

from components.core import log
from components.core.endpoint_settings import drain_seconds, endpoint_api_key
from components.core.errors import MillError
from components.core.process import shutdown
from components.core.process.failure_line import report_failure
from serving.api.api_router import check_reading, refuse_socket
from serving.api.auth import RequestGuard, check_caller, check_framing
from serving.api.error_responses import ApiError, loading_error, stopping_error
from serving.bento.bounded_protocol import BoundedHttpProtocol
from serving.bento.draining_server import DRAINED, DrainingServer
from serving.bento.request_metrics import RequestMetrics
from serving.vllm.vllm_program import VllmSpec
from serving.vllm.vllm_proxy import VllmProxy
from serving.vllm.vllm_server import RestartPolicy, VllmServer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_JSON = "--json"
_API_PREFIX = "/v1"
_LIVE, _READY = frozenset({"/livez", "/healthz"}), frozenset({"/readyz", "/health"})
"""Open, as orchestrators ask them without a key; they say nothing but a status."""
_POLL_SECONDS = 0.1
"""Between two looks for a signal."""
_TERM_SECONDS = 15.0
"""From the end of the last answer to the forced exit: vLLM's processes end first, within 10 s."""


class _SignalFreeServer(DrainingServer):
    """Server without signal handlers of its own: ``shutdown`` has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class VllmEndpointApp:
    """ASGI application of an endpoint over vLLM: probes, figures, and the guarded routes.

    Args:
        server: its state is that of ``/readyz``.
        proxy: answers below ``/v1``.
        api_key: key that callers must send; None answers this machine alone.
    """

    def __init__(self, server: VllmServer, proxy: VllmProxy, api_key: str | None) -> None:
        self.server, self.proxy, self.api_key = server, proxy, api_key
        self.metrics = RequestMetrics(self._answer)
        self._guarded = RequestGuard(proxy.router, server.spec.limits, api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"][DRAINED] = self.proxy
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        elif scope["type"] == "websocket":
            await self.metrics.watch_socket(self._refuse_socket, scope, receive, send)
        else:
            await self.metrics(scope, receive, send)

    async def _refuse_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await refuse_socket(WebSocket(scope, receive, send), _no_page())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if self.proxy.stopping and path not in _LIVE | {"/metrics"}:
            await stopping_error().response()(scope, receive, send)
            return
        if path.startswith(f"{_API_PREFIX}/"):
            scope["root_path"] = _API_PREFIX
            await self._guarded(scope, receive, send)
            return
        try:
            answer = self._answer_beside(path, scope)
        except ApiError as refusal:
            answer = refusal.response()
        await answer(scope, receive, send)

    def _answer_beside(self, path: str, scope: Scope) -> Response:
        """The answer to a path that is not below ``/v1``.

        Raises:
            ApiError: 404, a caller without the key, 503.
        """
        if path in _LIVE | _READY | {"/metrics"}:
            check_reading(scope)
        if path in _READY and not self.server.ready:
            raise loading_error()
        if path in _LIVE | _READY:
            return PlainTextResponse("\n")
        headers = Headers(scope=scope)
        check_framing(headers)
        if path != "/metrics":
            raise _no_page()
        check_caller(scope, headers, self.api_key)
        page, media_type = self.metrics.render()
        return Response(page, headers={"Content-Type": media_type})


def _no_page() -> ApiError:
    return ApiError(404, "There is no page here. The endpoint is below /v1.")


async def serve_vllm(server: VllmServer, host: str, port: int) -> None:
    """Listen, and keep vLLM running, until it is given up or a signal comes.

    Args:
        server: started and watched here; not stopped.
        host: address to listen on.
        port: port to listen on.

    Raises:
        MillError: vLLM cannot start, or died too often.
    """
    proxy = VllmProxy(server)

    class LimitedProtocol(BoundedHttpProtocol):
        send_seconds = server.spec.limits.send_seconds

    config = uvicorn.Config(
        VllmEndpointApp(server, proxy, endpoint_api_key()),
        host=host,
        port=port,
        http=LimitedProtocol,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    listener = _SignalFreeServer(config)
    keeping = asyncio.create_task(server.keep_running())
    serving = asyncio.create_task(listener.serve())
    try:
        done: set[asyncio.Task[None]] = set()
        while not done and shutdown.requested_stop() is None:
            done, _ = await asyncio.wait(
                [keeping, serving], timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        for task in done:
            task.result()
    finally:
        keeping.cancel()  # vLLM goes on answering; one that dies now is not started again
        stop = shutdown.requested_stop()
        listener.handle_exit(signal.SIGINT if stop is None else stop.sign, None)
        await asyncio.gather(keeping, serving, return_exceptions=True)
        await proxy.close()


def run_vllm_endpoint(
    spec: VllmSpec, host: str, port: int, policy: RestartPolicy | None = None
) -> None:
    """Serve until vLLM is given up or a signal comes; nothing of vLLM is left.

    Args:
        spec: program, folder and limits.
        host: address to listen on.
        port: port to listen on.
        policy: bounds of waiting and starting again.

    Raises:
        MillError: vLLM cannot start, or died too often.
        Stopped: a signal came.
    """
    server = VllmServer(spec, policy)
    try:
        # An exception in the midst of the loop's own code could leave it waiting for ever.
        with shutdown.defer_signals():
            asyncio.run(serve_vllm(server, host, port))
    finally:
        server.stop()


def main() -> None:
    """Run the module as a program."""
    log.configure_logging()
    as_json = _JSON in sys.argv[4:]
    with shutdown.handle_signals(force=True, term_seconds=drain_seconds() + _TERM_SECONDS):
        try:
            spec = VllmSpec.model_validate_json(sys.argv[1])
            run_vllm_endpoint(spec, sys.argv[2], int(sys.argv[3]))
        except shutdown.Stopped as stop:
            report_failure("stopped", "Stopped", stop.exit_code, as_json=as_json)
            shutdown.exit_after_stop(stop.exit_code)
        except MillError as error:
            kind = type(error).__name__
            sys.exit(report_failure(str(error), kind, error.exit_code, as_json=as_json))


if __name__ == "__main__":
    main()
