"""Damaged responses, on a fixed budget of random input: each gives a page or a reason."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.curate.web.raw_site import open_raw_site
from benchmarks.curate.web.situations_read import list_situations
from components.collect.web.http_fetcher import FetchResult, HttpFetcher
from components.collect.web.transfer.fetch_limits import FetchLimits

LIMITS = FetchLimits(20_000, 2, 2, 4)
RESPONSES = [s.answer for s in list_situations() if isinstance(s.answer, bytes) and s.answer]


@st.composite
def damaged_responses(draw: st.DrawFn) -> bytes:
    """A response with bytes changed, cut out and put in."""
    content = bytearray(draw(st.sampled_from(RESPONSES))[:4000])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(content), 300)))
        length = draw(st.integers(0, 20))
        content[at : at + length] = draw(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from(
                    [b"\r\n", b"\r\n\r\n", b"\0", b": ", b"HTTP/1.1 200 OK\r\n", b"ff"]
                ),
            )
        )
    return bytes(content)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(responses=st.lists(damaged_responses(), min_size=8, max_size=8))
def test_damaged_responses(responses: list[bytes]) -> None:
    async def fetch_all(url: str) -> list[FetchResult]:
        async with HttpFetcher("modelmill", LIMITS, allow_private=True) as fetcher:
            targets = (fetcher.fetch_url(f"{url}/{n}") for n in range(len(responses)))
            return await asyncio.gather(*targets)

    with open_raw_site({f"/{n}": r for n, r in enumerate(responses)}) as site:
        for fetched in asyncio.run(fetch_all(site.url)):
            assert len(fetched.body) <= LIMITS.max_bytes
            assert fetched.reason or fetched.location or fetched.status
            assert not (fetched.reason and fetched.body)
