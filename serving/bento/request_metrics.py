"""Prometheus metrics of requests, by route: unknown addresses are one label.

BentoML's own label every path as it was called, so that whoever calls made-up addresses fills
memory and a page of ``/metrics`` that grows for ever. These have its names and its places.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from components.core.endpoint_settings import shares_metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serving.bento.engine_metrics import EngineCollector

MODEL_ROUTE = "/v1/models/{model}"
FIXED_ROUTES = frozenset(
    {
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/openapi.json",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/tokenize",
        "/v1/detokenize",
        "/docs.json",
        "/schema.json",
        "/health",
        "/livez",
        "/healthz",
        "/readyz",
    }
)
OTHER = "other"
"""Label of every address that is no route."""
_MODEL = re.compile(r"/v1/models/.+")
_LABELS = ("endpoint", "protocol", "http_response_code")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 180, 600)
"""Seconds, from a refusal to BentoML's longest answer."""


ACCEPTED = 101
"""Status of the handshake of a WebSocket that opens."""


def find_route(path: str) -> str:
    """The route's template that answers a path, or ``other``."""
    if path in FIXED_ROUTES:
        return path
    return MODEL_ROUTE if _MODEL.fullmatch(path) else OTHER


def find_protocol(scope: Scope) -> str:
    """``websocket`` for a WebSocket's handshake and the requests in it, else ``http``."""
    return "websocket" if scope.get("scheme") in ("ws", "wss") else "http"


def _read_labels(scope: Scope) -> tuple[str, str]:
    return find_route(scope["path"]), find_protocol(scope)


class RequestMetrics:
    """ASGI middleware that counts and times requests; ``render`` is the page of ``/metrics``.

    prometheus_client is imported here and not above: it looks for its folder of files when it is
    imported, and BentoML names that to its worker later than it imports services.
    """

    def __init__(self, app: ASGIApp) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.app = app
        self._registry = CollectorRegistry()
        registry = self._registry
        self._total = Counter(
            "bentoml_service_request",
            "Requests that were answered",
            _LABELS,
            registry=registry,
        )
        self._seconds = Histogram(
            "bentoml_service_request_duration_seconds",
            "Seconds from a request to the end of its answer",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "bentoml_service_request_in_progress",
            "Requests that are being answered",
            _LABELS[:2],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._open_sockets = Gauge(
            "modelmill_websockets_open",
            "WebSockets that are open",
            ["endpoint"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
        else:
            await self.watch_request(self.app, scope, receive, send)

    async def watch_request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time a request, over HTTP or in a WebSocket.

        Args:
            app: answers it.
            scope: the request's.
            receive: of the request.
            send: of the request.
        """
        labels, began, status = _read_labels(scope), time.monotonic(), 499

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._in_progress.labels(*labels).track_inprogress():
            try:
                await app(scope, receive, watch)
            finally:
                self._count(labels, status, began)

    async def watch_socket(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a WebSocket while it is open; one that is refused counts as a request.

        Args:
            app: serves it.
            scope: the handshake's.
            receive: of the connection.
            send: of the connection.
        """
        labels, began, status = _read_labels(scope), time.monotonic(), 499
        open_sockets = self._open_sockets.labels(labels[0])

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.http.response.start":
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = ACCEPTED
                open_sockets.inc()
            await send(message)

        try:
            await app(scope, receive, watch)
        finally:
            if status == ACCEPTED:
                open_sockets.dec()
            else:
                self._count(labels, status, began)

    def _count(self, labels: tuple[str, str], status: int, began: float) -> None:
        self._total.labels(*labels, status).inc()
        self._seconds.labels(*labels, status).observe(time.monotonic() - began)

    def render(self, engine: EngineCollector | None = None) -> tuple[bytes, str]:
        """(page, its media type), of all workers where they share a folder.

        Args:
            engine: figures of the engine, once there is one.
        """
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if shares_metrics():
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        page = generate_latest(registry)
        if engine is not None:
            registry = CollectorRegistry()
            registry.register(engine)
            page += generate_latest(registry)
        return page, CONTENT_TYPE_LATEST
