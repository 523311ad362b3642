"""Metadata of a page: author, date, language, licence."""

from __future__ import annotations

import pytest

from components.collect.extraction.tree.html_tree import parse_html
from components.collect.web.page_metadata import iso_date, read_page_head, read_page_metadata

PAGE = """<html lang="en-gb"><head><title>Old bridge to close</title>
<meta property="og:type" content="article"><meta property="og:title" content="Old bridge to close">
<script type="application/ld+json">{"@type": "NewsArticle", "author": {"name": "Ann Lee"},
"datePublished": "2019-11-18T10:00:00Z", "license": "https://example.org/by"}</script></head>
<body><p>x</p></body></html>"""


def test_metadata() -> None:
    root = parse_html(PAGE)
    found = read_page_metadata(root, read_page_head(root), "http://a.example/2001/02/03/x")
    assert (found.author, found.date) == ("Ann Lee", "2019-11-18")
    assert (found.language, found.licence) == ("en-GB", "https://example.org/by")
    bare = parse_html(
        "<p>x</p><a rel='license' href='/by'>l</a><time datetime='2020-02-30'></time>"
    )
    told = read_page_metadata(bare, read_page_head(bare), "http://a.example/2001/02/03/x")
    assert (told.author, told.date, told.language, told.licence) == ("", "2001-02-03", "", "/by")


BY, NC = (f"https://creativecommons.org/licenses/{kind}/4.0/" for kind in ("by", "by-nc"))


@pytest.mark.parametrize(
    ("html", "licence", "sources"),
    [
        (f"<a rel='license' href='{BY}'>l</a>", BY, [f'<a rel="license" href="{BY}">']),
        # A mere link may be about a picture: one is taken, of several that differ none.
        (f"<a href='{BY}'>l</a>", BY, [f'<a href="{BY}">']),
        (f"<a href='{BY}'>l</a><a href='{NC}'>p</a>", "", [f'<a href="{BY}">', f'<a href="{NC}">']),
        (
            f"<a href='{BY}'>l</a><link rel='license' href='{NC}'>",
            NC,
            [f'<link rel="license" href="{NC}">', f'<a href="{BY}">'],
        ),
        (
            '<script type="application/ld+json">{"@graph": [{"@type": "ImageObject", "license":'
            f' "{NC}"}}, {{"@type": "NewsArticle", "license": {{"@id": "{BY}"}}}}]}}</script>',
            BY,
            [f'{{"license": "{BY}"}}'],
        ),
        (
            "<meta name='dcterms.rights' content='All rights\nreserved'>",
            "",
            ['<meta name="dcterms.rights" content="All rights reserved">'],
        ),
        ("<a href='/licence'>licence</a>", "", []),
    ],
)
def test_licences_in_a_page(html: str, licence: str, sources: list[str]) -> None:
    root = parse_html(f"<html><body>{html}<p>x")
    told = read_page_metadata(root, read_page_head(root), "http://a.example/x")
    assert told.licence == licence
    assert told.licence_source.splitlines() == sources


def test_a_page_of_many_licences_says_some() -> None:
    links = "".join(f"<a rel='license' href='https://a.example/{n}'>x</a>" for n in range(50))
    root = parse_html(links)
    assert (
        len(read_page_metadata(root, read_page_head(root), "http://a.example/x").licence_source)
        < 500
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2019-11-18T23:00:00+05:00", "2019-11-18"), ("20191118", "2019-11-18"), ("2019-13-18", "")],
)
def test_iso_date(text: str, expected: str) -> None:
    assert iso_date(text) == expected
