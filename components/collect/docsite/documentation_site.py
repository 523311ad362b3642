"""Embedded documentation site: a web server on the loopback with pages of Python packages.

It behaves like any other site: an index, a sitemap, a robots.txt that keeps crawlers out of the
printable versions (every page has one, with the same text), entity tags and 304 responses. Its
pages are rendered by ``components.collect.docsite.page_renderer`` while they are being requested.
Its host name is fixed, since URLs end up in documents; the fetcher is told its port.

Run ``python -m components.collect.docsite.documentation_site`` to look at it.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from components.collect.docsite.module_index import find_modules, is_installed
from components.collect.docsite.page_renderer import PageRenderer
from components.collect.docsite.page_templates import PAGE_FRAME

HOST = "docs.modelmill.local"
"""Host name of the site in URLs; it is never resolved."""
LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
"""The same for every page and run: a page's content is identified by its entity tag."""
_HTML, _TEXT, _XML = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/xml"
_PAGE = re.compile(r"/(?:print/)?([A-Za-z0-9_.]+?)(?:-(\d+))?\.html")
_ROBOTS = f"User-agent: *\nDisallow: /print/\n\nSitemap: http://{HOST}/sitemap.xml\n"
_RENDER_WAIT_SECONDS = 15.0
"""Wait for a page's rendering before a 503; below the crawler's ``read_seconds`` of 30."""


class SiteConfig(BaseModel):
    """Contents of the embedded documentation site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packages: list[str] = Field(
        default=[
            "stdlib",
            "numpy",
            "networkx",
            "pyarrow",
            "tornado",
            "rich",
            "werkzeug",
            "babel",
            "jinja2",
            "click",
        ],
        min_length=1,
        description="installed top-level packages or modules; 'stdlib' is all of the library",
    )
    excluded: list[str] = Field(
        default=[
            "antigravity",
            "conftest",
            "distutils",
            "encodings",
            "ensurepip",
            "f2py",
            "idlelib",
            "lib2to3",
            "pydoc_data",
            "test",
            "testing",
            "tests",
            "this",
            "turtledemo",
        ],
        description="modules left out: a dotted name with all below it, or a name anywhere",
    )
    workers: int = Field(default=2, ge=1, le=64, description="processes that render pages")
    module_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="longest import and rendering of one module"
    )

    @field_validator("packages")
    @classmethod
    def _installed(cls, packages: list[str]) -> list[str]:
        for name in packages:
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or not is_installed(name):
                raise ValueError(f"{name!r} is no installed top-level package")
        return packages


class DocumentationSite:
    """Context manager in which the site is served on ``127.0.0.1:port``."""

    def __init__(self, config: SiteConfig, *, port: int = 0, folder: Path | None = None) -> None:
        """Prepare a site.

        Args:
            config: The packages to document.
            port: Port to listen at; 0 takes a free one.
            folder: Where rendered pages are kept for a later try; None for nowhere.
        """
        self._groups = find_modules(config.packages, config.excluded)
        self._renderer = PageRenderer(
            self._groups,
            workers=config.workers,
            module_seconds=config.module_seconds,
            folder=folder,
        )
        self._server = _Server(("127.0.0.1", port), partial(_Handler, self))
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self.requests: list[str] = []
        """Paths requested so far."""

    def __enter__(self) -> DocumentationSite:
        self._renderer.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._renderer.__exit__(kind, error, trace)
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """URL of the index, by the fixed host name."""
        return f"http://{HOST}/"

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) at which it listens."""
        return "127.0.0.1", self._server.server_port

    @property
    def modules(self) -> list[str]:
        """Names of all modules to document."""
        return [name for modules in self._groups.values() for name in modules]

    def skipped(self) -> dict[str, str]:
        """Modules that could not be documented so far, with the reason."""
        return self._renderer.skipped()

    def build_response(self, path: str) -> tuple[HTTPStatus, str, str]:
        """(status, content type, body) of the response for a path."""
        if path == "/":
            return HTTPStatus.OK, _HTML, self._index()
        if path == "/robots.txt":
            return HTTPStatus.OK, _TEXT, _ROBOTS
        if path == "/sitemap.xml":
            return HTTPStatus.OK, _XML, self._sitemap()
        match = _PAGE.fullmatch(path)
        group = match[1].partition(".")[0] if match else ""
        if match is None or match[1] not in self._groups.get(group, ()):
            return HTTPStatus.NOT_FOUND, _TEXT, "There is no such page.\n"
        return self._page(match[1], int(match[2] or 1), bare=path.startswith("/print/"))

    def _page(self, module: str, number: int, *, bare: bool) -> tuple[HTTPStatus, str, str]:
        rendered = self._renderer.wait_for_module(module, _RENDER_WAIT_SECONDS)
        if rendered is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "This page is still being made.\n"
        if not 1 <= number <= len(rendered.parts):
            why = (
                f"{module} could not be documented: {rendered.reason}\n" if rendered.reason else ""
            )
            return HTTPStatus.NOT_FOUND, _TEXT, why or "There is no such page.\n"
        main = rendered.parts[number - 1]
        if bare:
            return HTTPStatus.OK, _HTML, f"<!DOCTYPE html>\n<title>{module}</title>\n{main}\n"
        pages = _link_items([(name, name) for name in self._siblings(module)])
        if len(rendered.parts) > 1:
            numbers = range(1, len(rendered.parts) + 1)
            parts = [(_page_name(module, n), f"{module}, page {n}") for n in numbers]
            pages = f"{_link_items(parts)}\n{pages}"
        title = module if number == 1 else f"{module}, page {number}"
        body = PAGE_FRAME.substitute(
            title=html.escape(title),
            print=f"/print/{_page_name(module, number)}.html",
            package=html.escape(module.partition(".")[0]),
            siblings=pages,
            main=main,
        )
        return HTTPStatus.OK, _HTML, body

    def _siblings(self, module: str) -> Sequence[str]:
        """Modules of the same package, and direct submodules."""
        parents = (module, module.rpartition(".")[0])
        group = self._groups[module.partition(".")[0]]
        return [name for name in group if name.rpartition(".")[0] in parents]

    def _index(self) -> str:
        sections = "\n".join(
            f"<h2>{group}</h2>\n<ul>\n{_link_items([(name, name) for name in modules])}\n</ul>"
            for group, modules in self._groups.items()
        )
        return PAGE_FRAME.substitute(
            title="Documentation of Python packages",
            print="/print/index.html",
            package="Packages",
            siblings=_link_items([(name, name) for name in self._groups]),
            main=f"<main>\n<h1>Documentation of Python packages</h1>\n{sections}\n</main>",
        )

    def _sitemap(self) -> str:
        urls = "\n".join(
            f"<url><loc>http://{HOST}/{name}.html</loc></url>" for name in self.modules
        )
        space = "http://www.sitemaps.org/schemas/sitemap/0.9"
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{space}">\n{urls}\n</urlset>\n'
        )


def _page_name(module: str, number: int) -> str:
    return module if number == 1 else f"{module}-{number}"


def _link_items(pages: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        f'<li><a href="/{page}.html">{html.escape(text)}</a></li>' for page, text in pages
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, site: DocumentationSite, *connection: Any) -> None:
        self._site = site
        super().__init__(*connection)

    def do_GET(self) -> None:
        self._send_page(with_body=True)

    def do_HEAD(self) -> None:
        self._send_page(with_body=False)

    def _send_page(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self._site.requests.append(path)
        status, kind, text = self._site.build_response(path)
        body = text.encode()
        headers = dict(self._headers(status, kind, body))
        if status is HTTPStatus.OK and self._client_has_page(headers["ETag"]):
            status, body = HTTPStatus.NOT_MODIFIED, b""
            headers = {name: headers[name] for name in ("ETag", "Last-Modified")}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)

    def _headers(self, status: HTTPStatus, kind: str, body: bytes) -> Iterator[tuple[str, str]]:
        yield "Content-Type", kind
        yield "Content-Length", str(len(body))
        if status is HTTPStatus.OK:
            yield "ETag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield "Last-Modified", LAST_MODIFIED
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            yield "Retry-After", "1"

    def _client_has_page(self, tag: str) -> bool:
        """True where the request's conditions name this version of the page."""
        tags = self.headers.get("If-None-Match")
        if tags is not None:
            return "*" in tags or tag in [t.strip().removeprefix("W/") for t in tags.split(",")]
        return bool(self.headers.get("If-Modified-Since") == LAST_MODIFIED)

    def log_message(self, format: str, *args: object) -> None:
        """Log no request."""


def main() -> None:
    """Serve the standard library's pages until interrupted."""
    with DocumentationSite(SiteConfig(packages=["stdlib"]), port=8765) as site:
        print("http://{}:{}/".format(*site.address))
        site._thread.join()


if __name__ == "__main__":
    main()
