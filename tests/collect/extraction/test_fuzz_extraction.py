"""The extractor on a fixed budget of random pages: a text, or a reason; nothing else comes out."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.collect.extraction.main_text import MainText, extract_main_text
from components.collect.web.charset import decode_page
from components.collect.web.media_types import judge_media_type

fixed = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TAGS = (
    *("html", "body", "main", "article", "div", "p", "pre", "code", "table", "tr", "td", "ul"),
    *("li", "a", "b", "h1", "h2", "br", "img", "script", "style", "title", "svg", "template"),
    *("noscript", "iframe", "form", "select", "option", "math", "blockquote", "dl", "dt", "x-own"),
)
PIECES = st.one_of(
    st.sampled_from([f"<{tag}>" for tag in TAGS]),
    st.sampled_from([f"</{tag}>" for tag in TAGS]),
    st.sampled_from(
        [
            *("<!--", "-->", "<![CDATA[", "]]>", "<?xml version='1.0'?>", "<!doctype html>"),
            *("<a href='http://[", "<p class=", "&#0;", "&#xD800;", "&amp", "&nosuch;", "<", "\0"),
            *("<meta charset=utf-16>", "<meta charset=nosuch>", "<base href='//'>", "```", "| - |"),
            *("<td colspan=99999999>", "<ol start=-1>", "\u202e", "\ufeff", "\x85", "\u2028"),
            "The garden by the river has a bridge of stone. ",
        ]
    ),
    st.text(max_size=12),
)
BODIES = st.one_of(
    st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode(errors="replace")),
    st.lists(PIECES, max_size=12).map(lambda parts: "".join(parts).encode("utf-16", "replace")),
    st.binary(max_size=300),
)
KINDS = st.sampled_from(
    [
        *("text/html", "text/html; charset=utf-8", "text/html; charset=nosuch", "text/plain"),
        *(
            "application/xhtml+xml",
            "text/markdown; charset=latin-1",
            "",
            "; charset=",
            "text/html;",
        ),
    ]
)


@fixed
@given(body=BODIES, kind=KINDS)
def test_any_page_has_a_text_or_a_reason(body: bytes, kind: str) -> None:
    first, second = extracted(body, kind), extracted(body, kind)
    assert first == second
    if not isinstance(first, str):
        found = (first.text, first.title, first.navigation, *first.headings, *first.code)
        "".join(found).encode()  # no half of a character
        assert first.text.strip()


def extracted(body: bytes, kind: str) -> MainText | str:
    """As ``extract`` does it: what is found, or why there is nothing."""
    try:
        media_type = judge_media_type(kind, body).media_type
        text = decode_page(body, kind)
        return extract_main_text(text, media_type, "x", url="http://a.example/x")
    except (ValueError, RecursionError) as error:
        return str(error) or "nested too deeply"
