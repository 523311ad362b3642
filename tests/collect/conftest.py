"""A loopback web site whose pages a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

Reply = tuple[int, dict[str, str], bytes]
HTML = {"Content-Type": "text/html; charset=utf-8"}


class Web:
    """``pages[path]`` is HTML, a whole reply, or a function of the request's handler."""

    def __init__(self) -> None:
        self.pages: dict[str, str | Reply | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        self.lock = Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, web: Web, *connection: Any) -> None:
        self.web = web
        super().__init__(*connection)

    def do_GET(self) -> None:
        with self.web.lock:
            self.web.requests.append(self.path)
        page = self.web.pages.get(self.path, (404, HTML, b"gone"))
        if callable(page):
            page(self)
            return
        status, headers, body = (200, HTML, page.encode()) if isinstance(page, str) else page
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def web() -> Iterator[Web]:
    """A site on the loopback, empty at first."""
    site = Web()
    site.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = Thread(target=site.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()
