"""Guard of everything beside ``/v1``: probes are open, figures need the caller's key, no pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import Response

from components.core.settings import endpoint_api_key
from serving.api.auth import check_caller, check_framing
from serving.api.error_responses import ApiError
from serving.bento.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PROBES = frozenset({"/livez", "/healthz", "/readyz"})
"""Open, as orchestrators ask them without a key; they say nothing but a status."""
KEYED = frozenset({"/metrics", "/docs.json", "/schema.json"})


class ServiceGuard:
    """ASGI middleware in front of BentoML's own routes.

    BentoML's page at ``/`` loads scripts of a tracker; like all its addresses that are not named
    here it does not exist.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.api_key = app, endpoint_api_key()
        self.metrics = RequestMetrics(self._guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.metrics(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if path in PROBES or path.startswith("/v1/"):  # the routes below /v1 have their own guard
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            check_framing(headers)
            if path not in KEYED:
                raise ApiError(404, "There is no page here. The endpoint is below /v1.")
            check_caller(scope, headers, self.api_key)
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        if path == "/metrics":
            page, media_type = self.metrics.render()
            await Response(page, headers={"Content-Type": media_type})(scope, receive, send)
            return
        await self.app(scope, receive, send)
