"""Clients that send half of something, or frame it twice: the connection ends, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
import uvicorn.protocols.http.auto
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

import serving.bento.service  # noqa: F401  (it installs the protocol)
from serving.api.answers.loaded_model import LoadedModel
from serving.api.openai_endpoint import create_app
from serving.bento.bounded_protocol import BoundedHttpProtocol
from tests.serving.server_thread import serve_in_thread

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


class HastyProtocol(BoundedHttpProtocol):
    """With little patience."""

    head_seconds = 0.4
    send_seconds = 0.4


@pytest.fixture
def port(make_served: Callable[..., LoadedModel]) -> Iterator[int]:
    outer = FastAPI()
    outer.mount("/v1", create_app(make_served(body_seconds=0.4), None))
    with serving_app(outer) as listens:
        yield listens


@contextmanager
def serving_app(app: ASGIApp) -> Iterator[int]:
    """An application behind the protocol, on the loop that serves; yields its port."""
    config = uvicorn.Config(
        app,
        http=HastyProtocol,
        loop="uvloop",
        log_level="error",
        lifespan="off",
        timeout_keep_alive=60,
    )
    with serve_in_thread(config, waits=False) as listens:
        yield listens


def read_to_end(port: int, *pieces: bytes) -> bytes:
    """All that the server says before it closes the connection itself."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        for piece in pieces:
            client.sendall(piece)
        said = b""
        while chunk := client.recv(65536):
            said += chunk
        return said


def trickle(port: int, begun: bytes) -> bytes:
    """The same of a client that goes on with a byte now and then."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as client:
        client.sendall(begun)
        said = b""
        for _ in range(100):
            try:
                chunk = client.recv(65536)
            except TimeoutError:
                client.sendall(b"a")
                continue
            except ConnectionResetError:
                return said
            if not chunk:
                return said
            said += chunk
        raise AssertionError("the connection stays open")


def test_a_connection_that_says_nothing_ends(port: int) -> None:
    assert read_to_end(port) == b""


def test_half_a_head_is_408_and_the_end(port: int) -> None:
    assert read_to_end(port, HEAD).startswith(b"HTTP/1.1 408 ")
    assert trickle(port, HEAD + b"X-A: ").startswith(b"HTTP/1.1 408 ")


def test_half_a_head_after_an_answer_ends_too(port: int) -> None:
    whole = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = read_to_end(port, whole, HEAD)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in said


def test_half_a_body_is_408_and_the_end(port: int) -> None:
    said = read_to_end(port, HEAD + b"Content-Length: 50\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in said.lower()


def test_a_body_that_nobody_reads_ends(port: int) -> None:
    lost = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    assert trickle(port, lost).startswith(b"HTTP/1.1 404 ")


def test_a_body_of_two_lengths_is_refused_and_what_follows_is_no_request(port: int) -> None:
    """RFC 9112, 6.1: what a proxy takes for the body would be read as a request of its own."""
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    framed = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
    said = read_to_end(port, framed)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in said.lower()
    assert said.count(b"HTTP/1.1 ") == 1


def test_requests_one_after_another_are_answered(port: int) -> None:
    """Pauses within a head and between requests, each shorter than the patience."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        for _ in range(4):
            client.sendall(b"GET /v1/models HTTP/1.1\r\n")
            time.sleep(0.15)
            client.sendall(b"Host: localhost\r\n\r\n")
            said = b""
            while not said.endswith(b"}]}"):
                said += client.recv(65536)
            assert said.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.15)


def test_bentoml_serves_by_it() -> None:
    config = uvicorn.Config(FastAPI())
    config.load()
    assert config.http_protocol_class is BoundedHttpProtocol
    assert uvicorn.protocols.http.auto.AutoHTTPProtocol is BoundedHttpProtocol


POST = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
AMBIGUOUS = {
    "obs-fold": POST + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "obs-fold of a length": POST + b"Content-Length:\r\n 0\r\n\r\n",
    "bare LF after the request line": b"POST / HTTP/1.1\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "bare LF after a field": POST + b"X-A: a\nContent-Length: 0\r\n\r\n",
    "bare LF at the end of the head": POST + b"X-A: a\r\n\nContent-Length: 0\r\n\r\n",
    "bare CR": POST + b"X-A: a\rb\r\n\r\n",
    "NUL in a value": POST + b"X-A: a\x00b\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 0\r\n\r\n",
    "space before the first field": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no name": POST + b": a\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
    "a length with a sign": POST + b"Content-Length: +1\r\n\r\nx",
    "a length of 24 digits": POST + b"Content-Length: 999999999999999999999999\r\n\r\nx",
    "an empty length": POST + b"Content-Length:\r\n\r\nx",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length after chunked": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "length among trailers": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nGET /",
    "bare LF after a chunk's size": CHUNKED + b"1\nx\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"1\r\nx\n0\r\n\r\n",
    "bare LF in a chunk's extension": CHUNKED + b"1;a\nb\r\nx\r\n0\r\n\r\n",
    "a size with 0x": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "a size beyond 64 bits": CHUNKED + b"10000000000000001\r\nx\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2.0": b"GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a WebSocket with a body": b"GET /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}


@pytest.mark.parametrize("framed", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_readers_could_see_differently_is_refused(port: int, framed: bytes) -> None:
    """RFC 9112, 11.2 and 2.2; what follows is no request."""
    said = read_to_end(port, framed + b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in said.lower()
    assert said.count(b"HTTP/1.1 ") == 1
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "begun",
    [POST + b"X-A: " + b"a" * 600_000, POST + b"X: a\r\n" * 90_000, b"GET /" + b"a" * 600_000],
)
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_without_end_is_refused(port: int, begun: bytes, end: bytes) -> None:
    pieces = [begun[at : at + 30_000] for at in range(0, len(begun), 30_000)]
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        said, reset = b"", False
        try:
            for piece in [*pieces, end]:
                client.sendall(piece)
                time.sleep(0.01)
            while chunk := client.recv(65536):
                said += chunk
        except ConnectionError:  # it was closed while this was still sent
            reset = True
    assert said.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")) or (reset and not said)


def test_an_answer_that_has_begun_ends_before_what_is_refused(port: int) -> None:
    whole = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = read_to_end(port, whole + b"no request at all\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"}]}")
    assert b"connection: close" in said.lower()


def test_line_ends_between_requests_do_not_keep_a_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while not said.endswith(b"}]}"):
            said += client.recv(65536)
        client.sendall(b"\r\n")
        assert client.recv(65536) == b""


class PouringApp:
    """Sends without end; notes how much, and that the client is gone."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue
            gone.set()

        watching = asyncio.create_task(watch())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.sent += 65536
        await watching
        self.ended.set()


@pytest.mark.parametrize("reads", [0, 1])
def test_a_client_that_does_not_read_is_cut_off(reads: int) -> None:
    """Nothing piles up meanwhile but what the sockets hold; the answer is given up."""
    app = PouringApp()
    with serving_app(app) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(300):
            if app.ended.wait(0.05):
                break
            if reads:
                client.recv(reads)
        assert app.ended.is_set()
    assert app.sent < 50 << 20


def test_a_client_that_reads_is_not_cut_off() -> None:
    app = PouringApp()
    with serving_app(app) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert client.recv(1 << 20)
        assert not app.ended.is_set()


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
ASKED = b'{"model":"tiny","prompt":"x","max_tokens":2}'
IGNORED = {
    "without a body": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n",
    "with a body": HEAD + H2C + b"Content-Length: %d\r\n\r\n%s" % (len(ASKED), ASKED),
    "in chunks": HEAD
    + H2C
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ASKED), ASKED),
    "to a protocol nobody knows": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: upgrade\r\nUpgrade: gopher/7\r\n\r\n",
}


@pytest.mark.parametrize("piece", [1, 40, 10_000])
@pytest.mark.parametrize("asked", IGNORED.values(), ids=IGNORED)
def test_an_upgrade_that_is_not_served_is_ignored(port: int, asked: bytes, piece: int) -> None:
    """RFC 9110, 7.8: answered in HTTP/1.1, and the requests behind it too."""
    last = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    whole = asked + asked + last
    said = read_to_end(port, *(whole[at : at + piece] for at in range(0, len(whole), piece)))
    assert said.count(b"HTTP/1.1 200 ") == said.count(b"HTTP/1.1 ") == 3
    assert said.endswith(b"}]}")


def test_http_1_0_opens_no_websocket(port: int) -> None:
    said = read_to_end(
        port,
        b"GET /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nConnection: upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        b"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    assert said.startswith(b"HTTP/1.1 405 ")
