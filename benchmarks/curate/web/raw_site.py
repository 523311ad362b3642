"""Loopback site that answers with the bytes it was given, valid HTTP or not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, Thread

Answer = bytes | Callable[[bytes], bytes]
"""Bytes of a response, or a function that makes them of the request's head."""
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_MAX_REQUEST_BYTES = 1 << 16


class RawSite:
    """Answers by request target; ``requests`` are the heads that came, in their order."""

    def __init__(self, answers: Mapping[str, Answer], host: str = "127.0.0.1") -> None:
        self.answers = dict(answers)
        self.requests: list[bytes] = []
        self._lock = Lock()
        self._socket = socket.create_server((host, 0), backlog=64)
        self._threads: list[Thread] = []
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://{host}:{self.port}"

    @property
    def targets(self) -> list[str]:
        """Targets that were requested."""
        return [head.split(b" ", 2)[1].decode("latin-1") for head in self.requests]

    def serve(self) -> None:
        """Answer until ``close``; a connection is closed behind each answer."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            thread = Thread(target=self._answer, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop answering."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            head = b""
            try:
                while b"\r\n\r\n" not in head and len(head) < _MAX_REQUEST_BYTES:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    head += piece
                with self._lock:
                    self.requests.append(head)
                target = head.split(b" ", 2)[1].decode("latin-1")
                answer = self.answers.get(target, _NOT_FOUND)
                connection.sendall(answer(head) if callable(answer) else answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):  # a reset would cost the client what it has not read
                    pass
            except OSError:  # the client has gone
                return


@contextmanager
def open_raw_site(answers: Mapping[str, Answer], host: str = "127.0.0.1") -> Iterator[RawSite]:
    """Serve answers on a free port as long as the context is open."""
    site = RawSite(answers, host)
    thread = Thread(target=site.serve, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.close()
        thread.join()
