"""An ASGI server on a thread of the tests' process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


@contextmanager
def serve_in_thread(config: uvicorn.Config, *, waits: bool = True) -> Iterator[int]:
    """Serve on a loopback port of its own; yields the port.

    Args:
        config: of the server, with its application.
        waits: the server ends only when its connections have; else it cuts them.
    """
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server ended before it had started"
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.force_exit = not waits
            server.should_exit = True
            thread.join(10)
