"""The WebSocket twin of chat on a real socket: answers, errors, guard, bounds."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import serving.bento.service  # noqa: F401  (it installs the protocols)
from serving.api.answers.loaded_model import LoadedModel
from serving.api.openai_endpoint import create_app
from serving.bento.endpoint_app import EndpointApp, LoadedEndpoint
from tests.serving.server_thread import serve_in_thread

MakeServed = Callable[..., LoadedModel]
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "What does json.dumps do?"}]}


@contextmanager
def serving_endpoint(served: LoadedModel, key: str | None = None) -> Iterator[int]:
    """The server's whole application but BentoML's on a port of its own."""

    async def bentoml_app(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    endpoint = LoadedEndpoint()
    endpoint.open(served, create_app(served, key))
    config = uvicorn.Config(EndpointApp(bentoml_app, endpoint), log_level="error")
    with serve_in_thread(config) as port:
        yield port


def connecting(port: int, **options: Any) -> ClientConnection:
    return connect(f"ws://localhost:{port}/v1/chat/completions", proxy=None, **options)


def read_answer(client: ClientConnection) -> list[Any]:
    chunks = []
    while (message := client.recv(timeout=20)) != "[DONE]":
        chunks.append(json.loads(message))
    return chunks


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_requests_one_after_another_get_what_a_post_gets(make_served: MakeServed) -> None:
    asked = {**ASK, "temperature": 0, "max_tokens": 12}
    with serving_endpoint(make_served()) as port:
        whole = httpx.post(f"http://localhost:{port}/v1/chat/completions", json=asked).json()
        with connecting(port) as client:
            for _ in range(3):
                client.send(json.dumps(asked))
            for _ in range(3):
                chunks = read_answer(client)
                assert text_of(chunks) == whole["choices"][0]["message"]["content"]
                last = chunks[-1]["choices"][0]["finish_reason"]
                assert last == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("no JSON", "invalid_json"),
        ("[]", "invalid_type"),
        (json.dumps({**ASK, "model": "gpt"}), "model_not_found"),
        (json.dumps({**ASK, "temperature": -1}), "decimal_below_min_value"),
        (json.dumps({**ASK, "made_up": 1}), "unknown_parameter"),
    ],
)
def test_an_error_is_a_message_and_the_next_request_is_answered(
    make_served: MakeServed, sent: str, code: str
) -> None:
    with serving_endpoint(make_served()) as port, connecting(port) as client:
        client.send(sent)
        error = json.loads(client.recv(timeout=20))["error"]
        assert error["type"] == "invalid_request_error"
        assert error["code"] == code
        client.send(json.dumps({**ASK, "max_tokens": 3}))
        assert read_answer(client)


@pytest.mark.parametrize(
    ("headers", "key", "status"),
    [
        ({}, None, 101),
        ({"Origin": "http://localhost:8000"}, None, 101),
        ({"Origin": "https://evil.example"}, None, 403),
        ({"Origin": "null"}, None, 403),
        ({"Origin": "http://localhost.evil.example"}, None, 403),
        ({"Host": "evil.example"}, None, 403),
        ({}, "s3cret", 401),
        ({"Authorization": "Bearer wrong"}, "s3cret", 401),
        ({"Authorization": "Bearer s3cret"}, "s3cret", 101),
    ],
)
def test_the_guard_is_that_of_the_routes(
    make_served: MakeServed, headers: dict[str, str], key: str | None, status: int
) -> None:
    with serving_endpoint(make_served(), key) as port:
        handshake = {"Host": "localhost", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in handshake.items())
        request = (
            f"GET /v1/chat/completions HTTP/1.1\r\n{lines}Connection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(request.encode())
            assert client.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


def test_there_is_no_socket_elsewhere(
    make_served: MakeServed, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_endpoint(make_served()) as port:
        # uvicorn sets its loggers up anew at each start, so the handler comes after it.
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)
        for path in ("/v1/models", "/v1/nothing", "/"):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://localhost:{port}{path}", proxy=None)
            assert refused.value.response.status_code == 404
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert not caplog.messages  # a refusal is no fault of the server


def test_bounds_of_messages_idle_time_and_connections(make_served: MakeServed) -> None:
    served = make_served(body_bytes=2000, idle_seconds=0.5, slots=1, queue=0)
    with serving_endpoint(served) as port:
        with connecting(port) as client:
            with pytest.raises(InvalidStatus) as refused:
                connecting(port)
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "1"
            client.send("x" * 3000)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        with connecting(port) as client, pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        with connecting(port) as client:
            client.send(b"bytes")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


def test_hanging_up_frees_the_slot(make_served: MakeServed) -> None:
    served = make_served(context=100_000, slots=1)
    with serving_endpoint(served) as port:
        client = connecting(port)
        client.send(json.dumps({**ASK, "max_tokens": 90_000, "ignore_eos": True}))
        client.recv(timeout=20)
        assert sum(served.engine.busy) == 1
        client.socket.close()
        ends = time.monotonic() + 20
        while sum(served.engine.busy) and time.monotonic() < ends:
            time.sleep(0.02)
        assert served.engine.busy == (0, 0)
        assert served.engine.counts.completion_tokens < 90_000


def read_metrics(port: int) -> dict[str, float]:
    """Values of the page of metrics, by their whole names."""
    page = httpx.get(f"http://localhost:{port}/metrics").text
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_sockets_and_their_requests_are_counted(
    make_served: MakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    route = 'endpoint="/v1/chat/completions"'
    total, seconds = "bentoml_service_request_total", "bentoml_service_request_duration_seconds"
    is_open = f"modelmill_websockets_open{{{route}}}"
    with serving_endpoint(make_served(slots=1, queue=1)) as port:
        with connecting(port) as client, connecting(port):
            with pytest.raises(InvalidStatus):
                connecting(port)
            for asked in (ASK, ASK, {**ASK, "temperature": -1}):
                client.send(json.dumps({**asked, "max_tokens": 3}))
            read_answer(client)
            read_answer(client)
            assert "error" in json.loads(client.recv(timeout=20))
            assert read_metrics(port)[is_open] == 2
        with pytest.raises(InvalidStatus):
            connect(f"ws://localhost:{port}/v1/nothing-1", proxy=None)
        httpx.post(f"http://localhost:{port}/v1/chat/completions", json={**ASK, "max_tokens": 3})
        ends = time.monotonic() + 20
        while (figures := read_metrics(port))[is_open] and time.monotonic() < ends:
            time.sleep(0.02)
    assert figures[is_open] == 0
    counted = {name: value for name, value in figures.items() if name.startswith(f"{total}{{")}
    assert counted == {
        f'{total}{{{route},http_response_code="200",protocol="websocket"}}': 2,
        f'{total}{{{route},http_response_code="400",protocol="websocket"}}': 1,
        f'{total}{{{route},http_response_code="429",protocol="websocket"}}': 1,
        f'{total}{{{route},http_response_code="200",protocol="http"}}': 1,
        f'{total}{{endpoint="other",http_response_code="404",protocol="websocket"}}': 1,
    }
    timed = f'{seconds}_count{{{route},http_response_code="200",protocol="websocket"}}'
    assert figures[timed] == 2
