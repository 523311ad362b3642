"""Calls from a program that runs an event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from components.core.process.shutdown import raise_if_stopped, requested_stop
from flows.api.own_thread import call_beside_loop


async def _loop_runs() -> bool:
    return True


def test_work_that_needs_a_loop_of_its_own_runs_beside_a_running_one() -> None:
    async def notebook() -> bool:
        return call_beside_loop(lambda: asyncio.run(_loop_runs()))

    assert asyncio.run(notebook())
    assert call_beside_loop(threading.current_thread) is threading.current_thread()


def test_errors_come_through_as_they_are() -> None:
    def fail() -> None:
        raise LookupError("as it is")

    async def notebook() -> None:
        call_beside_loop(fail)

    with pytest.raises(LookupError, match="as it is"):
        asyncio.run(notebook())


def test_an_interrupt_of_the_caller_stops_the_work_first() -> None:
    ended: list[str] = []

    def work() -> None:
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        try:
            for _ in range(1000):
                raise_if_stopped()  # as a stage does at its next progress
                time.sleep(0.01)
            ended.append("by itself")
        except KeyboardInterrupt:
            ended.append("stopped")
            raise

    async def notebook() -> None:
        # asyncio turns the first Ctrl+C into a cancellation; a notebook's kernel does not.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            call_beside_loop(work)
        finally:
            signal.signal(signal.SIGINT, former)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())
    assert ended == ["stopped"]
    assert requested_stop() is None
