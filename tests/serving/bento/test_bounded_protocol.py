"""Clients that send half of something, or frame it twice: the connection ends, on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
import uvicorn.protocols.http.auto
from fastapi import FastAPI

import serving.bento.service  # noqa: F401  (it installs the protocol)
from serving.api.openai_endpoint import LoadedModel, create_app
from serving.bento.bounded_protocol import BoundedHttpProtocol

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


class HastyProtocol(BoundedHttpProtocol):
    """With little patience."""

    head_seconds = 0.4


@pytest.fixture
def port(make_served: Callable[..., LoadedModel]) -> Iterator[int]:
    outer = FastAPI()
    outer.mount("/v1", create_app(make_served(body_seconds=0.4), None))
    config = uvicorn.Config(
        outer, http=HastyProtocol, log_level="error", lifespan="off", timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.force_exit = server.should_exit = True
            thread.join(10)


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
