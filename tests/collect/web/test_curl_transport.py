"""Transfers: addresses, connections, bounds, and nothing left behind when one is broken off."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pycurl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.curate.web.http_situations import build_response, html_page
from benchmarks.curate.web.raw_site import Answer, open_raw_site
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.web.http_fetcher import FetchResult, HttpFetcher
from components.collect.web.ssrf_guard import (
    AddressGuard,
    AddressRefused,
    HostPort,
    open_checked_socket,
)
from components.collect.web.transfer.curl_transport import CurlRequest, CurlTransport
from components.collect.web.transfer.fetch_limits import FetchLimits
from components.collect.web.transfer.request_identity import RequestIdentity
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, ledger

LIMITS = FetchLimits(100_000, 2, 5, 10)


def fetch(url: str, limits: FetchLimits = LIMITS, **settings: Any) -> FetchResult:
    async def once() -> FetchResult:
        options = {"allow_private": True, **settings}
        async with HttpFetcher("modelmill", limits, **options) as fetcher:
            return await fetcher.fetch_url(url)

    return asyncio.run(once())


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_connection_is_kept(web: Any) -> None:
    ports: set[int] = set()

    def count(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(LONG)))
        handler.end_headers()
        handler.wfile.write(LONG.encode())

    web.pages["/"] = count

    async def several() -> list[FetchResult]:
        async with HttpFetcher("modelmill", LIMITS, allow_private=True) as fetcher:
            return [await fetcher.fetch_url(f"{web.url}/") for _ in range(5)]

    assert [fetched.reason for fetched in asyncio.run(several())] == [""] * 5
    assert len(ports) == 1


def test_the_next_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_raw_site({"/": build_response(LONG)}) as site:

        def resolver(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            addresses = ("127.0.0.77", "127.0.0.1")  # nothing listens on the first
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        fetched = fetch(f"http://two.example:{site.port}/")
    assert (fetched.status, fetched.reason) == (200, "")
    assert f"Host: two.example:{site.port}".encode() in site.requests[0]


def test_dots_of_a_path_and_trusted_addresses_stay_as_they_are() -> None:
    with open_raw_site({"/a/%2e%2e/b": build_response(html_page("dots"))}) as site:
        trusted = {("docs.example", 80): ("127.0.0.1", site.port)}
        url = "http://docs.example/a/%2e%2e/b"
        fetched = fetch(url, allow_private=False, trusted=trusted)
    assert fetched.reason == ""
    assert site.targets == ["/a/%2e%2e/b"]


def test_a_transfer_that_is_cancelled_leaves_nothing(web: Any) -> None:
    asked, done = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        done.wait(20)

    web.pages["/"] = hang

    async def broken_off() -> int:
        async with HttpFetcher("modelmill", LIMITS, allow_private=True) as fetcher:
            task = asyncio.create_task(fetcher.fetch_url(f"{web.url}/"))
            while not asked.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return len(asyncio.all_tasks()) - 1

    before, threads = count_descriptors(), threading.active_count()
    assert asyncio.run(broken_off()) == 0
    done.set()
    # The server's side of the connection is in this process too, as is its thread.
    assert count_descriptors() <= before + 1
    assert threading.active_count() <= threads + 1


def test_total_time_and_silence_are_bounded(web: Any) -> None:
    done = threading.Event()
    web.pages["/"] = lambda handler: done.wait(20)
    fetched = fetch(f"{web.url}/", FetchLimits(1000, 2, 5, 0.2))
    assert (fetched.reason, fetched.transient) == ("took more than 0.2 s", True)
    fetched = fetch(f"{web.url}/", FetchLimits(1000, 2, 1, 15))
    assert (fetched.reason, fetched.transient) == ("no answer in time: Timeout was reached", True)
    done.set()


def test_a_head_without_end_is_bounded() -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(2000))
    with open_raw_site({"/": b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nbody"}) as site:
        fetched = fetch(f"{site.url}/")
    assert fetched.body == b""
    assert fetched.reason


@pytest.mark.parametrize(
    ("address", "pinned"),
    [
        (("10.0.0.1", 80), ("93.184.215.14", 80)),
        (("93.184.215.14", 22), ("93.184.215.14", 80)),
        (("::ffff:10.0.0.1", 80), ("10.0.0.1", 80)),
        (("/run/docker.sock", 80), ("93.184.215.14", 80)),
    ],
)
def test_a_socket_to_an_address_that_was_not_checked_is_refused(
    address: HostPort, pinned: HostPort
) -> None:
    with pytest.raises(AddressRefused, match="was not looked up for it"):
        open_checked_socket(socket.AF_INET, socket.SOCK_STREAM, 6, address, pinned)


def test_libcurl_connects_nowhere_but_to_the_checked_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if libcurl did not heed the pin: the socket itself is refused."""
    with open_raw_site({"/": build_response(LONG)}) as site:
        request = CurlRequest(f"{site.url}/", [], ("127.0.0.1", site.port))
        set_options = CurlTransport._set_options

        def unpinned(self: CurlTransport, curl: Any, asked: CurlRequest) -> None:
            set_options(self, curl, asked)
            curl.setopt(pycurl.CONNECT_TO, [f"::127.0.0.5:{site.port}"])

        monkeypatch.setattr(CurlTransport, "_set_options", unpinned)

        async def once() -> None:
            async with CurlTransport(LIMITS, connections=4, ca_file="") as transport:
                await transport.get(request, lambda _: 100)

        with pytest.raises(AddressRefused, match=r"a connection to 127\.0\.0\.5"):
            asyncio.run(once())
    assert site.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost",
        "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1", "fe80::1", "::",
    ],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_looked_up_as_public(host: str) -> None:
    async def resolve() -> list[HostPort]:
        return await AddressGuard({}, allow_private=False).resolve_host(host, 80, 5)

    with pytest.raises(AddressRefused, match="leads to the private address"):
        asyncio.run(resolve())


def write_certificate(folder: Path) -> Path:
    """Self-signed certificate of ``docs.example`` with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "docs.example")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("docs.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    unencrypted = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)
    path = folder / "authority.pem"
    path.write_bytes(secret + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize("odd", [b"", b"no colon in this line\r\n"])
def test_an_authority_of_ones_own_is_trusted(web: Any, tmp_path: Path, odd: bytes) -> None:
    """The name in the certificate is the URL's, though the connection is pinned to an address."""
    authority = write_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority)
    web.server.socket = tls.wrap_socket(web.server.socket, server_side=True)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(build_response(LONG).replace(b"\r\n", b"\r\n" + odd, 1))
        handler.close_connection = True

    web.pages["/"] = answer
    trusted = {("docs.example", 443): ("127.0.0.1", web.server.server_port)}
    identity = RequestIdentity(ca_file=str(authority))
    fetched = fetch("https://docs.example/", trusted=trusted, identity=identity)
    assert (fetched.reason, fetched.body) == ("", LONG.encode())
    stranger = fetch("https://docs.example/", trusted=trusted)
    assert stranger.reason.startswith("no connection: SSL")
    trusted = {("other.example", 443): ("127.0.0.1", web.server.server_port)}
    other = fetch("https://other.example/", trusted=trusted, identity=identity)
    assert other.reason.startswith("no connection: SSL")


@pytest.mark.parametrize("target", ["/", "/robots.txt"])
def test_what_is_cut_off_once_is_asked_for_again(tmp_path: Path, target: str) -> None:
    """A robots.txt without its end may lack the rule that forbids a page."""
    rules = b"User-agent: *\nDisallow: /closed\n"
    contents = {"/robots.txt": rules, "/": f'<a href="/closed">x</a>{LONG}'.encode()}
    asked: list[str] = []

    def answer(path: str) -> Answer:
        def answer_request(_: bytes) -> bytes:
            asked.append(path)
            whole = build_response(contents[path])
            is_first = asked.count(path) == 1 and path == target
            return whole[: len(whole) - 12] if is_first else whole

        return answer_request

    answers = {path: answer(path) for path in contents}
    with open_raw_site({**answers, "/closed": build_response(LONG)}) as site:
        config = ScrapeConfig(
            as_of=NOW,
            seeds=[f"{site.url}/"],
            allow_private=True,
            delay_seconds=0,
            retries=2,
            backoff_seconds=0.01,
            shards=1,
        )
        work = Workdir.temporary(tmp_path)
        rows = ledger(work, scrape(config, work))
    assert (rows[""]["reason"], rows[""]["note"]) == ("", "")
    assert rows["closed"]["reason"] == "robots.txt forbids it"
    assert asked.count(target) == 2


def test_what_is_always_cut_at_the_same_byte_is_asked_for_twice(tmp_path: Path) -> None:
    long = build_response(LONG, f"Content-Length: {len(LONG) + 9}", has_length=False)
    with open_raw_site({"/": long}) as site:
        config = ScrapeConfig(
            as_of=NOW,
            seeds=[f"{site.url}/"],
            allow_private=True,
            delay_seconds=0,
            retries=5,
            backoff_seconds=0.01,
            shards=1,
        )
        work = Workdir.temporary(tmp_path)
        rows = ledger(work, scrape(config, work))
    assert rows[""]["note"] == "the connection ended before it did"
    assert site.targets.count("/") == 2


def test_a_connection_is_kept_behind_a_refusal_and_given_up_before_an_image(web: Any) -> None:
    ports: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        ports.append(handler.client_address[1])
        is_image = handler.path == "/image"
        body = bytes(2_000_000) if is_image else b"<p>There is no such page.</p>"
        handler.send_response(200 if is_image else 404)
        handler.send_header("Content-Type", "image/png" if is_image else "text/html")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    web.pages |= {"/a": answer, "/b": answer, "/image": answer, "/c": answer}

    async def several() -> list[str]:
        async with HttpFetcher("modelmill", LIMITS, allow_private=True) as fetcher:
            paths = ("a", "b", "image", "c")
            return [(await fetcher.fetch_url(f"{web.url}/{path}")).reason for path in paths]

    reasons = asyncio.run(several())
    assert reasons == ["HTTP 404", "HTTP 404", "no page: image/png", "HTTP 404"]
    assert ports[0] == ports[1] == ports[2] != ports[3]
