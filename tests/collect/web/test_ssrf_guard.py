"""Addresses that no crawl may touch, whatever a name or a redirect says."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from components.collect.scrape import scrape
from components.collect.web import ssrf_guard
from components.core.errors import DataError
from components.core.store.workdir import Workdir
from tests.collect.conftest import Web, serving
from tests.collect.crawling import LONG, config, ledger


def test_private_addresses_are_refused(work: Workdir, web: Any) -> None:
    web.pages["/"] = LONG
    others = ("localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "[::1]")
    for seed in (web.url, *(web.url.replace("127.0.0.1", other) for other in others)):
        with pytest.raises(DataError, match=r"seed .* refused: .* leads to the private") as error:
            scrape(config(web, seeds=[seed], allow_private=False), work)
        assert str(error.value).endswith("; to crawl it, set scrape.allow_private=true")
    assert web.requests == []  # no connection was made


def test_a_redirect_or_a_name_that_leads_inside_is_refused(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = web.server.server_port
    web.pages |= {
        "/": '<a href="/in">in</a><a href="/ok">ok</a>',
        "/in": (302, {"Location": f"http://127.0.0.2:{port}/secret"}, b""),
        "/ok": LONG,
    }
    # As if 127.0.0.1 were a public address: only the one that is redirected to is private.
    plain = ssrf_guard.is_public
    monkeypatch.setattr(ssrf_guard, "is_public", lambda ip: ip == "127.0.0.1" or plain(ip))
    pages = scrape(config(web, allow_private=False, hosts=["127.0.0.2"]), work)
    rows = ledger(work, pages)
    assert "leads to the private address 127.0.0.2" in rows["secret"]["reason"]
    assert "/secret" not in web.requests
    assert rows["ok"]["reason"] == ""


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("100.100.100.200", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2606:4700::5efe:7f00:1", False),
        ("2606:4700::200:5efe:a9fe:a9fe", False),
        ("2606:4700::5efe:808:808", True),
        ("fe80::5efe:808:808", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert ssrf_guard.is_public(address) is public


def test_a_metadata_service_is_refused_after_a_redirect(
    work: Workdir, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "http://169.254.169.254/latest/meta-data/"
    web.pages |= {"/": '<a href="/in">in</a>' + LONG, "/in": (302, {"Location": target}, b"")}
    plain = ssrf_guard.is_public
    monkeypatch.setattr(ssrf_guard, "is_public", lambda ip: ip == "127.0.0.1" or plain(ip))
    pages = scrape(config(web, allow_private=False, hosts=["169.254.169.254"]), work)
    row = ledger(work, pages)["latest/meta-data/"]
    assert row["reason"].startswith("refused: 169.254.169.254 leads to the private address")
    assert row["redirected_from"] == f"{web.url}/in"


def test_a_name_that_answers_differently_the_second_time_gains_nothing(
    work: Workdir, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, every later one leads inside."""

    def once(handler: BaseHTTPRequestHandler) -> None:
        body = LONG.encode() if handler.path == "/" else b""
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n"
        handler.wfile.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        handler.close_connection = True

    port = web.server.server_port
    lookups: list[str] = []

    def resolver(host: str, *_: Any, **__: Any) -> list[Any]:
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) == 1 else "127.0.0.9"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    web.pages |= {"/robots.txt": once, "/": once}
    plain = ssrf_guard.is_public
    monkeypatch.setattr(ssrf_guard, "is_public", lambda ip: ip == "127.0.0.1" or plain(ip))
    with serving(Web("127.0.0.9", port)) as inside:
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        crawl = config(web, seeds=[f"http://rebind.example:{port}/"], allow_private=False)
        scrape(crawl, work)  # each connection goes to the address that was checked
        assert "/" in web.requests
        assert lookups == ["rebind.example"]
        web.requests.clear()
        lookups.clear()
        monkeypatch.setattr(ssrf_guard, "LOOKUP_SECONDS", 0.0)
        with pytest.raises(DataError, match=r"rebind\.example leads to the private address"):
            scrape(crawl, Workdir.temporary(tmp_path / "again"))
    assert web.requests == ["/robots.txt"]
    assert inside.requests == []
    assert set(lookups) == {"rebind.example"}
