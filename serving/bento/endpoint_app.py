"""ASGI application of a server: answers everything but what only BentoML knows by itself.

BentoML packs, versions and starts the service. Its request path (OpenTelemetry's span for every
message, contexts, its router) costs more than the model does, so requests do not take it: it gets
the start and end of the process, and its own two documents.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket

from components.core.endpoint_settings import endpoint_api_key
from serving.api.answers.chat_socket import WATCH_REQUEST
from serving.api.api_router import check_reading, refuse_socket
from serving.api.auth import check_caller, check_framing
from serving.api.error_responses import ApiError, loading_error, stopping_error
from serving.bento.answer_timeout import AnswerTimeout
from serving.bento.background_start import BackgroundStart
from serving.bento.draining_server import DRAINED
from serving.bento.engine_metrics import EngineCollector
from serving.bento.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from serving.api.answers.loaded_model import LoadedModel
    from serving.bento.request_tracing import RequestTracing

ANSWER_SECONDS = 600
"""Longest that a whole answer may take to begin; a stream begins at once."""
API_PREFIX = "/v1"
BENTOML_DOCUMENTS = frozenset({"/docs.json", "/schema.json"})
LIVE = frozenset({"/livez", "/healthz"})
"""Open, as orchestrators ask them without a key; they say nothing but a status."""
_READ = LIVE | BENTOML_DOCUMENTS | {"/readyz", "/health", "/metrics"}
_ANSWERED_TO_THE_END = LIVE | {"/health", "/metrics"}
"""Paths that say how a server is which ends."""


class LoadedEndpoint:
    """The model and its routes; empty while the model is loaded."""

    def __init__(self) -> None:
        self.stopping = False
        """The server ends: what is answered goes on, and nothing else begins."""
        self.served: LoadedModel | None = None
        self.app: ASGIApp | None = None
        self.tracing: RequestTracing | None = None
        self.figures: EngineCollector | None = None

    def open(
        self, served: LoadedModel, app: ASGIApp, tracing: RequestTracing | None = None
    ) -> None:
        """Begin to answer.

        Args:
            served: the loaded model.
            app: its routes below ``/v1``.
            tracing: makes spans of its requests.
        """
        self.served, self.app, self.tracing = served, app, tracing
        self.figures = EngineCollector(served)

    @property
    def unfinished(self) -> int:
        """Answers that are being decoded, or wait for it."""
        return sum(self.served.engine.busy) if self.served is not None else 0

    def refuse_requests(self) -> None:
        """Begin nothing more."""
        self.stopping = True
        if self.served is not None:
            self.served.engine.stopping = True

    def end_answers(self) -> None:
        """End what is still answered, by an error that says so."""
        if self.served is not None:
            self.served.engine.end_answers()

    def close(self) -> None:
        """Send the last spans."""
        if self.tracing is not None:
            self.tracing.close()


class EndpointApp:
    """One server's application.

    BentoML's page at ``/`` loads scripts of a tracker; like all its addresses that are not named
    here it does not exist.

    Args:
        bentoml_app: BentoML's application of the service.
        endpoint: gets the model from the service's start.
    """

    def __init__(self, bentoml_app: ASGIApp, endpoint: LoadedEndpoint) -> None:
        self.bentoml_app, self.endpoint = bentoml_app, endpoint
        self.api_key = endpoint_api_key()
        self.start = BackgroundStart(bentoml_app, self._hand_limits)
        self.metrics = RequestMetrics(AnswerTimeout(self._answer, ANSWER_SECONDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"][DRAINED] = self.endpoint
            await self.start(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._watch_socket(scope, receive, send)
        elif scope["path"].startswith(f"{API_PREFIX}/"):
            await self._watch_request(self.metrics, scope, receive, send)
        else:
            await self.metrics(scope, receive, send)

    async def _watch_request(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run a request in a span, where there is tracing.

        Args:
            app: answers it.
            scope: the request's.
            receive: of the request.
            send: of the request.
        """
        tracing = self.endpoint.tracing
        if tracing is None:
            await app(scope, receive, send)
        else:
            await tracing.trace(app, scope, receive, send)

    async def _watch_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket; its requests are counted and traced as those over HTTP are."""

        async def watch_request(app: ASGIApp, request: Scope, receive: Receive, send: Send) -> None:
            await self._watch_request(
                partial(self.metrics.watch_request, app), request, receive, send
            )

        scope["extensions"] = {**scope.get("extensions", {}), WATCH_REQUEST: watch_request}
        app = partial(self.metrics.watch_socket, self._serve_socket)
        tracing = self.endpoint.tracing
        if tracing is None or not scope["path"].startswith(f"{API_PREFIX}/"):
            await app(scope, receive, send)
        else:
            await tracing.trace_handshake(app, scope, receive, send)

    def _hand_limits(self, state: dict[str, object]) -> None:
        """Give the connections the limits that the model came with."""
        if self.endpoint.served is not None:
            limits = self.endpoint.served.limits
            state |= {"send_seconds": limits.send_seconds, "body_bytes": limits.body_bytes}

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if self.endpoint.stopping and path not in _ANSWERED_TO_THE_END:
                raise stopping_error()
            if path.startswith(f"{API_PREFIX}/"):  # the routes below have their own guard
                app = self._loaded_app(scope)
            else:
                app = self._answer_beside(path, scope)
        except ApiError as refusal:
            app = refusal.response()
        await app(scope, receive, send)

    def _loaded_app(self, scope: Scope) -> ASGIApp:
        """The routes below ``/v1``.

        Raises:
            ApiError: 503 while the model is loaded.
        """
        if self.endpoint.app is None:
            raise loading_error()
        scope["root_path"] = API_PREFIX
        return self.endpoint.app

    def _answer_beside(self, path: str, scope: Scope) -> ASGIApp:
        """The answer to a path that is not below ``/v1``.

        Raises:
            ApiError: 404, 405, a caller without the key, 503.
        """
        if path in _READ:
            check_reading(scope)
        if path in LIVE:
            return PlainTextResponse("\n")
        if path == "/readyz":
            if self.endpoint.app is None:
                raise loading_error()
            return PlainTextResponse("\n")
        headers = Headers(scope=scope)
        check_framing(headers)
        if path == "/health":
            return self._describe_health(scope, headers)
        if path != "/metrics" and path not in BENTOML_DOCUMENTS:
            raise ApiError(404, "There is no page here. The endpoint is below /v1.")
        check_caller(scope, headers, self.api_key)
        if path == "/metrics":
            page, media_type = self.metrics.render(self.endpoint.figures)
            return Response(page, headers={"Content-Type": media_type})
        return self.bentoml_app

    def _describe_health(self, scope: Scope, headers: Headers) -> Response:
        """Status for everybody; model, version and the engine's state for who has the key."""
        served = self.endpoint.served
        ready = served is not None and not self.endpoint.stopping
        waiting_for = "stopping" if self.endpoint.stopping else "loading"
        state: dict[str, object] = {"status": "ok" if ready else waiting_for}
        try:
            check_caller(scope, headers, self.api_key)
        except ApiError:
            served_for_caller = None
        else:
            served_for_caller = served
        if served_for_caller is not None:
            engine = served_for_caller.engine
            rows, waiting = engine.busy
            state |= {
                "model": served_for_caller.model,
                "version": served_for_caller.version,
                "fingerprint": served_for_caller.fingerprint,
                "context_length": engine.context,
                "engine": {
                    "slots": served_for_caller.limits.slots,
                    "rows_in_use": rows,
                    "waiting": waiting,
                    "queue": served_for_caller.limits.queue,
                },
            }
        refused = {} if ready else {"Retry-After": "1"}
        return JSONResponse(state, 200 if ready else 503, refused)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self.endpoint.stopping:
                raise stopping_error()
            if not scope["path"].startswith(f"{API_PREFIX}/"):
                raise ApiError(404, "There is no page here. The endpoint is below /v1.")
            app = self._loaded_app(scope)
        except ApiError as refusal:
            await refuse_socket(WebSocket(scope, receive, send), refusal)
            return
        await app(scope, receive, send)
