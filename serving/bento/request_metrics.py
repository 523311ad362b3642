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
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 180, 600)
"""Seconds, from a refusal to BentoML's longest answer."""


def find_route(path: str) -> str:
    """The route's template that answers a path, or ``other``."""
    if path in FIXED_ROUTES:
        return path
    return MODEL_ROUTE if _MODEL.fullmatch(path) else OTHER


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
            ["endpoint", "http_response_code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "bentoml_service_request_duration_seconds",
            "Seconds from a request to the end of its answer",
            ["endpoint", "http_response_code"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "bentoml_service_request_in_progress",
            "Requests that are being answered",
            ["endpoint"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        route, began, status = find_route(scope["path"]), time.monotonic(), 499

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._in_progress.labels(route).track_inprogress():
            try:
                await self.app(scope, receive, watch)
            finally:
                self._total.labels(route, status).inc()
                self._seconds.labels(route, status).observe(time.monotonic() - began)

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
