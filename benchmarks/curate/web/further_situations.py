"""Further HTTP situations of the same kinds, written when the crawl could read the first ones.

At first sight the crawl read 38 of 41, Scrapy 26, requests 34 and pycurl 28. Then the crawl was
mended for two of the three, the third (``type_sgml``) was found to be no page, and
``redirect_chain`` (which led nowhere) and ``cookie_bytes`` were added.
"""

from __future__ import annotations

import gzip
import zlib

from benchmarks.curate.web.http_situations import (
    HTML,
    Situation,
    build_response,
    html_page,
)


def list_further_situations() -> list[Situation]:
    """Situations by name."""
    return [*_framed(), *_typed(), *_led()]


def _page(
    name: str, *headers: str | bytes, media_type: str = HTML, has_length: bool = True
) -> Situation:
    response = build_response(
        html_page(name), *headers, media_type=media_type, has_length=has_length
    )
    return Situation(name, response)


def _changed(name: str, old: bytes, new: bytes) -> Situation:
    return Situation(name, build_response(html_page(name)).replace(old, new, 1))


def _framed() -> list[Situation]:
    def with_length(name: str, form: str) -> Situation:
        length = len(html_page(name))
        return _page(name, f"Content-Length: {form.format(length)}", has_length=False)

    def chunked(name: str, *headers: str, upper: bool = False) -> Situation:
        text = html_page(name).encode()
        size = f"{len(text):X}" if upper else f"{len(text):x}"
        body = size.encode() + b"\r\n" + text + b"\r\n0\r\n\r\n"
        return Situation(name, build_response(body, *headers, has_length=False))

    packed = gzip.compress(html_page("transfer_gzip").encode())
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    te_gzip = build_response(framed, "Transfer-Encoding: gzip, chunked", has_length=False)
    two_pieces = html_page("chunk_pieces").encode()
    halves = b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        two_pieces[:5],
        len(two_pieces) - 5,
        two_pieces[5:],
    )
    return [
        with_length("length_joined", "{0}, {0}"),
        with_length("length_empty", ""),
        with_length("length_negative", "-1"),
        with_length("length_word", "unknown"),
        with_length("length_padded", "000{0}"),
        chunked("chunk_capital_word", "Transfer-Encoding: Chunked"),
        chunked("chunk_capital_size", "Transfer-Encoding: chunked", upper=True),
        chunked("chunk_with_space", "Transfer-Encoding:  chunked "),
        Situation(
            "chunk_pieces",
            build_response(halves, "Transfer-Encoding: chunked", has_length=False),
        ),
        Situation("transfer_gzip", te_gzip),
        _changed("status_twice", b"200 OK", b"200 200 OK"),
        _changed("status_two_spaces", b"HTTP/1.1 200", b"HTTP/1.1  200"),
        _changed("status_tab", b"HTTP/1.1 200", b"HTTP/1.1\t200"),
        _changed("status_http_two", b"HTTP/1.1", b"HTTP/2"),
        _changed("status_utf8_phrase", b"200 OK", "200 Très bien".encode()),
        _changed("blank_spaces_first", b"HTTP", b"  HTTP"),
        _page("many_headers", *(f"X-Header-{n}: value" for n in range(400))),
        _page("underscore_header", "x_odd_name: value"),
        _page("colon_only", ":"),
        _page("space_first_header", b" X-Odd: value"),
        _page("emoji_header", "X-Mood: \U0001f600".encode()),
    ]


def _typed() -> list[Situation]:
    def packed(name: str, said: str, *, twice: bool = False) -> Situation:
        body = gzip.compress(html_page(name).encode())
        return Situation(
            name,
            build_response(zlib.compress(body) if twice else body, f"Content-Encoding: {said}"),
        )

    return [
        _page("type_two_charsets", media_type="text/html; charset=utf-8; charset=utf-8"),
        _page("type_quoted", media_type='"text/html"'),
        _page("type_with_space", media_type="text / html"),
        _page("type_semicolon_first", media_type="; charset=utf-8"),
        _page("type_word", media_type="text"),
        _page("type_none_word", media_type="None"),
        Situation(
            "type_sgml",
            build_response(html_page("type_sgml"), media_type="text/sgml"),
            reason="no page: text/sgml",
        ),
        _page("type_attachment", "Content-Disposition: attachment; filename=a.html"),
        packed("coding_gzip_then_deflate", "gzip, deflate", twice=True),
        packed("coding_word_before", "binary, gzip"),
        packed("coding_semicolons", "gzip; gzip"),
        packed("coding_zero", "0"),
        _page("coding_star", "Content-Encoding: *"),
    ]


def _led() -> list[Situation]:
    def leading(name: str, location: str, target: str, status: str = "302 Found") -> Situation:
        answer = build_response("", f"Location: {location}", status=status)
        return Situation(name, answer, {target: build_response(html_page(name))})

    def behind(
        name: str, *headers: str | bytes, status: str = "200 OK", body: str = ""
    ) -> Situation:
        page, wall = build_response(html_page(name)), build_response(body, *headers, status=status)
        seen = f"{name}=".encode()
        return Situation(name, lambda head: page if seen in head else wall)

    later = "Expires=Wed, 21 Oct 2099 07:28:00 GMT"
    return [
        leading("redirect_query", "?page=2", "/s/redirect_query?page=2"),
        leading("redirect_tab", "\t/t/tabbed", "/t/tabbed"),
        leading("redirect_303", "/t/other", "/t/other", "303 See Other"),
        leading("redirect_307", "/t/seven", "/t/seven", "307 Temporary Redirect"),
        Situation(
            "redirect_chain",
            build_response("", "Location: /t/chain1", status="302 Found"),
            {
                "/t/chain1": build_response("", "Location: chain2", status="301 Moved"),
                "/t/chain2": build_response(html_page("redirect_chain")),
            },
        ),
        behind(
            "cookie_expires",
            f"Set-Cookie: cookie_expires=a b; {later}; Path=/",
            "Location: /s/cookie_expires",
            status="307 Temporary Redirect",
        ),
        behind(
            "cookie_refresh",
            "Set-Cookie: cookie_refresh=1",
            "Refresh: 0",
            body="<p>One moment, checking your cookies.</p>",
        ),
        behind(
            "cookie_bytes",
            b"Set-Cookie: cookie_bytes=caf\xe9; Path=/",
            "Location: /s/cookie_bytes",
            status="302 Found",
        ),
        behind(
            "cookie_two",
            "Set-Cookie: other=1",
            "Set-Cookie: cookie_two=1; path=/; SameSite=Lax",
            "Location: /s/cookie_two",
            status="303 See Other",
        ),
    ]
