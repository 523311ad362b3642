"""Events are written in the turn in which they come, or by the reader where that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from serving.api.answers.answer_feed import EventFeed


class Source:
    """Gives what a test puts in."""

    def __init__(self) -> None:
        self.ended = self.cancelled = False
        self.events: list[bytes] = []
        self.failure: Exception | None = None
        self.listener: Callable[[], None] | None = None

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        self.listener = listener

    def read_events(self) -> bytes:
        if self.failure is not None:
            raise self.failure
        events, self.events = b"".join(self.events), []
        return events

    def cancel(self) -> None:
        self.cancelled = True

    def put(self, *events: bytes, last: bool = False) -> None:
        self.events += events
        self.ended = last
        if self.listener is not None:
            self.listener()


class Connection:
    """Takes what is written through unless it is paused."""

    def __init__(self) -> None:
        self.paused = False
        self.written: list[bytes] = []

    def write(self, body: bytes) -> bool:
        if not self.paused:
            self.written.append(body)
        return not self.paused


def test_events_pass_the_waiting_reader_and_the_last_ones_do_not() -> None:
    async def run() -> None:
        source, connection = Source(), Connection()
        feed = EventFeed(source, connection.write)
        source.put(b"first")
        assert connection.written == []  # the reader has not sent what comes before
        assert await feed.read() == b"first"
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(0)
        source.put(b"a")
        source.put(b"b", b"c")
        assert connection.written == [b"a", b"bc"]
        source.put(b"end", last=True)
        assert await reading == b"end"
        assert connection.written == [b"a", b"bc"]

    asyncio.run(run())


def test_what_a_connection_does_not_take_is_read_in_its_order() -> None:
    async def run() -> None:
        source, connection = Source(), Connection()
        feed = EventFeed(source, connection.write)
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(0)
        connection.paused = True
        source.put(b"a")
        connection.paused = False
        source.put(b"b")  # not past the a that waits for its reader
        assert await reading == b"ab"
        assert connection.written == []

    asyncio.run(run())


def test_a_reader_without_a_connection_reads_all() -> None:
    async def run() -> None:
        source = Source()
        feed = EventFeed(source)
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(0)
        source.put(b"a")
        assert await reading == b"a"

    asyncio.run(run())


def test_a_failure_is_the_readers_and_not_the_engines() -> None:
    async def run() -> None:
        source = Source()
        feed = EventFeed(source)
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(0)
        source.failure = ValueError("no text")
        source.put()  # raises nothing
        with pytest.raises(ValueError, match="no text"):
            await reading
        feed.close()
        assert source.cancelled
        assert source.listener is None

    asyncio.run(run())
