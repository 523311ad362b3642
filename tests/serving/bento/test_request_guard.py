"""Callers that are let in and those that are not: keys as people set them, pages of other sites."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from components.core.endpoint_settings import endpoint_api_key
from components.core.errors import ConfigError
from serving.api.answers.loaded_model import LoadedModel

MakeServed = Callable[..., LoadedModel]
Listen = Callable[..., AbstractContextManager[str]]
ASKED = {"model": "tiny", "prompt": "a", "max_tokens": 2}


@pytest.fixture(scope="module")
def address(make_served: MakeServed, listening: Listen) -> Iterator[str]:
    with listening(make_served()) as address:
        yield address


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("sekret\n", b"sekret"),
        ("\t sekret \r\n", b"sekret"),
        ("schlüssel", "schlüssel".encode()),
        ("schlüssel", "schlüssel".encode("latin-1")),
        ("voilà", "voilà".encode()),  # its last byte alone is white space in Latin-1
        ("ключ", "ключ".encode()),
        ("two words", b"two words"),
    ],
)
def test_a_key_opens_as_people_set_and_send_it(
    make_served: MakeServed,
    listening: Listen,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    sent: bytes,
) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", given)
    with listening(make_served(), api_key=endpoint_api_key()) as address:
        for token, status in ((sent, 200), (sent[:-1], 401), (sent + b"x", 401)):
            headers = {b"Authorization": b"Bearer " + token}
            assert httpx.get(f"{address}/models", headers=headers).status_code == status


@pytest.mark.parametrize("given", [" ", "\n", "a\nb", "a\x07b", "\udcff"])
def test_a_key_that_no_request_could_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", given)
    with pytest.raises(ConfigError, match="MODELMILL_API_KEY holds"):
        endpoint_api_key()


def test_no_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", "")
    assert endpoint_api_key() is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Origin": "http://127.0.0.1:3000"}, 200),
        ({"Origin": "http://[::1]:3000", "Sec-Fetch-Site": "same-site"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
def test_without_a_key_no_page_of_another_site_is_answered(
    address: str, headers: dict[str, str], status: int
) -> None:
    """By a "simple request", which browsers send without asking first."""
    simple = {"Content-Type": "text/plain", **headers}
    asked = httpx.post(f"{address}/completions", content=json.dumps(ASKED), headers=simple)
    assert asked.status_code == status
    assert httpx.get(f"{address}/models", headers=headers).status_code == status


def test_with_a_key_pages_may_ask(make_served: MakeServed, listening: Listen) -> None:
    headers = {"Origin": "https://app.example", "Authorization": "Bearer s3cret"}
    with listening(make_served(), api_key="s3cret") as address:
        assert httpx.get(f"{address}/models", headers=headers).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "deflate, gzip"])
def test_a_compressed_body_is_415(address: str, coding: str) -> None:
    body = gzip.compress(json.dumps(ASKED).encode())
    headers = {"Content-Encoding": coding}
    refused = httpx.post(f"{address}/completions", content=body, headers=headers)
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
    plain = {"Content-Encoding": "identity"}
    assert httpx.post(f"{address}/completions", json=ASKED, headers=plain).status_code == 200


@pytest.mark.parametrize("path", ["/models", "/models/tiny", "/openapi.json"])
def test_head_is_get_without_a_body(address: str, path: str) -> None:
    head, got = httpx.head(f"{address}{path}"), httpx.get(f"{address}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    refused = httpx.request("PUT", f"{address}{path}")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_head_of_what_is_posted_is_405(address: str) -> None:
    refused = httpx.head(f"{address}/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
