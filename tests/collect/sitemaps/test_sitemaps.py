"""Sitemaps as they are found: in every encoding, with marks, namespaces, feeds, broken and hostile ones."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from components.collect.scrape import scrape
from components.collect.sitemaps.read_sitemaps import MAX_SITEMAPS
from components.collect.sitemaps.sitemap_file import (
    SitemapFile,
    decode_sitemap,
    parse_sitemap,
)
from components.core.store.workdir import Workdir
from tests.collect.crawling import asked, config, words

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
A = "http://a.example"


def urlset(*locations: str) -> str:
    entries = "".join(f"<url><loc>{location}</loc></url>" for location in locations)
    return f"{XML}<urlset {NAMESPACE}>{entries}</urlset>"


def read(body: bytes | str) -> SitemapFile:
    return parse_sitemap(decode_sitemap(body.encode() if isinstance(body, str) else body)[0], 100)


@pytest.mark.parametrize(
    "body",
    [
        urlset(f"{A}/1", f"{A}/2"),
        b"\xef\xbb\xbf" + urlset(f"{A}/1", f"{A}/2").encode(),
        ("\ufeff" + urlset(f"{A}/1", f"{A}/2").replace("UTF-8", "UTF-16")).encode("utf-16-le"),
        urlset(f"{A}/1", f"{A}/2").encode("utf-16-be"),
        gzip.compress(urlset(f"{A}/1", f"{A}/2").encode()),
        "\n\n  <!-- " + "x" * 9000 + " -->\n" + urlset(f"{A}/1", f"{A}/2").removeprefix(XML),
        urlset(f"\n  {A}/1\n", f"<![CDATA[ {A}/2 ]]>"),
        urlset(f"{A}/1", f"{A}/2").replace("<loc>", '<loc type="x" >'),
        urlset(f"{A}/1", f"{A}/2")
        .replace("<", "<s:")
        .replace("<s:/", "</s:")
        .replace("<s:?", "<?"),
        urlset(f"{A}/1", f"{A}/2").replace("loc>", "LOC>").replace("url>", "Url>"),
        urlset(f"{A}/1", f"{A}/2").replace("</urlset>", ""),
        urlset(f"{A}/1", f"{A}/2").replace("</urlset>", "<url><loc"),
        urlset(f"{A}/1", f"{A}/2").replace("<url>", "<url>\x08\x00"),
        urlset(f"{A}/1", f"{A}/2") + "\n<!-- 0.2 s --> trailing",
        f"\ufeff{A}/1\r\n\r\n  {A}/2  \r\nnot an address\r\n",
        f"{A}/1\r{A}/2",
        f'<urlset {NAMESPACE} xmlns:image="x"><url><loc>{A}/1</loc><image:image><image:loc>{A}/i.jpg'
        f"</image:loc></image:image></url><url><loc>{A}/2</loc><video:video><video:content_loc>"
        f"{A}/v.mp4</video:content_loc></video:video></url></urlset>",
        f'<urlset {NAMESPACE}><url><loc>{A}/1</loc><xhtml:link rel="alternate" hreflang="de" '
        f'href="{A}/2"/></url></urlset>',
        f"<rss version='2.0'><channel><link>{A}/</link><item><link>{A}/1</link><title>t</title>"
        f'<guid isPermaLink="false">{A}/g</guid></item><item><guid>{A}/2</guid></item></channel></rss>',
        f'<rdf:RDF xmlns="http://purl.org/rss/1.0/"><channel><link>{A}/</link></channel><item><link>'
        f"{A}/1</link></item><item><link>{A}/2</link></item></rdf:RDF>",
        f'<feed xmlns="http://www.w3.org/2005/Atom"><link href="{A}/" rel="self"/><entry><link '
        f'href="{A}/1"/><link rel="edit" href="{A}/edit"/></entry><entry><link rel="alternate" '
        f'href="{A}/2"/></entry></feed>',
    ],
)
def test_pages_of_a_sitemap(body: bytes | str) -> None:
    assert read(body) == SitemapFile(locations=[f"{A}/1", f"{A}/2"])


def test_a_mistyped_end_costs_no_address() -> None:
    text = urlset(f"{A}/1", f"{A}/2").replace("</loc></url><url>", "<loc></url><url>")
    assert sorted(read(text).locations) == [f"{A}/1", f"{A}/2"]


def test_declared_charsets() -> None:
    text = urlset(f"{A}/café").replace("UTF-8", "ISO-8859-1")
    assert read(text.encode("latin-1")).locations == [f"{A}/café"]


def test_an_index_is_known_by_its_root_alone() -> None:
    index = f"<sitemapindex {NAMESPACE}><sitemap><loc>{A}/s.xml</loc></sitemap></sitemapindex>"
    assert read("<!-- " + "x" * 5000 + " -->" + index) == SitemapFile(True, [f"{A}/s.xml"])
    about = urlset(f"{A}/blog/sitemapindex-explained")
    assert read(about) == SitemapFile(False, [f"{A}/blog/sitemapindex-explained"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/p?a=1&amp;b=2", "/p?a=1&b=2"),
        ("/p?a=1&b=2", "/p?a=1&b=2"),
        ("/p?a=1&copy=2", "/p?a=1&copy=2"),
        ("/p?a=1&eacute;", "/p?a=1&eacute;"),
        ("/p&#63;a&#x3d;1", "/p?a=1"),
        ("<![CDATA[http://a.example/p?a=1&b=2]]>", "/p?a=1&b=2"),
        ("<![CDATA[http://a.example/p?a=1&amp;b]]>", "/p?a=1&amp;b"),
    ],
)
def test_ampersands(written: str, expected: str) -> None:
    written = written if written.startswith("<") else A + written
    assert read(urlset(written)).locations == [A + expected]


def test_what_is_no_sitemap_lists_nothing() -> None:
    page = f"<!DOCTYPE html><html><body><url><loc>{A}/x</loc></url><p>Not found<br></body></html>"
    assert read(page).locations == []
    assert read(b"\x1f\x8bbroken").locations == []
    assert read(b"").locations == []
    assert read(b"%PDF-1.7 \xff\xfe\x00").locations == []


def test_half_of_a_gzipped_sitemap_is_read() -> None:
    locations = [f"{A}/{number * 7919 % 100_003}" for number in range(5000)]
    half = gzip.compress(urlset(*locations).encode())[:12_000]
    got = parse_sitemap(decode_sitemap(half)[0], 10_000).locations
    assert got == locations[: len(got)]
    assert len(got) > 1000


def test_hostile_sitemaps_end() -> None:
    bomb = (
        '<?xml version="1.0"?><!DOCTYPE u [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        f"<urlset><url><loc>{A}/&b;</loc></url></urlset>"
    )
    with pytest.raises(ValueError, match="declares entities"):
        read(bomb)
    outside = (
        '<!DOCTYPE u [<!ENTITY x SYSTEM "file:///etc/passwd">]><urlset><url><loc>&x;</loc></url>'
    )
    with pytest.raises(ValueError, match="declares entities"):
        read(outside)
    assert read("<a>" * 200_000).locations == []
    assert read("<![CDATA[" * 100_000).locations == []
    ampersands = f"{A}/?{'&' * 300_000}"
    assert read(urlset(ampersands)).locations == [ampersands]
    assert read(gzip.compress(gzip.compress(b"x" * 1000))).locations == []


def test_a_limit_ends_the_reading() -> None:
    text = urlset(*(f"{A}/{number}" for number in range(1000)))
    assert parse_sitemap(text, 3).locations == [f"{A}/0", f"{A}/1", f"{A}/2"]


def test_a_crawl_says_which_sitemaps_it_left_unread(
    work: Workdir, web: Any, caplog: pytest.LogCaptureFixture
) -> None:
    xml = {"Content-Type": "application/xml"}
    count = MAX_SITEMAPS + 20
    nested = "".join(
        f"<sitemap><loc>{web.url}/s{number}.xml</loc></sitemap>" for number in range(count)
    )
    index = f"<sitemapindex>{nested}</sitemapindex>"
    web.pages |= {"/": words("home"), "/sitemap.xml": (200, xml, index.encode())}
    for number in range(count):
        web.pages[f"/s{number}.xml"] = (200, xml, urlset(f"{web.url}/p").encode())
    web.pages["/p"] = words("page")
    scrape(config(web), work)
    assert len([path for path in web.requests if path.endswith(".xml")]) == MAX_SITEMAPS + 1
    assert "/p" in asked(web)
    lines = [
        record.getMessage()
        for record in caplog.records
        if "sitemaps were read" in record.getMessage()
    ]
    assert len(lines) == 1
    assert f"{MAX_SITEMAPS} sitemaps were read" in lines[0]
    assert "20 more" in lines[0]
