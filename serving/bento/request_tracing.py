"""OpenTelemetry spans of requests: one a request, with children for queue, prefill and decoding.

Spans are made of times that the engine notes anyway, once an answer has ended, so nothing is paid
for a token. Without the address of a receiver in the settings nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from components.core.endpoint_settings import TRACE_RECEIVER_VARIABLE, trace_receiver
from components.core.errors import ConfigError
from serving.bento.request_metrics import ACCEPTED, find_protocol, find_route
from serving.engine.generation import Generation, collect_generations

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def open_tracing(model: str, version: str) -> RequestTracing | None:
    """Tracing to the receiver that the settings name; None where they name none.

    Args:
        model: served model's name.
        version: of the model.

    Raises:
        ConfigError: the receiver's address makes no sense, or the extra is not installed.
    """
    address = trace_receiver()
    if address is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError(
            f"{TRACE_RECEIVER_VARIABLE} is set, but OpenTelemetry's exporter is not installed: "
            "install the extra `tracing`, or unset the variable"
        ) from None
    exporter = OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces")
    return RequestTracing(exporter, {"service.version": version, "gen_ai.request.model": model})


class RequestTracing:
    """Spans of the requests below ``/v1``; takes over a caller's ``traceparent`` (W3C).

    Args:
        exporter: sends spans, from a thread of its own.
        attributes: of the resource, beside its name.
    """

    def __init__(self, exporter: SpanExporter, attributes: dict[str, str]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "modelmill", **attributes})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("modelmill")

    async def trace(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a request in a span, over HTTP or in a WebSocket.

        Args:
            app: answers it.
            scope: the request's.
            receive: of the request.
            send: of the request.
        """
        span, status = self._start_span(scope, scope["method"]), 499

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with collect_generations() as generations:
                await app(scope, receive, watch)
        finally:
            for generation in generations:
                self._add_phases(span, generation)
            _end_span(span, status)

    async def trace_handshake(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a WebSocket whose handshake is a span; requests in it have their own.

        Args:
            app: serves it.
            scope: the handshake's.
            receive: of the connection.
            send: of the connection.
        """
        span = self._start_span(scope, "GET")

        async def watch(message: Message) -> None:
            if message["type"] == "websocket.accept":
                _end_span(span, ACCEPTED)
            elif message["type"] == "websocket.http.response.start":
                _end_span(span, message["status"])
            await send(message)

        try:
            await app(scope, receive, watch)
        finally:
            if span.is_recording():
                _end_span(span, 499)

    def _start_span(self, scope: Scope, method: str) -> Span:
        """Begin the span of a request, below the caller's where it names one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        parent = TraceContextTextMapPropagator().extract(headers)
        route = find_route(scope["path"])
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "network.protocol.name": find_protocol(scope),
        }
        return self._tracer.start_span(
            f"{method} {route}", context=parent, kind=SpanKind.SERVER, attributes=attributes
        )

    def _add_phases(self, span: Span, generation: Generation) -> None:
        """The children of one answer, of the phases that it reached."""
        from opentelemetry.trace import set_span_in_context

        now = time.monotonic()
        epoch = time.time_ns() - int(now * 1e9)
        if not generation.arrived:
            return  # it asked nothing, so the engine never saw it
        begins = [generation.arrived, generation.admitted, generation.first_token]
        ends = [*begins[1:], now]
        counts: list[dict[str, int]] = [
            {},
            {"gen_ai.usage.input_tokens": len(generation.prompt)},
            {"gen_ai.usage.output_tokens": len(generation.tokens)},
        ]
        context = set_span_in_context(span)
        phases = zip(("queue", "prefill", "decode"), begins, ends, counts, strict=True)
        for name, begin, end, attributes in phases:
            if begin is None:
                return
            child = self._tracer.start_span(
                name, context, attributes=attributes, start_time=epoch + int(begin * 1e9)
            )
            child.end(epoch + int((now if end is None else end) * 1e9))

    def close(self) -> None:
        """Send what is left, and end the thread."""
        self._provider.shutdown()


def _end_span(span: Span, status: int) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()
