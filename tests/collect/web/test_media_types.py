"""Media types: which are read, and what decides where the header says little."""

from __future__ import annotations

import pytest

from components.collect.web.media_types import (
    HTML,
    MARKDOWN,
    PLAIN,
    XHTML,
    judge_media_type,
    media_type_of,
)

PAGE = b"<!doctype html><html><title>t</title><p>text"
RUSSIAN = f"<html><body>{'<p>Паром уходит на рассвете.</p>' * 9}</body></html>"
FEED = b'<?xml version="1.0"?><!-- made by x --><feed xmlns="http://www.w3.org/2005/Atom"/>'
XHTML_PAGE = b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>'


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("text/html; charset=utf-8", "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/plain, text/html", "text/html"),
        ("text/html, */*", "text/html"),
        ('text/plain; title="a, text/html"', "text/plain"),
        ("text/html;;charset=x", "text/html"),
        ("html", ""),
        ("text/", ""),
        ("", ""),
    ],
)
def test_media_type_of_a_header(content_type: str, media_type: str) -> None:
    assert media_type_of(content_type) == media_type


@pytest.mark.parametrize(
    ("content_type", "body", "read_as"),
    [
        ("", PAGE, HTML),
        ("", b"  \n<!-- x --><p>y", HTML),
        ("", b"Plain words.", PLAIN),
        ("", b"<section>of a page</section><p>x", HTML),
        ("", b"<tag> of no markup language", PLAIN),
        ("", XHTML_PAGE, XHTML),
        ("", b"\xef\xbb\xbf" + PAGE, HTML),
        ("", PAGE.decode().encode("utf-16"), HTML),
        ("application/octet-stream", PAGE, HTML),
        ("application/octet-stream", b"Plain words.", PLAIN),
        ("application/xml", XHTML_PAGE, XHTML),
        ("application/xml", b"<html><body>x", HTML),
        ("text/plain", PAGE, PLAIN),
        ("text/x-markdown", b"# a", MARKDOWN),
        ("text/html", b"# a", HTML),
        ("text/html; charset=utf-16le", PAGE.decode().encode("utf-16-le"), HTML),
        ("text/html; charset=utf-16", RUSSIAN.encode("utf-16-le"), HTML),
        ("text/html; charset=utf-16be", RUSSIAN.encode("utf-16-be"), HTML),
        ("text/html", RUSSIAN.encode("utf-16"), HTML),
        ("", RUSSIAN.encode("utf-16-le"), HTML),
        ("", RUSSIAN.encode("utf-16-be"), HTML),
        (
            "",
            b"One stray\0 zero in a line of text, as some editors leave it behind."
            + b" More." * 20,
            PLAIN,
        ),
    ],
)
def test_what_a_body_is_read_as(content_type: str, body: bytes, read_as: str) -> None:
    verdict = judge_media_type(content_type, body)
    assert (verdict.media_type, verdict.reason) == (read_as, "")


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("application/json", b"{}", "no page: application/json"),
        ("text/css", PAGE, "no page: text/css"),
        ("image/png", PAGE, "no page: image/png"),
        ("application/rss+xml", FEED, "no page: application/rss+xml"),
        ("application/xml", b"<urlset/>", "no page: application/xml"),
        ("", FEED, "no page: text/xml"),
        ("text/html", FEED, "no page: a feed, declared as text/html"),
        ("text/html", b"%PDF-1.7", "no page: its content is binary"),
        ("", bytes(range(256)), "no page: its content is binary"),
        ("application/octet-stream", b"PK\x03\x04", "no page: its content is binary"),
    ],
)
def test_what_is_no_page(content_type: str, body: bytes, reason: str) -> None:
    assert judge_media_type(content_type, body).reason == reason
