"""Endpoint in front of vLLM, in the foreground: ``python -m`` this, SPEC HOST PORT [--json].

SPEC is a ``VllmSpec`` as JSON. The endpoint listens at once and answers 503 until vLLM is ready. A
first start that fails ends it with one line; a server that dies later is started again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.responses import Response

from components.core import log
from components.core.errors import MillError
from components.core.process import shutdown
from components.core.process.failure_line import report_failure
from components.core.settings import endpoint_api_key
from serving.api.auth import RequestGuard
from serving.api.error_responses import ApiError
from serving.bento.bounded_protocol import BoundedHttpProtocol
from serving.bento.service_guard import PROBES, ServiceGuard
from serving.vllm.vllm_program import VllmSpec
from serving.vllm.vllm_proxy import VllmProxy
from serving.vllm.vllm_server import RestartPolicy, VllmServer, starting_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_JSON = "--json"


class _SignalFreeServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: ``shutdown`` has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def create_vllm_app(server: VllmServer, proxy: VllmProxy, api_key: str | None) -> ASGIApp:
    """The routes of an endpoint over vLLM, behind guard and metrics.

    Args:
        server: its state is that of ``/readyz``.
        proxy: answers below ``/v1``.
        api_key: key that callers must send; None answers this machine alone.
    """
    guarded = RequestGuard(proxy, server.spec.limits, api_key)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path: str = scope["path"]
        answer: Response | None = None
        if path in PROBES:
            waits = path == "/readyz" and not server.ready
            answer = starting_error().response() if waits else Response()
        elif not path.startswith("/v1/"):
            missing = "There is no page here. The endpoint is below /v1."
            answer = ApiError(404, missing).response()
        if answer is None:
            await guarded(scope, receive, send)
        else:
            await answer(scope, receive, send)

    return ServiceGuard(route)


async def serve_vllm(server: VllmServer, host: str, port: int) -> None:
    """Listen, and keep vLLM running, until it is given up.

    Args:
        server: started and watched here; not stopped.
        host: address to listen on.
        port: port to listen on.

    Raises:
        MillError: vLLM cannot start, or died too often.
    """
    proxy = VllmProxy(server)
    config = uvicorn.Config(
        create_vllm_app(server, proxy, endpoint_api_key()),
        host=host,
        port=port,
        http=BoundedHttpProtocol,
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
    )
    tasks = [
        asyncio.create_task(server.keep_running()),
        asyncio.create_task(_SignalFreeServer(config).serve()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
        asyncio.run(serve_vllm(server, host, port))
    finally:
        server.stop()


def main() -> None:
    """Run the module as a program."""
    log.configure_logging()
    as_json = _JSON in sys.argv[4:]
    with shutdown.handle_signals(force=True):
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
