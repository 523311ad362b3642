"""Pages that a page leads to: links of all kinds, bases, refreshes, frames, series, canonical."""

from __future__ import annotations

import pytest

from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.web.page_links import PageFacts, read_page_facts
from components.collect.web.refresh import parse_refresh

URL = "http://a.example/l/page"
LONG = "<p>" + "A page that is there to be read, with a good many words on it. " * 9 + "</p>"


def facts(body: str | bytes, headers: dict[str, str] | None = None) -> PageFacts:
    content = body.encode() if isinstance(body, str) else body
    given = {"content-type": "text/html; charset=utf-8", **(headers or {})}
    return read_page_facts(content, URL, given, "modelmill", OptoutConfig())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<map><area href="/area"></map>', ["/area"]),
        ('<svg><a xlink:href="/xl">x</a></svg>', ["/xl"]),
        ('<head><link rel="next" href="/2"><link rel=PREV href="/0"></head>', ["/2", "/0"]),
        ('<link rel="stylesheet" href="/a.css"><link rel="icon" href="/i.ico">', []),
        ('<link rel="alternate" href="/feed.xml">', []),
        (
            '<frameset cols="20%,80%"><frame src="/nav"><frame src="/main"></frameset>',
            ["/nav", "/main"],
        ),
        ('<iframe src="/part"></iframe><iframe src="http://ads.example/x"></iframe>', ["/part"]),
        (
            '<a href="/x" rel="nofollow ugc">x</a><a href="/z" rel="external,NoFollow">z</a><a href="/y">y</a>',
            ["/y"],
        ),
        ('<a data-href="/x">x</a><a>none</a><a href="">self</a>', []),
        ("<a href='mailto:x@y.example'>m</a><a href='#top'>t</a>", []),
        (
            '<a href="/e?a=1&amp;b=2">x</a><a href="/r?a=1&copy=2">y</a>',
            ["/e?a=1&b=2", "/r?a=1&copy=2"],
        ),
        ("<noscript><a href='/plain'>x</a></noscript>", ["/plain"]),
        (
            '<link rel="alternate" hreflang="de" href="/de"><LINK REL=ALTERNATE HREFLANG=x-default '
            'HREF="/en"><link rel="alternate stylesheet" href="/b.css">',
            ["/de", "/en"],
        ),
        (
            '<object data="/o" type="text/html"></object><object data="/part"></object>'
            '<embed src="/e" type="text/html; charset=utf-8"><object data="/film.mp4" '
            'type="video/mp4"></object><embed src="http://ads.example/x">',
            ["/o", "/part", "/e"],
        ),
        (
            '<iframe src="/hidden" srcdoc="&lt;p&gt;&lt;a href=/inner&gt;x&lt;/a&gt;&lt;a '
            'href=&quot;rel?a=1&amp;amp;b=2&quot;&gt;y&lt;/a&gt;"></iframe><a href="/last">z</a>',
            ["/inner", "/l/rel?a=1&b=2", "/last"],
        ),
        ('<iframe srcdoc=""  src="/shown"></iframe><iframe srcdoc="<<<"></iframe>', ["/shown"]),
        (
            '<a href="/wiki/Node.js">x</a><a href="/report.doc">y</a>',
            ["/wiki/Node.js", "/report.doc"],
        ),
    ],
)
def test_links(body: str, expected: list[str]) -> None:
    assert facts(body + LONG).links == [f"http://a.example{path}" for path in expected]


def test_frames_that_are_not_followed_have_a_reason() -> None:
    read = facts(
        '<object data="/film.mp4" type="video/mp4"></object><embed src="http://ads.example/x">'
        '<iframe srcdoc="<a rel=nofollow href=/no>n</a><a href=mailto:me@a.example>m</a>"></iframe>'
        + LONG
    )
    assert read.links == []
    assert read.unfollowed == {
        "http://a.example/film.mp4": "no page: video/mp4",
        "http://ads.example/x": "a frame of another host",
        "http://a.example/no": "a nofollow link",
        "mailto:": "no page: a mailto: link",
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("</list?p=2>; rel=next", ["/list?p=2"]),
        ('<?p=2>; rel="next", <?p=0>; rel="prev"', ["/l/page?p=2", "/l/page?p=0"]),
        ('</2>; title="a, b; rel=none"; rel="last next"', ["/2"]),
        ("</2>;REL=Next", ["/2"]),
        ('</de>; rel="alternate"; hreflang="de", </f.xml>; rel=alternate', ["/de"]),
        ("</x.css>; rel=preload; as=style, </3>; rel=next", ["/3"]),
        ('</a>; rel="canonical"', []),
        ("</café>; rel=next", ["/caf%C3%A9"]),
        ("mailto:x; rel=next, <mailto:me@a.example>; rel=next", []),
        ("<" * 5000, []),
        ("</a>" + '; a="' * 3000, []),
    ],
)
def test_links_of_a_header(header: str, expected: list[str]) -> None:
    urls = [f"http://a.example{path}" for path in expected]
    assert facts(LONG, {"link": header}).links == urls
    assert facts("Plain text.", {"link": header, "content-type": "text/plain"}).links == urls
    closed = facts(LONG, {"link": header, "x-robots-tag": "nofollow"})
    assert (closed.links, list(closed.unfollowed)) == ([], urls)


NO_INDEX = [
    "noindex nofollow",
    "noindex; nofollow",
    "NOINDEX\tNOFOLLOW",
    "noindex,nofollow",
    "noindex ; nofollow ;",
    '"noindex" "nofollow"',
    "\u201cnoindex, nofollow\u201d",
    "max-snippet:-1 noindex nofollow",
    "max-image-preview: none, noindex nofollow",
    "none",
    "index none",
    "unavailable_after: 25 Jun 2010 15:00:00 PST, noindex nofollow",
]


@pytest.mark.parametrize("directives", NO_INDEX)
@pytest.mark.parametrize("place", ["name", "property", "http-equiv", "header"])
def test_a_plain_no_is_heard_however_it_is_written(directives: str, place: str) -> None:
    key = "X-Robots-Tag" if place == "http-equiv" else "robots"
    quote = "'" if '"' in directives else '"'
    meta = f"<meta {place}={key} content={quote}{directives}{quote}>"
    if place == "header":
        read = facts(f'<a href="/x">x</a>{LONG}', {"x-robots-tag": directives})
    else:
        read = facts(f'<html><head>{meta}</head><a href="/x">x</a>{LONG}</html>')
    assert read.noindex
    assert read.links == []
    assert read.unfollowed == {"http://a.example/x": "a nofollow link"}


@pytest.mark.parametrize(
    "directives",
    [
        "max-image-preview:none",
        "max-image-preview: none; max-snippet: -1",
        "max-video-preview = none index",
        "otherbot: noindex nofollow",
        "otherbot: index, noindex nofollow",
        "otherbot:noindex;nofollow",
        "unavailable_after: none",
        "index follow",
        "noindexing nofollower",
        "",
    ],
)
def test_what_is_no_plain_no_forbids_nothing(directives: str) -> None:
    read = facts(f'<a href="/x">x</a>{LONG}', {"x-robots-tag": directives})
    assert not read.noindex
    assert read.links == ["http://a.example/x"]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ('<base href="/bb/">', "/bb/leaf"),
        ('<base target="_top"><base href="/bb/">', "/bb/leaf"),
        ('<base href="/bb/"><base href="/cc/">', "/bb/leaf"),
        ('<base href="  /bb/index.html#top  ">', "/bb/leaf"),
        ('<base href="http://[bad/"><base href="/cc/">', "/l/leaf"),
        ('<base href="data:text/html,x">', "/l/leaf"),
        ('<base href="">', "/l/leaf"),
    ],
)
def test_the_base_of_links(base: str, expected: str) -> None:
    page = f'<html><head>{base}</head><body>{LONG}<a href="leaf">x</a></body></html>'
    assert facts(page).links == [f"http://a.example{expected}"]


def test_xhtml_links() -> None:
    page = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml" '
        'xmlns:xlink="http://www.w3.org/1999/xlink"><body><a href="/x">x</a>'
        '<svg xmlns="http://www.w3.org/2000/svg"><a xlink:href="/s">s</a></svg></body></html>'
    )
    links = facts(page, {"content-type": "application/xhtml+xml"}).links
    assert links == ["http://a.example/x", "http://a.example/s"]


def test_queries_of_a_page_in_another_charset() -> None:
    body = f'{LONG}<a href="/p/привет?q=привет">x</a>'.encode("cp1251")
    links = facts(body, {"content-type": "text/html; charset=windows-1251"}).links
    path = "%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82"
    assert links == [f"http://a.example/p/{path}?q=%EF%F0%E8%E2%E5%F2"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("0; URL=/t", (0, "/t")),
        ("0;url='/t'", (0, "/t")),
        ('5 ; url = "/t?a=1;b=2" trailing', (5, "/t?a=1;b=2")),
        ("3,/t", (3, "/t")),
        ("0 /t", (0, "/t")),
        ("1.5;/t", (1, "/t")),
        (".5;/t", (0, "/t")),
        ("30", (30, "")),
        ("0;url=/a'b", (0, "/a'b")),
        ("url=/t", None),
        ("-1;url=/t", None),
        ("soon;/t", None),
        ("", None),
        ("9" * 5000 + ";/t", (999999999, "/t")),
    ],
)
def test_refresh_is_parsed_as_browsers_do(content: str, expected: tuple[float, str] | None) -> None:
    assert parse_refresh(content) == expected


def test_an_empty_page_with_a_refresh_is_a_redirect() -> None:
    for page in (
        '<html><head><meta http-equiv="refresh" content="0; URL=/t"></head><body></body></html>',
        "<META HTTP-EQUIV=Refresh CONTENT=\"3;url='/t'\"><p>You are being redirected to <a href=/t>t</a>.",
    ):
        assert facts(page).refresh == "http://a.example/t"


@pytest.mark.parametrize(
    ("head", "body", "links"),
    [
        ('<meta http-equiv="refresh" content="0;url=/t">', LONG, ["/t"]),
        ('<meta http-equiv="refresh" content="600;url=/t">', "", ["/t"]),
        ('<meta http-equiv="refresh" content="0;url=/l/page#x">', "", []),
        ('<meta http-equiv="refresh" content="60">', "", []),
        ('<noscript><meta http-equiv="refresh" content="0;url=/nojs"></noscript>', "", []),
        ('<meta http-equiv="refresh" content="0;url=javascript:go()">', "", []),
        (
            '<meta name="robots" content="nofollow"><meta http-equiv="refresh" content="0;/t">',
            "",
            [],
        ),
    ],
)
def test_other_refreshes_are_links_or_nothing(head: str, body: str, links: list[str]) -> None:
    read = facts(f"<html><head>{head}</head><body>{body}</body></html>")
    assert (read.refresh, read.links) == ("", [f"http://a.example{path}" for path in links])


@pytest.mark.parametrize(
    "header",
    [
        '</café>; rel="canonical"',  # decoded as UTF-8
        '</café>; rel="canonical"'.encode().decode("latin-1"),
        "</x.css>; rel=preload, </café>; rel=canonical",
    ],
)
def test_a_canonical_address_in_a_header(header: str) -> None:
    assert facts(LONG, {"link": header}).canonical == "http://a.example/caf%C3%A9"


def test_a_canonical_address_in_the_page() -> None:
    page = f'<link rel="canonical" href="http://A.example:80/l/page#x">{LONG}'
    assert facts(page).canonical == ""
    assert (
        facts(f'<link rel="shortlink canonical" href="/c">{LONG}').canonical == "http://a.example/c"
    )
