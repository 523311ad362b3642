"""Answers to HTTP/1.0, and to clients that close their side first, on real sockets."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from starlette.types import Receive, Scope, Send

from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel
from serving.api.openai_endpoint import create_app
from serving.engine.sampling import Logits
from tests.serving.bento.test_bounded_protocol import serving_app
from tests.serving.memory_batch import MemoryBatch


class SlowBatch(MemoryBatch):
    """Takes its time for a token."""

    def step(self, tokens: Sequence[int]) -> Logits:
        time.sleep(0.01)
        return super().step(tokens)


@pytest.fixture
def served(make_served: Callable[..., LoadedModel], tokenizer: ChatTokenizer) -> LoadedModel:
    return make_served(batch=lambda slots: SlowBatch(tokenizer.vocabulary, slots))


@pytest.fixture
def port(served: LoadedModel) -> Iterator[int]:
    app = create_app(served, None)

    async def below_prefix(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/v1"}, receive, send)

    with serving_app(below_prefix) as listens:
        yield listens


def request(version: str, *, stream: bool, tokens: int = 20) -> bytes:
    fields = {"model": "tiny", "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
    body = json.dumps({**fields, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/{version}\r\nHost: localhost\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_to_end(client: socket.socket) -> bytes:
    said = b""
    while chunk := client.recv(65536):
        said += chunk
    return said


@pytest.mark.parametrize("stream", [True, False])
def test_http_1_0_gets_no_chunks(port: int, stream: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(request("1.0", stream=stream))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    if stream:
        assert body.startswith(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n")
        assert len(body.split(b"\n\n")) > 10
    else:
        assert json.loads(body)["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_closes_its_side_gets_its_answer(
    port: int,
    version: str,
    stream: bool,
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(request(version, stream=stream))
        client.shutdown(socket.SHUT_WR)
        said = read_to_end(client)
    assert said.count(b"HTTP/1.1 200 ") == 1
    assert b"[DONE]" in said if stream else b'"completion_tokens":20' in said


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_a_client_that_is_gone_is_noticed(
    port: int,
    served: LoadedModel,
    stream: bool,
    resets: bool,
) -> None:
    client = socket.create_connection(("127.0.0.1", port), timeout=15)
    client.sendall(request("1.1", stream=stream, tokens=60))
    while served.engine.busy == (0, 0):
        time.sleep(0.001)
    if resets:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    while served.engine.busy != (0, 0):
        time.sleep(0.001)
    assert served.engine.counts.completion_tokens < 60


def test_half_a_request_gets_no_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(request("1.1", stream=False)[:-5])
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
