"""A loopback web site whose pages a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest

from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.store.artifact import Lineage, Pages
from components.core.store.workdir import Workdir
from tests.collect.crawling import Crawl

Reply = tuple[int, dict[str, str], bytes]
HTML = {"Content-Type": "text/html; charset=utf-8"}


class Web:
    """``pages[path]`` is HTML, a whole reply, or a function of the request's handler."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.pages: dict[str, str | Reply | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        self.noticed: Callable[[str], object] = lambda path: None
        """Called with the path of each request."""
        self.answers: list[tuple[str, int]] = []
        """(path, status), for pages that are no functions."""
        self.headers: dict[str, dict[str, str]] = {}
        """Headers of the last request for a path, names in lower case."""
        self.lock = Lock()
        self.server = ThreadingHTTPServer((host, port), partial(_Handler, self))
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, web: Web, *connection: Any) -> None:
        self.web = web
        super().__init__(*connection)

    def do_GET(self) -> None:
        with self.web.lock:
            self.web.requests.append(self.path)
            self.web.noticed(self.path)
            self.web.headers[self.path] = {k.lower(): v for k, v in self.headers.items()}
        page = self.web.pages.get(self.path, (404, HTML, b"gone"))
        if callable(page):
            page(self)
            return
        status, headers, body = (200, HTML, page.encode()) if isinstance(page, str) else page
        if status == 200 and self._is_known(headers):
            status, body = 304, b""
        self.web.answers.append((self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _is_known(self, headers: dict[str, str]) -> bool:
        """True where the request's conditions name this version (RFC 9110, section 13)."""
        if "If-None-Match" in self.headers:
            return self.headers["If-None-Match"] == headers.get("ETag")
        since = self.headers.get("If-Modified-Since")
        return since is not None and since == headers.get("Last-Modified")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def serving(site: Web) -> Iterator[Web]:
    """Answers requests to ``site`` as long as it is open."""
    site.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = Thread(target=site.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    """A site on the loopback, empty at first."""
    with serving(Web()) as site:
        yield site


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    """Crawls in one store, each under its own key."""

    def run(asked_for: ScrapeConfig, key: str) -> tuple[Workdir, Pages]:
        lineage = Lineage(component="c", code="", config="")
        work = Workdir(tmp_path / "store", key, lineage)
        return work, scrape(asked_for, work)

    return run
