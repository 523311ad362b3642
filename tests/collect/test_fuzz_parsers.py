"""Parsers of what strangers write, on a fixed small budget of random input: none of them falls over."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from protego import Protego

from components.collect.crawl.crawl_traps import TrapDetector, file_kind
from components.collect.crawl.joined_parameters import split_parameters
from components.collect.crawl.robots_rules import RobotsRules
from components.collect.optouts.ai_preferences import PREFERENCE_KEYS, parse_preferences
from components.collect.optouts.archived_signals import read_archived_signals
from components.collect.optouts.optout_policy import OptoutConfig, resolve_signals
from components.collect.optouts.robots_groups import matches_pattern, parse_robots_groups
from components.collect.optouts.site_signals import SiteSignals, parse_reservations
from components.collect.sitemaps.sitemap_file import decode_sitemap, parse_sitemap
from components.collect.warc.archive_reader import SkippedRecord, read_archive_pages
from components.collect.warc.cdxj_index import CdxjIndex, surt_key, write_index
from components.collect.warc.page_shards import WebPage, write_shards
from components.collect.warc.revisit_records import RevisitResolver, UnresolvedRevisit
from components.collect.web.page_links import read_page_facts
from components.collect.web.robots_directives import directives_for, join_robots_headers
from components.collect.web.transfer.http_message import join_headers
from components.collect.web.urls import normalise_url, resolve_link
from tests.collect.warc.test_archive_reader import A, B, C, record, warc
from tests.collect.warc.test_compression_frames import frames, page, with_dictionary

fixed = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ZIPPED = gzip.compress(record("http://a.example/z", b"<p>zipped</p>" * 9))
SEEDS = [
    A + B + C,
    gzip.compress(A) + ZIPPED + gzip.compress(C),
    gzip.compress(A + B),
    gzip.compress(record("http://a.example/l", b"<p>" + b"long " * 30_000)) + gzip.compress(C),
    A + warc("revisit", "http://a.example/r", b"", "application/http") + C,
    b"".join(frames([A, B, C])),
    b"".join(frames([A, B, C], "lz4")),
    with_dictionary([page("a"), page("b")], packed=True)[0],
]
WORDS = [
    "WARC/1.0\r\n",
    "Content-Length: 5\r\n",
    "\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "\0",
    "\x1f\x8b",
]


@st.composite
def damaged(draw: Any) -> bytes:
    """An archive with bytes changed, cut out and put in."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        put = draw(st.one_of(st.binary(max_size=30), st.sampled_from(WORDS).map(str.encode)))
        content[at : at + length] = put
    return bytes(content)


@settings(fixed, max_examples=400)
@given(content=damaged(), suffix=st.sampled_from([".warc", ".warc.gz", ".warc.zst", ".warc.lz4"]))
def test_damaged_archives(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        path.write_bytes(content)
        revisits = RevisitResolver(Path(folder))
        read_archived_signals([path], revisits.note_wanted)
        found = [*read_archive_pages(path, 10_000, revisits), *revisits.resolve_pages()]
    for one in found:
        assert isinstance(one, SkippedRecord | UnresolvedRevisit) or len(one.body) <= 10_000
    assert found or not content.strip()  # whatever is in it, something is said of it


@fixed
@given(content=st.binary(min_size=1, max_size=400), suffix=st.sampled_from([".warc", ".warc.gz"]))
def test_noise_is_no_archive(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        path.write_bytes(content)
        read = list(read_archive_pages(path, 1000, RevisitResolver(Path(folder))))
    assert [one for one in read if isinstance(one, WebPage)] == []


LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}: {}".format,
            st.sampled_from(
                [
                    "User-agent",
                    "Disallow",
                    "allow",
                    "Content-Signal",
                    "Content-Usage",
                    "Crawl-delay",
                ]
            ),
            st.one_of(
                st.text("/*$ab?=&%", max_size=12),
                st.sampled_from(
                    ["*", "GPTBot", "/a ai-train=no", "train-ai=n", "inf", "-1", "1e400"]
                ),
            ),
        ),
    ),
    max_size=12,
).map("\n".join)
PATHS = st.text("/ab?=&.", max_size=15).map(lambda text: f"/{text}")


@fixed
@given(text=LINES, path=PATHS, rules=st.text(max_size=60), ai_txt=LINES)
@example("User-agent: *\nCrawl-delay: inf", "/", "[[[[", "")
def test_opt_out_files(text: str, path: str, rules: str, ai_txt: str) -> None:
    site = SiteSignals(
        "http://a.example",
        parse_robots_groups(text),
        parse_reservations(rules),
        parse_robots_groups(ai_txt),
    )
    url = f"http://a.example{path}"
    signals = resolve_signals(site.signals_for(url, "modelmill", ["GPTBot"]))
    assert signals == resolve_signals(signals)
    read = RobotsRules(Protego.parse(text), "", text)
    read.forbids_url(url, "modelmill")
    assert 0 <= read.crawl_delay("modelmill") < float("inf")


@fixed
@given(pattern=st.text("/*$ab", max_size=10), path=st.text("/ab$", max_size=12))
def test_patterns_match_as_their_regular_expression(pattern: str, path: str) -> None:
    end = r"\Z" if pattern.endswith("$") else ""
    parts = pattern.removesuffix("$").split("*")
    expression = ".*".join(map(re.escape, parts)) + end
    assert matches_pattern(pattern, path) == (re.match(expression, path, re.DOTALL) is not None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["location", "tdm-reservation", "tdm-policy", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@fixed
@given(value=JSON)
def test_tdmrep_of_any_json(value: Any) -> None:
    for rule in parse_reservations(json.dumps(value)):
        assert rule.location[0] in "/*"
        assert rule.reserved in (True, False)


@fixed
@given(
    body=st.lists(
        st.sampled_from(
            [
                "<meta name=robots content='noai'>",
                "<meta name=tdm-reservation content=1>",
                "<a rel=license href='//creativecommons.org/licenses/by/4.0'>",
                '<script type=application/ld+json>[{"license":',
                "<base href='http://[' >",
                "<link rel=canonical href='",
                "<a href='http://a.example:99999/'>",
                "</p>",
                "\0",
                "<![CDATA[",
                "\ud83d",
            ]
        )
        | st.text(max_size=20),
        max_size=12,
    ).map("".join),
    headers=st.dictionaries(
        st.sampled_from(
            ["x-robots-tag", "link", "content-usage", "tdm-reservation", "content-type"]
        ),
        st.text(max_size=30),
    ),
)
def test_pages(body: str, headers: dict[str, str]) -> None:
    content = body.encode(errors="surrogatepass")
    facts = read_page_facts(content, "http://a.example/x", headers, "modelmill", OptoutConfig())
    for signal in facts.signals:
        signal.ledger_row("2026-01-01T00:00:00Z")
    assert all(url.startswith(("http://", "https://")) for url in facts.links)


@fixed
@given(lines=st.lists(st.text(max_size=30), max_size=4), key=st.sampled_from(PREFERENCE_KEYS))
def test_headers(lines: list[str], key: str) -> None:
    directives = directives_for(join_robots_headers(lines), {"modelmill"})
    assert "" not in directives
    for signal in parse_preferences(key, ",".join(lines), "", ""):
        assert signal.verdict in ("denied", "allowed")
    raw = [(b"X-Robots-Tag", line.encode()) for line in lines]
    assert set(join_headers(raw)) <= {"x-robots-tag"}


@fixed
@given(text=st.text("<>/loc&;ab \n!CDATA[]", max_size=80), body=st.binary(max_size=60))
def test_sitemaps(text: str, body: bytes) -> None:
    assert len(parse_sitemap(text, 3).locations) <= 3
    assert isinstance(decode_sitemap(b"\x1f\x8b" + body)[0], str)


@fixed
@given(
    href=st.one_of(
        st.text(max_size=40),
        st.text("/?&=;()SsidP0123456789abc[]:@.%", max_size=40).map("http://a.example/{}".format),
    )
)
def test_addresses(href: str) -> None:
    url = resolve_link(href, "http://a.example/x")
    if url is None:
        return
    assert normalise_url(url) is not None
    bare, parameters = split_parameters(url)
    assert split_parameters(bare) == (bare, {})
    assert bool(parameters) or bare == url
    TrapDetector(20).shapes_of(url, {url})
    file_kind(url)


@fixed
@given(names=st.lists(st.text("ab/?=&%.-0", max_size=10), min_size=1, max_size=12, unique=True))
def test_every_indexed_page_is_found(names: list[str]) -> None:
    urls = sorted({url for name in names if (url := normalise_url(f"http://a.example/{name}"))})
    pages = [WebPage(url, b"x", "text/html", "d", (("content-type", "text/html"),)) for url in urls]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, pages, 2, "2026-01-01T00:00:00Z")
        write_index(folder)
        index = CdxjIndex(folder / "index.cdxj")
        for url in urls:
            assert url in [capture.url for capture in index.find_captures(url)]
        assert index.find_captures("http://b.example/") == []
        assert surt_key("http://www.a.example/x") == surt_key("https://a.example/x")
