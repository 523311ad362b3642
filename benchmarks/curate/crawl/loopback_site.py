"""Loopback site of a few hundred pages with what makes a crawl's resume hard.

Redirects and chains of them, a sitemap with pages that nothing links to, slow pages, missing ones,
files, a wall of cookies, sessions on every link of a corner, a calendar without end. A page depends
on its address alone, so two crawls may be compared byte by byte.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGES = 240
LISTED_PAGES = 30
"""Pages that the sitemap alone names."""
_SYLLABLES = ("ba", "co", "di", "fu", "ge", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu", "wa")
_SLOW_SECONDS = 0.03
Reply = tuple[int, dict[str, str], str]


class LoopbackSite:
    """The site on a port of its own, as long as it is open."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Paths asked for, in order."""
        self.on_request: Callable[[], object] = lambda: None
        """Called after each request was counted, before it is answered."""
        self.lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answer, self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackSite:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def make_reply(self, address: str, cookie: str) -> Reply:
        """Status, headers and text of an address.

        Args:
            address: Path and query.
            cookie: The request's Cookie header.
        """
        parts = urlsplit(address)
        names = parts.path.strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/":
            ways = ["/page/1", "/calendar?year=2026&month=1", "/wall", "/shop/1", "/missing"]
            return _page("home", *ways, "/file/manual.pdf", "http://elsewhere.example/")
        if parts.path == "/sitemap.xml":
            listed = (f"{self.url}/listed/{number}" for number in range(LISTED_PAGES))
            places = "".join(f"<url><loc>{url}</loc></url>" for url in listed)
            return 200, {"Content-Type": "application/xml"}, f"<urlset>{places}</urlset>"
        if parts.path == "/wall":
            if "seen=1" in cookie:
                return _page("behind the wall")
            return 302, {"Set-Cookie": "seen=1; Path=/", "Location": "/wall"}, ""
        if len(names) == 2 and names[1].isdecimal():
            return _numbered_reply(names[0], int(names[1]), address)
        if parts.path == "/calendar" and query.keys() == {"year", "month"}:
            return _month(int(query["year"]), int(query["month"]))
        if names[0] == "file":
            return 200, {"Content-Type": "application/pdf"}, "%PDF-1.7"
        return 404, {"Content-Type": "text/html"}, "nothing is here"


def _numbered_reply(kind: str, number: int, address: str) -> Reply:
    if kind == "page" and 1 <= number <= PAGES:
        if number % 17 == 0:
            time.sleep(_SLOW_SECONDS)
        below = [n for n in (3 * number - 1, 3 * number, 3 * number + 1) if n <= PAGES]
        return _page(address, *(f"/{'moved' if n % 10 == 0 else 'page'}/{n}" for n in below))
    if kind == "moved":  # every third of them moved twice
        target = f"/again/{number}" if number % 30 == 0 else f"/page/{number}"
        return 301, {"Location": target}, ""
    if kind == "again":
        return 302, {"Location": f"/page/{number}"}, ""
    if kind == "listed" and number < LISTED_PAGES:
        return _page(address)
    if kind == "shop" and number < 20:
        session = hashlib.sha256(address.encode()).hexdigest()[:32]
        targets = ((number * 2 + step) % 20 for step in (1, 2, 5))
        return _page(f"shop {number}", *(f"/shop/{n}?PHPSESSID={session}" for n in targets))
    return 404, {"Content-Type": "text/html"}, "nothing is here"


def _month(year: int, month: int) -> Reply:
    year, following = (year + 1, 1) if month == 12 else (year, month + 1)
    links = f'<a href="/calendar?year={year}&month={following}">next</a>'
    return 200, {"Content-Type": "text/html"}, f"<h1>{month} {year}</h1><p>No events.</p>{links}"


def _page(name: str, *links: str) -> Reply:
    draw = random.Random(name)  # noqa: S311 - text, which must repeat
    words = ("".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(80))
    anchors = "".join(f'<a href="{link}">x</a>' for link in links)
    return 200, {"Content-Type": "text/html"}, f"<p>{' '.join(words)}.</p>{anchors}"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, site: LoopbackSite, *connection: Any) -> None:
        self.site = site
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answer one request."""
        with self.site.lock:
            self.site.requests.append(self.path)
            self.site.on_request()
        status, headers, text = self.site.make_reply(self.path, self.headers.get("Cookie", ""))
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
