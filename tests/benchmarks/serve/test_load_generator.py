"""The generator of load against a small server that answers as it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from benchmarks.serve.load_generator import (
    LoadGenerator,
    LoadRequest,
    completion_message,
    poisson_offsets,
    read_events,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"text":"x"}]}\n\n'
CLOSING = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


Answer = Callable[[socket.socket], None]


@contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """A server that calls ``answer`` with every connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed by the test
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection:
                connection.recv(1 << 16)
                with suppress(OSError):  # the client hung up
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def whole(connection: socket.socket) -> None:
    connection.sendall(HEAD + chunk(EVENT) + chunk(EVENT) + chunk(CLOSING) + chunk(DONE))
    connection.sendall(b"0\r\n\r\n")


def requests(count: int, **options: object) -> list[LoadRequest]:
    message = completion_message(prompt="a", max_tokens=2)
    return [LoadRequest(message, **options) for _ in range(count)]  # type: ignore[arg-type]


def test_whole_answers_are_counted_and_read() -> None:
    with answering(whole) as port:
        records = LoadGenerator(port).run_closed(requests(5, keeps_body=True), streams=2)
    assert [r.status for r in records] == [200] * 5
    assert all(r.whole and r.completion_tokens == 2 and len(r.event_times) == 4 for r in records)
    assert records[0].text == "xx"
    assert all(r.due <= r.head_at <= r.event_times[0] <= r.ended_at for r in records)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_pieces_may_come_apart_anywhere(cut: int) -> None:
    body = chunk(EVENT) + chunk(EVENT) + chunk(CLOSING) + chunk(DONE) + b"0\r\n\r\n"

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD)
        for start in range(0, len(body), cut):
            connection.sendall(body[start : start + cut])
            time.sleep(0.001)

    with answering(answer) as port:
        (record,) = LoadGenerator(port).run_closed(requests(1, keeps_body=True), streams=1)
    assert (len(record.event_times), record.completion_tokens, record.whole) == (4, 2, True)
    assert len(read_events(record.body)) == 3


def test_an_answer_that_breaks_off_or_is_refused_is_not_whole() -> None:
    with answering(lambda c: c.sendall(HEAD + chunk(EVENT))) as port:
        (broken,) = LoadGenerator(port).run_closed(requests(1), streams=1)
    with answering(lambda c: c.sendall(b"HTTP/1.1 429 Busy\r\n\r\n{}")) as port:
        (refused,) = LoadGenerator(port).run_closed(requests(1), streams=1)
    with answering(lambda c: None) as port:
        (silent,) = LoadGenerator(port).run_closed(requests(1), streams=1)
    (unheard,) = LoadGenerator(port).run_closed(requests(1), streams=1)
    assert (broken.status, broken.whole, refused.status, refused.whole) == (200, False, 429, False)
    assert (silent.status, silent.whole, unheard.status, unheard.whole) == (0, False, 0, False)


def test_streams_that_say_nothing_are_given_up() -> None:
    with answering(lambda c: time.sleep(5)) as port:
        began = time.perf_counter()
        records = LoadGenerator(port, timeout=0.2).run_closed(requests(3), streams=3)
    assert len(records) == 3
    assert not any(record.whole for record in records)
    assert time.perf_counter() - began < 4


def test_a_client_hangs_up_after_so_many_events() -> None:
    with answering(whole) as port:
        (record,) = LoadGenerator(port).run_closed(requests(1, cancel_after=1), streams=1)
    assert record.cancelled
    assert record.event_times


def test_open_arrivals_wait_for_nobody() -> None:
    """Answers that take 0.2 s do not hold up those who come meanwhile, and are charged in full."""

    def slow(connection: socket.socket) -> None:
        time.sleep(0.2)
        whole(connection)

    with answering(slow) as port:
        began = time.perf_counter()
        offsets = [0.0, 0.05, 0.1]
        records = LoadGenerator(port).run_open(requests(3), offsets)
    dues = sorted(record.due - began for record in records)
    assert dues == pytest.approx(offsets, abs=0.01)
    assert all(record.first_event_seconds >= 0.2 for record in records)


def test_arrivals_are_those_of_a_poisson_process() -> None:
    offsets = poisson_offsets(rate=100, seconds=100, seed=1)
    assert offsets == poisson_offsets(rate=100, seconds=100, seed=1)
    assert offsets == sorted(offsets)
    assert offsets[-1] < 100
    assert len(offsets) == pytest.approx(10_000, rel=0.04)  # four standard deviations
