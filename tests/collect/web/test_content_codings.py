"""Content codings: what is undone, what is passed over, and how much memory it may take."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from components.collect.web.transfer.content_codings import ContentCodingError, decode_content

TEXT = " ".join(f"line {n} of a page about dunes" for n in range(900)).encode()
LIMIT = 1_000_000
PACKED = {
    "gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
}


@pytest.mark.parametrize("coding", PACKED)
def test_a_cut_body_gives_what_came_and_says_so(coding: str) -> None:
    decoded = decode_content(PACKED[coding][:-30], coding, LIMIT)
    assert TEXT.startswith(decoded.body)
    assert decoded.note == f"its {coding} data ends early"
    assert decode_content(PACKED[coding], coding, LIMIT).note == ""


@pytest.mark.parametrize("coding", PACKED)
def test_a_bomb_costs_no_more_than_the_limit(coding: str) -> None:
    packers = {"gzip": gzip, "deflate": zlib, "br": brotli, "zstd": zstd}
    bomb = packers[coding].compress(bytes(30_000_000))
    decoded = decode_content(bomb, coding, 1000)
    assert decoded.is_full
    assert len(decoded.body) == 1001
    doubled = decode_content(gzip.compress(bomb), f"{coding}, gzip", 500)
    assert len(doubled.body) <= 501


def test_a_full_layer_inside_is_told() -> None:
    noise = b"".join(zlib.crc32(bytes([n % 251, n // 251])).to_bytes(4) for n in range(9000))
    decoded = decode_content(gzip.compress(gzip.compress(noise)), "gzip, gzip", 20_000)
    assert decoded.is_full


def test_damage_in_the_middle_is_an_error_and_a_wrong_checksum_is_none() -> None:
    packed = bytearray(PACKED["gzip"])
    packed[-7] ^= 1
    assert decode_content(bytes(packed), "gzip", LIMIT).body == TEXT
    packed[len(packed) // 2] ^= 255
    with pytest.raises(ContentCodingError, match="damaged after"):
        decode_content(bytes(packed), "gzip", LIMIT)


@pytest.mark.parametrize(
    "said", ["gzip;q=1", '"gzip"', " gzip ,", "x-gzip", "aws-chunked, gzip", "gzip, identity", "br"]
)
def test_spellings_of_a_coding(said: str) -> None:
    assert decode_content(PACKED["gzip"], said, LIMIT).body == TEXT


def test_layers_end() -> None:
    body = TEXT
    for _ in range(9):
        body = gzip.compress(body)
    assert decode_content(body, "gzip", LIMIT).body.startswith(b"\x1f\x8b")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    body=st.binary(max_size=300),
    codings=st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "none"]), max_size=3),
)
def test_noise_is_decoded_or_refused(body: bytes, codings: list[str]) -> None:
    try:
        decoded = decode_content(body, ",".join(codings), 1000)
    except ContentCodingError:
        return
    assert len(decoded.body) <= 1001


@settings(max_examples=200, deadline=None, derandomize=True)
@given(coding=st.sampled_from(sorted(PACKED)), at=st.integers(0, 999), change=st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused(coding: str, at: int, change: int) -> None:
    packed = bytearray(PACKED[coding])
    packed[at * len(packed) // 1000] ^= change
    try:
        decoded = decode_content(bytes(packed), coding, LIMIT)
    except ContentCodingError:
        return
    assert len(decoded.body) <= LIMIT
