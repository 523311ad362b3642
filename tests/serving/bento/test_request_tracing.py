"""Spans of requests, as a receiver of the test's own gets them over the wire."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketDenialResponse

from components.core.endpoint_settings import TRACE_RECEIVER_VARIABLE
from components.core.errors import ConfigError
from serving.api.answers.loaded_model import LoadedModel
from serving.api.openai_endpoint import create_app
from serving.bento.endpoint_app import EndpointApp, LoadedEndpoint
from serving.bento.request_tracing import open_tracing

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
pytest.importorskip(EXPORTER, reason="the extra `tracing` is not installed")
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class SpanReceiver(HTTPServer):
    """Loopback receiver of OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        super().__init__(("127.0.0.1", 0), SpanHandler)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class SpanHandler(BaseHTTPRequestHandler):
    server: SpanReceiver

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanReceiver]:
    server = SpanReceiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(TRACE_RECEIVER_VARIABLE, f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_its_phases(
    receiver: SpanReceiver, make_served: Callable[..., LoadedModel], stream: bool
) -> None:
    served, endpoint = make_served(), LoadedEndpoint()
    endpoint.open(served, create_app(served, None), open_tracing("tiny", "7"))
    caller = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with TestClient(
        EndpointApp(Starlette(), endpoint), base_url="http://localhost", client=("127.0.0.1", 1)
    ) as client:
        body = {"model": "tiny", "prompt": "abc", "max_tokens": 5, "ignore_eos": True}
        asked = {**body, "stream": stream}
        assert client.post("/v1/completions", json=asked, headers=caller).status_code == 200
        assert client.post("/v1/completions", json={**body, "n": -1}).status_code == 400
        assert client.get("/livez").status_code == 200
    endpoint.close()
    spans = {span.name: span for span in receiver.spans if span.trace_id.hex() == TRACE}
    assert spans.keys() == {"POST /v1/completions", "queue", "prefill", "decode"}
    request = spans.pop("POST /v1/completions")
    assert request.parent_span_id.hex() == CALLER
    times = [request.start_time_unix_nano]
    for name in ("queue", "prefill", "decode"):
        assert spans[name].parent_span_id == request.span_id
        times += [spans[name].start_time_unix_nano, spans[name].end_time_unix_nano]
    assert sorted(times) == times
    assert times[-1] <= request.end_time_unix_nano
    assert attributes_of(request)["http.response.status_code"] == 200
    assert attributes_of(spans["decode"])["gen_ai.usage.output_tokens"] == 5
    (other,) = [span for span in receiver.spans if span.trace_id.hex() != TRACE]
    assert attributes_of(other)["http.response.status_code"] == 400
    resource = receiver.requests[0].resource_spans[0].resource
    assert attributes_of(resource)["service.version"] == "7"


def test_requests_in_a_socket_are_spans_as_those_over_http(
    receiver: SpanReceiver, make_served: Callable[..., LoadedModel]
) -> None:
    served, endpoint = make_served(), LoadedEndpoint()
    endpoint.open(served, create_app(served, None), open_tracing("tiny", "7"))
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 5}
    path, caller = "/v1/chat/completions", {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with TestClient(
        EndpointApp(Starlette(), endpoint), base_url="http://localhost", client=("127.0.0.1", 1)
    ) as client:
        with client.websocket_connect(f"ws://localhost{path}", headers=caller) as socket:
            socket.send_json({**asked, "ignore_eos": True})
            while socket.receive_text() != "[DONE]":
                pass
            socket.send_json({**asked, "model": "gpt"})
            assert socket.receive_json()["error"]["code"] == "model_not_found"
        with pytest.raises(WebSocketDenialResponse):
            client.websocket_connect("ws://localhost/v1/nothing", headers=caller).__enter__()
    endpoint.close()
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    served_spans = [span for span in receiver.spans if span.parent_span_id.hex() == CALLER]
    assert sorted(
        (span.name, attributes_of(span)["http.response.status_code"]) for span in served_spans
    ) == [("GET /v1/chat/completions", 101), ("GET other", 404), (f"POST {path}", 200),
          (f"POST {path}", 404)]  # fmt: skip
    assert {attributes_of(span)["network.protocol.name"] for span in served_spans} == {"websocket"}
    (answered,) = [s for s in served_spans if attributes_of(s)["http.response.status_code"] == 200]
    children = {s.name: s for s in receiver.spans if s.parent_span_id == answered.span_id}
    assert children.keys() == {"queue", "prefill", "decode"}
    assert attributes_of(children["decode"])["gen_ai.usage.output_tokens"] == 5


def attributes_of(thing: Any) -> dict[str, Any]:
    return {
        entry.key: getattr(entry.value, entry.value.WhichOneof("value"))
        for entry in thing.attributes
    }


def test_without_a_receiver_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACE_RECEIVER_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, EXPORTER, None)  # an import of it fails from here on
    assert open_tracing("tiny", "1") is None


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACE_RECEIVER_VARIABLE, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(ConfigError, match=r"is set, .* install the extra `tracing`") as told:
        open_tracing("tiny", "1")
    assert "\n" not in str(told.value)
    monkeypatch.setenv(TRACE_RECEIVER_VARIABLE, "localhost:4318")
    with pytest.raises(ConfigError, match="not an address"):
        open_tracing("tiny", "1")
