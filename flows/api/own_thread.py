"""Calls from a program with an event loop, such as a notebook: in a thread of their own.

Stages run event loops themselves, and one does not run inside another. The caller waits; its
interrupt (Ctrl+C, a notebook's stop button) stops the thread at its next progress.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from components.core.process.shutdown import request_stop

R = TypeVar("R")
_POLL_SECONDS = 0.2
"""A signal that another thread receives does not wake one that waits."""


def call_beside_loop(work: Callable[[], R]) -> R:
    """Result of ``work``, called here, or in a thread where this one runs an event loop.

    Raises:
        KeyboardInterrupt: the caller was interrupted, and ``work`` has stopped.
        BaseException: what ``work`` raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    result: Future[R] = Future()

    def fulfil() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(fulfil,), name="modelmill", daemon=True)
    thread.start()
    try:
        # Not by joining: an interrupted join takes a living thread for ended in CPython 3.11.
        while not result.done():
            wait([result], _POLL_SECONDS)
    except KeyboardInterrupt:
        with request_stop():
            wait([result])
        raise
    return result.result()
