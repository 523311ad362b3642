"""The proxy between real sockets: what goes through it, and what happens when a server does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from serving.gateway.reverse_proxy import ProxyTarget, ReverseProxy, UnservedReason

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(body: bytes) -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def answer(body: bytes, *headers: bytes) -> bytes:
    extra = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), extra, body)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return head + (await reader.readexactly(int(length[0].split(b":")[1])) if length else b"")


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    return await read_request(reader)


async def idle(*targets: ProxyTarget) -> None:
    """The client may have its answer a moment before the proxy has closed the books."""
    while any(target.active for target in targets):
        await asyncio.sleep(0.005)


def says(body: bytes, *headers: bytes) -> Handler:
    """A server that answers every request on a connection alike."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await read_request(reader)
                writer.write(answer(body, *headers))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    return handle


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[ProxyTarget]:
    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield ProxyTarget(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()


@asynccontextmanager
async def proxying(
    target: ProxyTarget | None,
) -> AsyncIterator[tuple[ReverseProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A proxy, and a client's connection to it."""
    proxy = ReverseProxy()
    proxy.target = target
    port = await proxy.listen(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            yield proxy, reader, writer
    finally:
        writer.transport.abort()
        await proxy.close()


def test_one_connection_goes_to_whichever_server_is_present() -> None:
    async def check() -> None:
        async with (
            server(says(b"old")) as old,
            server(says(b"new")) as new,
            proxying(old) as (proxy, reader, writer),
        ):
            for target, said in ((old, b"old"), (new, b"new"), (old, b"old")):
                proxy.target = target
                writer.write(post(b"x" * 300_000))
                assert (await read_answer(reader)).endswith(said)
            await idle(old, new)

    asyncio.run(check())


def test_a_stream_goes_on_to_its_end_on_the_old_server_and_arrives_piece_by_piece() -> None:
    go_on = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async def check() -> None:
        async with (
            server(stream) as old,
            server(says(b"new")) as new,
            proxying(old) as (proxy, reader, writer),
        ):
            writer.write(GET)
            assert await reader.readuntil(b"one\r\n")  # before the answer has ended
            assert old.active == 1
            proxy.target = new
            go_on.set()
            assert (await reader.readuntil(b"0\r\n\r\n")) == b"3\r\ntwo\r\n0\r\n\r\n"
            writer.write(GET)  # on the same connection
            assert (await read_answer(reader)).endswith(b"new")
            await idle(old)

    asyncio.run(check())


def test_requests_sent_at_once_are_answered_in_turn() -> None:
    async def check() -> None:
        async with server(says(b"yes")) as target, proxying(target) as (_, reader, writer):
            writer.write(post(b"a") + GET + post(b"c")[:-1])
            assert (await read_answer(reader)).endswith(b"yes")
            assert (await read_answer(reader)).endswith(b"yes")
            writer.write(b"c")
            assert (await read_answer(reader)).endswith(b"yes")

    asyncio.run(check())


def refusal(raw: bytes) -> tuple[int, dict[str, str], dict[str, str]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
    return int(status.split()[1]), headers, json.loads(body)["error"]


def test_while_nothing_serves_it_says_so_as_openai_would() -> None:
    async def check() -> None:
        async with proxying(None) as (proxy, reader, writer):
            proxy.unserved = UnservedReason("no_champion", "There is none.")
            writer.write(post(b"x" * 3_000_000))  # more than any buffer: still the answer is read
            status, headers, error = refusal(await reader.read())
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert error == {
            "message": "There is none.", "type": "server_error", "param": None, "code": "no_champion",
        }  # fmt: skip

    asyncio.run(check())


async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


@pytest.mark.parametrize("listens", [True, False])
def test_a_server_that_ends_before_it_answers_is_503(listens: bool) -> None:
    async def check() -> None:
        async with server(die) as target:
            pass_on = target if listens else ProxyTarget(1)
            async with proxying(pass_on) as (_, reader, writer):
                writer.write(GET)
                status, headers, error = refusal(await reader.read())
        assert (status, headers["retry-after"], error["code"]) == (503, "1", "server_ended")

    asyncio.run(check())


@pytest.mark.parametrize(
    "begun", [b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
def test_half_an_answer_never_looks_whole(begun: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + begun)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def check() -> None:
        async with server(cut) as target, proxying(target) as (_, reader, writer):
            writer.write(GET)
            got = b""
            with suppress(ConnectionResetError):
                while chunk := await reader.read(4096):
                    got += chunk
            # Neither the last bytes nor the last chunk were made up.
            assert got.endswith((b"half", b"half\r\n"))
            writer.write(GET)
            with suppress(ConnectionError):
                assert await reader.read() == b""  # and the connection is no more

    asyncio.run(check())


def test_an_answer_that_ends_with_its_connection_is_passed_on_whole() -> None:
    async def old_fashioned(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"z" * 500_000)
        writer.close()

    async def check() -> None:
        async with server(old_fashioned) as target, proxying(target) as (_, reader, writer):
            writer.write(GET)
            assert (await reader.read()).endswith(b"\r\n\r\n" + b"z" * 500_000)

    asyncio.run(check())


def test_an_early_refusal_reaches_a_client_that_is_still_sending() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await writer.drain()
        writer.close()

    async def check() -> None:
        async with server(refuse) as target, proxying(target) as (_, reader, writer):
            writer.write(post(b"x" * 5_000_000)[:4_000_000])
            assert (await reader.read()).endswith(b"big")

    asyncio.run(check())


def test_a_hang_up_reaches_the_server_and_frees_it() -> None:
    heard = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        assert await reader.read() == b""
        heard.set()
        writer.close()

    async def check() -> None:
        async with server(wait) as target, proxying(target) as (_, _, writer):
            writer.write(GET)
            await asyncio.sleep(0.1)
            assert target.active == 1
            writer.close()
            await heard.wait()
            await idle(target)

    asyncio.run(check())


def test_a_client_that_does_not_read_holds_the_server_back() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 << 20))
        for _ in range(200):
            writer.write(b"y" * (1 << 20))
            await writer.drain()
            sent += 1 << 20

    async def check() -> None:
        async with server(pour) as target, proxying(target) as (_, reader, writer):
            writer.write(GET)
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 50 << 20  # what the sockets hold, not the whole answer
            head = await reader.readuntil(b"\r\n\r\n")
            assert head
            for _ in range(200):
                await reader.readexactly(1 << 20)

    asyncio.run(check())


def test_what_is_no_http_is_refused() -> None:
    async def check() -> None:
        async with server(says(b"never")) as target, proxying(target) as (_, reader, writer):
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
            status, headers, error = refusal(await reader.read())
        assert (status, error["code"], "retry-after" in headers) == (400, "invalid_request", False)

    asyncio.run(check())


def test_half_a_head_is_408_and_the_end() -> None:
    async def check() -> None:
        async with server(says(b"yes")) as target, proxying(target) as (proxy, reader, writer):
            proxy.head_seconds = 0.3
            writer.write(GET)
            assert (await read_answer(reader)).endswith(b"yes")
            writer.write(GET[:-2])
            status, headers, error = refusal(await reader.read())
        assert (status, headers["connection"], error["code"]) == (408, "close", "timeout")

    asyncio.run(check())


def test_a_connection_that_says_nothing_ends() -> None:
    async def check() -> None:
        async with server(says(b"yes")) as target:
            proxy = ReverseProxy(idle_seconds=0.2)
            proxy.target = target
            reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.listen(0))
            async with asyncio.timeout(20):
                writer.write(GET)
                assert (await read_answer(reader)).endswith(b"yes")
                assert await reader.read() == b""
            writer.close()
            await proxy.close()

    asyncio.run(check())


def test_a_body_of_two_lengths_is_refused_and_reaches_no_server() -> None:
    reached = False

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached = True
        writer.close()

    async def check() -> None:
        async with server(never) as target, proxying(target) as (_, reader, writer):
            framed = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            writer.write(GET[:-2] + framed + GET)
            status, headers, error = refusal(await reader.read())
        assert (status, headers["connection"], error["code"]) == (400, "close", "invalid_request")

    asyncio.run(check())
    assert not reached


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agrees to a handshake, then says all back until the other side says so."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED)
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
        if chunk.endswith(b"bye"):
            break
    writer.close()


def test_a_websocket_is_a_tunnel_that_stays_with_its_server() -> None:
    async def check() -> None:
        async with (
            server(echo) as old,
            server(says(b"new")) as new,
            proxying(old) as (proxy, reader, writer),
        ):
            writer.write(GET[:-2] + UPGRADE + b"early")  # a client that does not wait
            assert await reader.readexactly(len(SWITCHED) + 5) == SWITCHED + b"early"
            assert old.active == 1
            proxy.target = new
            writer.write(b"GET / HTTP/1.1\r\n\r\n" + b"\x00" * 300_000)
            assert (await reader.readexactly(300_018)).startswith(b"GET / HTTP")
            assert (old.active, new.active) == (1, 0)
            writer.write(b"bye")
            assert await reader.read() == b"bye"
            await idle(old)

    asyncio.run(check())


def test_a_client_that_leaves_its_tunnel_ends_it() -> None:
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)
        with suppress(ConnectionError):
            while await reader.read(4096):
                continue
        ended.set()
        writer.close()

    async def check() -> None:
        async with server(listen) as target, proxying(target) as (_, reader, writer):
            writer.write(GET[:-2] + UPGRADE)
            await reader.readexactly(len(SWITCHED))
            writer.close()
            await asyncio.wait_for(ended.wait(), 10)
            await idle(target)

    asyncio.run(check())
    assert ended.is_set()


def test_a_refused_handshake_is_an_answer() -> None:
    async def check() -> None:
        async with server(says(b"no")) as target, proxying(target) as (_, reader, writer):
            writer.write(GET[:-2] + UPGRADE)
            assert (await read_answer(reader)).endswith(b"no")
            await idle(target)

    asyncio.run(check())


def test_a_handshake_with_a_body_reaches_no_server() -> None:
    async def check() -> None:
        async with server(echo) as target, proxying(target) as (_, reader, writer):
            writer.write(GET[:-2] + b"Content-Length: 40\r\n" + UPGRADE)
            status, headers, error = refusal(await reader.read())
        assert (status, headers["connection"], error["code"]) == (400, "close", "invalid_request")

    asyncio.run(check())
