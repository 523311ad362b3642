"""Generator of load: many streams on one thread, raw sockets, times and counts of what arrives.

A request is bytes; of an answer the events are counted, not parsed, since the generator must not be
what is measured. Two ways of asking:

    closed   a fixed number of streams, each asks again when it has its answer (speed)
    open     arrivals at set times, whatever the answers do (latency); a late answer is counted from
             the time it was due, so a server that stalls is charged for all who had to wait
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.core.process.ports import LOOPBACK

_READ_BYTES = 1 << 16
_TAIL_BYTES = 2048
"""Of a stream's end, where the counts of its tokens stand."""
_EVENT_END = b"\n\n"


@dataclass(frozen=True)
class LoadRequest:
    """One request, and when it is given up."""

    message: bytes
    cancel_after: int | None = None
    """Events after which the client hangs up; None reads to the end."""
    keeps_body: bool = False
    """The whole answer is kept, for its text."""
    label: str = ""
    """Kept in its record, to tell kinds of requests apart."""


@dataclass
class StreamRecord:
    """One answer as it arrived; times are seconds of ``time.perf_counter``."""

    due: float
    """Time at which it was to be asked."""
    status: int = 0
    """Of HTTP; 0 where the connection broke before an answer."""
    head_at: float = 0.0
    """Arrival of the first bytes."""
    event_times: list[float] = field(default_factory=list)
    """Arrival of each event; those of one packet have one time."""
    ended_at: float = 0.0
    completion_tokens: int | None = None
    """As the server counted them."""
    whole: bool = False
    """The answer ended as the protocol says."""
    cancelled: bool = False
    body: bytes = b""
    label: str = ""

    @property
    def first_event_seconds(self) -> float:
        """Time to the first token, from when the request was due."""
        return self.event_times[0] - self.due

    @property
    def text(self) -> str:
        """Text of a completion whose body was kept."""
        return "".join(
            choice["text"]
            for event in read_events(self.body)
            for choice in event.get("choices", ())
        )


class _Stream:
    """A connection: what is still to be sent, and what has come."""

    def __init__(self, port: int, request: LoadRequest, due: float) -> None:
        self.request, self.record = request, StreamRecord(due, label=request.label)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex((LOOPBACK, port))
        self.unsent = memoryview(request.message)
        self.tail = b""
        self.pieces: list[bytes] = []

    def send(self) -> bool:
        """Send what the socket takes; True when all is sent."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent

    def receive(self) -> bool:
        """Take what has come; True when the stream is over."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        now, record = time.perf_counter(), self.record
        if not data:
            record.ended_at = now
            return True
        if not record.status:
            record.head_at, record.status = now, int(data[9:12])
            data = data.partition(b"\r\n\r\n")[2]
        if self.request.keeps_body:
            self.pieces.append(data)
        joined = self.tail[-1:] + data  # the two line ends of an event may come apart
        record.event_times += [now] * joined.count(_EVENT_END)
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        if self.request.cancel_after is not None and (
            len(record.event_times) >= self.request.cancel_after
        ):
            record.ended_at, record.cancelled = now, True
            return True
        return False

    def close(self) -> StreamRecord:
        self.socket.close()
        record, marked = self.record, b'"completion_tokens":'
        if marked in self.tail:
            number = self.tail.rpartition(marked)[2].lstrip()
            record.completion_tokens = int(number[: _leading_digits(number)])
        record.whole = record.status == 200 and b"[DONE]" in self.tail
        record.body = b"".join(self.pieces)
        return record


class LoadGenerator:
    """Client of one server on loopback.

    Args:
        port: port of the server.
        timeout: seconds without anything arriving, after which all open streams are given up.
    """

    def __init__(self, port: int, timeout: float = 60.0) -> None:
        self.port, self.timeout = port, timeout

    def run_closed(self, requests: Iterable[LoadRequest], streams: int) -> list[StreamRecord]:
        """Answers to all requests, ``streams`` of them at a time.

        Args:
            requests: asked in this order; may be endless where a caller ends it by its clock.
            streams: connections that are open at a time.
        """
        waiting = iter(requests)

        def next_due(open_streams: int) -> Iterator[tuple[float, LoadRequest]]:
            for _ in range(streams - open_streams):
                request = next(waiting, None)
                if request is None:
                    return
                yield time.perf_counter(), request

        return self._run(next_due, lambda: None)

    def run_open(
        self, requests: Sequence[LoadRequest], offsets: Sequence[float]
    ) -> list[StreamRecord]:
        """Answers to requests that are sent at set times.

        Args:
            requests: one for each time.
            offsets: seconds from now, ascending.
        """
        began = time.perf_counter()
        arrivals = [(began + at, request) for at, request in zip(offsets, requests, strict=True)]
        arrivals.reverse()

        def next_due(_: int) -> Iterator[tuple[float, LoadRequest]]:
            while arrivals and arrivals[-1][0] <= time.perf_counter():
                yield arrivals.pop()

        return self._run(next_due, lambda: arrivals[-1][0] if arrivals else None)

    def _run(
        self,
        next_due: Callable[[int], Iterator[tuple[float, LoadRequest]]],
        next_time: Callable[[], float | None],
    ) -> list[StreamRecord]:
        """Serve all streams until none is open and none is due."""
        records: list[StreamRecord] = []
        open_streams = 0
        heard = time.perf_counter()
        with selectors.DefaultSelector() as selector:
            while True:
                for due, request in next_due(open_streams):
                    stream = _Stream(self.port, request, due)
                    selector.register(stream.socket, selectors.EVENT_WRITE, stream)
                    open_streams += 1
                at = next_time()
                if not open_streams and at is None:
                    return records
                wait = 1.0 if at is None else max(0.0, min(1.0, at - time.perf_counter()))
                for key, events in selector.select(wait):
                    heard = time.perf_counter()
                    if _advance(selector, key.data, events):
                        selector.unregister(key.fileobj)
                        records.append(key.data.close())
                        open_streams -= 1
                if open_streams and time.perf_counter() - heard > self.timeout:
                    for key in list(selector.get_map().values()):
                        key.data.record.ended_at = time.perf_counter()
                        records.append(key.data.close())
                        selector.unregister(key.fileobj)
                    open_streams = 0


def _advance(selector: selectors.BaseSelector, stream: _Stream, events: int) -> bool:
    """Send or receive; True when the stream is over."""
    try:
        if not events & selectors.EVENT_WRITE:
            return stream.receive()
        if stream.send():
            selector.modify(stream.socket, selectors.EVENT_READ, stream)
    except OSError:  # refused or reset: the record says so by its status and by not being whole
        stream.record.ended_at = time.perf_counter()
        return True
    return False


def poisson_offsets(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrivals of a Poisson process, as offsets from its beginning.

    Args:
        rate: arrivals a second, in the mean.
        seconds: length of the process.
        seed: of its gaps.
    """
    gaps, at, offsets = random.Random(seed), 0.0, list[float]()  # noqa: S311 - reproducible
    while (at := at + gaps.expovariate(rate)) < seconds:
        offsets.append(at)
    return offsets


def completion_message(**fields: Any) -> bytes:
    """HTTP request of a streamed completion with these fields, on a connection of its own."""
    body = json.dumps(
        {"model": "bench", "stream": True, "stream_options": {"include_usage": True}, **fields}
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_events(body: bytes) -> list[dict[str, Any]]:
    """Events of a streamed answer in chunks, without the last one, ``[DONE]``."""
    lines = _join_chunks(body).decode("utf-8", "replace").split("\n")
    payloads = [line[6:].strip() for line in lines if line.startswith("data: ")]
    return [json.loads(payload) for payload in payloads if payload != "[DONE]"]


def _join_chunks(body: bytes) -> bytes:
    """Body of an answer in chunks (RFC 9112, section 7.1); what is cut off at its end is left."""
    parts, rest = [], body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if not size or not all(byte in b"0123456789abcdefABCDEF" for byte in size):
            return body  # the answer came in one piece
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


def _leading_digits(text: bytes) -> int:
    return len(text) - len(text.lstrip(b"0123456789"))
