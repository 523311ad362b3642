"""HTTP situations that bug reports of clients and crawlers describe, as bytes of their responses.

Each page holds a word of its own, by which a client that read it is known. The kinds come from the
trackers of Scrapy, requests, aiohttp, curl and h11: odd media types, content codings that are not
what the header says, header lines and framing that no standard allows, redirects, cookies. A page
counts as one where its text is there to be read; no browser was run to see whether it shows it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import brotli
from backports import zstd

from benchmarks.curate.web.raw_site import Answer

HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Situation:
    """One address of the site, with what follows from it."""

    name: str
    answer: Answer
    """Response at ``/s/NAME``."""
    others: Mapping[str, Answer] = field(default_factory=dict)
    """Responses at other targets."""
    reason: str = ""
    """Part of the reason for which it gives no page; empty where there is one to read."""
    note: str = ""
    """Part of the oddity that the ledger names."""

    @property
    def target(self) -> str:
        return f"/s/{self.name}"

    @property
    def word(self) -> str:
        """Word that stands on the page and nowhere else."""
        return page_word(self.name)


def page_word(name: str) -> str:
    """Word of a situation's page."""
    return f"quokka{name.replace('_', '')}quokka"


def html_page(name: str, head: str = "") -> str:
    """Page of a situation, long enough to be a document."""
    text = (
        f"In the harbour town of {page_word(name)} the ferry leaves at dawn, and whoever misses it "
        "walks along the coast until the lighthouse comes into sight behind the dunes. "
    )
    return (
        f"<!DOCTYPE html><html lang=en><head><title>Ferry {name}</title>{head}</head>"
        f"<body><h1>{page_word(name)}</h1><p>{text * 3}</p></body></html>"
    )


def build_response(
    body: bytes | str,
    *headers: bytes | str,
    status: str = "200 OK",
    media_type: str | None = HTML,
    version: str = "HTTP/1.1",
    has_length: bool = True,
) -> bytes:
    """Response that closes its connection.

    Args:
        body: Its body.
        headers: Further header lines.
        status: Status and reason phrase.
        media_type: ``Content-Type``; None for no such line.
        version: Protocol version.
        has_length: Send ``Content-Length``.
    """
    content = body.encode() if isinstance(body, str) else body
    lines = [f"{version} {status}".encode()]
    lines += [f"Content-Type: {media_type}".encode()] if media_type is not None else []
    lines += [f"Content-Length: {len(content)}".encode()] if has_length else []
    lines += [line.encode() if isinstance(line, str) else line for line in headers]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + content


def list_first_situations() -> list[Situation]:
    """Situations that the crawl was written for."""
    return [
        *_media_types(),
        *_codings(),
        *_header_lines(),
        *_framing(),
        *_statuses(),
        *_redirects(),
    ]


def situation_answers(situations: list[Situation]) -> dict[str, Answer]:
    """Answers of a site whose home page links to every situation."""
    links = "".join(f'<p><a href="{s.target}">{s.name}</a></p>' for s in situations)
    answers: dict[str, Answer] = {"/": build_response(f"<html><body>{links}</body></html>")}
    for situation in situations:
        answers |= {situation.target: situation.answer, **situation.others}
    return answers


def _media_types() -> list[Situation]:
    readable = {
        "type_missing": None,
        "type_empty": "",
        "type_star": "*/*",
        "type_unknown": "unknown/unknown",
        "type_application_unknown": "application/unknown",
        "type_octets": "application/octet-stream",
        "type_binary_octets": "binary/octet-stream",
        "type_download": "application/force-download",
        "type_text_htm": "text/htm",
        "type_bare_html": "html",
        "type_application_html": "application/html",
        "type_text_xhtml": "text/xhtml",
        "type_wap": "application/vnd.wap.xhtml+xml",
        "type_xml": "application/xml",
        "type_text_xml": "text/xml; charset=utf-8",
        "type_capitals": "Text/HTML; Charset=UTF-8",
        "type_two_semicolons": "text/html;;charset=utf-8",
        "type_no_value": "text/html; charset",
        "type_joined": "text/html, text/html; charset=utf-8",
        "type_joined_star": "text/html; charset=utf-8, */*",
        "type_plain": "text/plain",
        "type_rst": "text/x-rst",
    }
    found = [
        Situation(name, build_response(html_page(name), media_type=media_type))
        for name, media_type in readable.items()
    ]
    twice = build_response(html_page("type_twice"), "Content-Type: text/html; charset=utf-8")
    xhtml = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">'
    as_xhtml = html_page("type_xhtml").replace("<!DOCTYPE html><html lang=en>", xhtml)
    feed = "<?xml version='1.0'?><rss version='2.0'><channel><title>f</title></channel></rss>"
    utf16 = html_page("type_utf16").encode("utf-16-le")
    return [
        *found,
        Situation("type_twice", twice),
        Situation("type_xhtml", build_response(as_xhtml, media_type="application/xml")),
        Situation("type_utf16", build_response(utf16, media_type="text/html; charset=utf-16le")),
        Situation(
            "type_markdown",
            build_response(
                f"# {page_word('type_markdown')}\n\nText.\n", media_type="text/markdown"
            ),
        ),
        Situation(
            "type_json", build_response("{}", media_type="application/json"), reason="no page: app"
        ),
        Situation(
            "type_feed",
            build_response(feed, media_type="application/rss+xml"),
            reason="no page: application/rss+xml",
        ),
        Situation("type_html_feed", build_response(feed), reason="a feed"),
        Situation(
            "type_image_octets",
            build_response(b"\x89PNG\r\n\x1a\n" + bytes(99), media_type="application/octet-stream"),
            reason="binary",
        ),
        Situation("type_html_pdf", build_response(b"%PDF-1.7\n1 0 obj"), reason="binary"),
    ]


def _codings() -> list[Situation]:
    def packed(name: str, pack: Callable[[bytes], bytes], *headers: str) -> Situation:
        return Situation(name, build_response(pack(html_page(name).encode()), *headers))

    def raw_deflate(text: bytes) -> bytes:
        return zlib.compress(text)[2:-4]

    said = "Content-Encoding: gzip"
    return [
        packed("coding_gzip", gzip.compress, said),
        packed("coding_x_gzip", gzip.compress, "Content-Encoding: x-gzip"),
        packed("coding_capitals", gzip.compress, "Content-Encoding: GZIP"),
        packed("coding_deflate", zlib.compress, "Content-Encoding: deflate"),
        packed("coding_raw_deflate", raw_deflate, "Content-Encoding: deflate"),
        packed("coding_br", brotli.compress, "Content-Encoding: br"),
        packed("coding_zstd", zstd.compress, "Content-Encoding: zstd"),
        packed("coding_rubbish_behind", lambda t: gzip.compress(t) + b"\0\0rubbish", said),
        packed("coding_br_rubbish", lambda t: brotli.compress(t) + b"x", "Content-Encoding: br"),
        packed(
            "coding_two_members", lambda t: gzip.compress(t[:200]) + gzip.compress(t[200:]), said
        ),
        packed("coding_twice", lambda t: gzip.compress(gzip.compress(t)), f"{said}, gzip"),
        packed("coding_two_lines", lambda t: gzip.compress(gzip.compress(t)), said, said),
        packed("coding_doubled_unsaid", lambda t: gzip.compress(gzip.compress(t)), said),
        packed("coding_said_twice_done_once", gzip.compress, f"{said}, gzip"),
        packed(
            "coding_mixed",
            lambda t: brotli.compress(gzip.compress(t)),
            "Content-Encoding: gzip, br",
        ),
        packed("coding_identity_gzip", gzip.compress, "Content-Encoding: identity, gzip"),
        packed("coding_unsaid", gzip.compress),
        packed("coding_zstd_unsaid", zstd.compress),
        packed("coding_wrong_name", gzip.compress, "Content-Encoding: br"),
        packed("coding_plain_gzip", bytes, said),
        packed("coding_plain_br", bytes, "Content-Encoding: br"),
        packed("coding_plain_deflate", bytes, "Content-Encoding: deflate"),
        packed("coding_none", bytes, "Content-Encoding: none"),
        packed("coding_utf8", bytes, "Content-Encoding: UTF-8"),
        packed("coding_chunked", bytes, "Content-Encoding: chunked"),
        packed("coding_empty", bytes, "Content-Encoding:"),
        packed("coding_bad_checksum", lambda t: gzip.compress(t)[:-8] + bytes(8), said),
        Situation(
            "coding_cut",
            build_response(gzip.compress(html_page("coding_cut").encode())[:-6], said),
            note="gzip data ends early",
        ),
        Situation("coding_no_content", build_response(b"", said), reason="an empty page"),
        Situation(
            "coding_noise", build_response(bytes(range(256)) * 9, said), reason="it is no gzip"
        ),
        Situation(
            "coding_bomb",
            build_response(gzip.compress(bytes(20_000_000)), said),
            reason="larger than",
        ),
    ]


def _header_lines() -> list[Situation]:
    lines: dict[str, bytes] = {
        "line_no_colon": b"this line has no colon",
        "line_space_colon": b"X-Odd : value",
        "line_space_in_name": b"X Odd Name: value",
        "line_quoted": b'"X-Frame-Options: DENY"',
        "line_curly_quotes": "\u2018Access-Control-Allow-Origin\u2019: *".encode(),
        "line_no_name": b": value",
        "line_latin1": b"X-Name: caf\xe9",
        "line_utf8": "X-Name: caf\u00e9".encode(),
        "line_control": b"X-Odd: a\x01b",
        "line_folded": b"X-Folded: one\r\n  two",
        "line_long": b"X-Long: " + b"a" * 70_000,
        "line_huge": b"X-Long: " + b"a" * 120_000,
        "line_brackets": b"[X-Odd]: value",
        "line_only_cr": b"X-Odd: a\rX-More: b",
        "line_bad_cookie": b"Set-Cookie: =; ;;",
        "line_bad_date": b"Last-Modified: yesterday",
        "line_bad_link": b"Link: <",
    }
    return [Situation(n, build_response(html_page(n), line)) for n, line in lines.items()]


def _framing() -> list[Situation]:
    def chunked(name: str, framed: Callable[[bytes], bytes], *headers: str) -> Situation:
        body = framed(html_page(name).encode())
        lines = ("Transfer-Encoding: chunked", *headers)
        return Situation(name, build_response(body, *lines, has_length=False))

    def changed(name: str, change: Callable[[bytes], bytes]) -> Situation:
        return Situation(name, change(build_response(html_page(name))))

    def with_length(name: str, difference: int) -> bytes:
        page = html_page(name).encode()
        length = f"Content-Length: {len(page) + difference}"
        return build_response(page, length, has_length=False)

    end = b"\r\n0\r\n\r\n"
    no_end = chunked("chunk_no_end", lambda t: b"%x\r\n%s\r\n" % (len(t), t))
    length_twice = f"Content-Length: {len(html_page('length_twice'))}"
    return [
        Situation("length_short", with_length("length_short", -20)),
        Situation("length_long", with_length("length_long", 50), note="connection ended"),
        Situation("length_twice", build_response(html_page("length_twice"), length_twice)),
        Situation("http_ten", build_response(html_page("http_ten"), version="HTTP/1.0")),
        Situation(
            "http_ten_no_length",
            build_response(html_page("http_ten_no_length"), version="HTTP/1.0", has_length=False),
        ),
        changed("lines_lf", lambda r: r.replace(b"\r\n", b"\n")),
        changed("blank_line_first", lambda r: b"\r\n" + r),
        changed("blank_lines_first", lambda r: b"\r\n\r\n" + r),
        changed("http_twelve", lambda r: r.replace(b"HTTP/1.1", b"HTTP/1.2", 1)),
        changed("lower_case_http", lambda r: b"http" + r[4:]),
        changed("no_phrase", lambda r: r.replace(b"200 OK", b"200", 1)),
        changed("empty_phrase", lambda r: r.replace(b"200 OK", b"200 ", 1)),
        changed("early_hints", lambda r: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + r),
        changed("continue_first", lambda r: b"HTTP/1.1 100 Continue\r\n\r\n" + r),
        Situation("no_head", html_page("no_head").encode()),
        Situation("banner", b"SSH-2.0-OpenSSH_9.9\r\n", reason="neither a status line nor HTML"),
        Situation("silence", b"", reason="no connection"),
        chunked("chunk_extension", lambda t: b"%x;a=b\r\n%s" % (len(t), t) + end),
        chunked("chunk_padded", lambda t: b"%x  \r\n%s" % (len(t), t) + end),
        chunked("chunk_zeros", lambda t: b"0000%x\r\n%s" % (len(t), t) + end),
        chunked("chunk_lf", lambda t: b"%x\n%s\n0\n\n" % (len(t), t)),
        chunked("chunk_trailer", lambda t: b"%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n" % (len(t), t)),
        chunked(
            "chunk_said_twice",
            lambda t: b"%x\r\n%s" % (len(t), t) + end,
            "Transfer-Encoding: chunked",
        ),
        chunked("chunk_and_length", lambda t: b"%x\r\n%s" % (len(t), t) + end, "Content-Length: 5"),
        Situation(no_end.name, no_end.answer, note="connection ended"),
        Situation(
            "transfer_identity",
            build_response(html_page("transfer_identity"), "Transfer-Encoding: identity"),
        ),
    ]


def _statuses() -> list[Situation]:
    return [
        Situation("status_203", build_response(html_page("status_203"), status="203 Changed")),
        Situation(
            "status_600",
            build_response(html_page("status_600"), status="600 Odd"),
            note="HTTP 600",
        ),
        Situation(
            "status_999", build_response(html_page("status_999"), status="999 Denied"), reason="999"
        ),
        Situation("status_204", build_response("", status="204 No Content"), reason="HTTP 204"),
        Situation("status_404", build_response(html_page("x"), status="404 Gone"), reason="404"),
        Situation("status_500", build_response(html_page("x"), status="500 Ill"), reason="500"),
        Situation(
            "redirect_body",
            build_response(html_page("redirect_body"), status="302 Found"),
            note="HTTP 302",
        ),
        Situation(
            "redirect_nowhere", build_response("", status="302 Found"), reason="leads nowhere"
        ),
    ]


def _redirects() -> list[Situation]:
    def leading(
        name: str, location: bytes, target: str, *headers: str, status: str = "302 Found"
    ) -> Situation:
        answer = build_response("", b"Location: " + location, *headers, status=status)
        return Situation(name, answer, {target: build_response(html_page(name))})

    def refreshing(name: str, value: str, target: str) -> Situation:
        answer = build_response("", f"Refresh: {value}")
        return Situation(name, answer, {target: build_response(html_page(name))})

    return [
        leading("redirect_utf8", "/t/caf\u00e9".encode(), "/t/caf%C3%A9"),
        leading("redirect_latin1", b"/t/d\xe9j\xe0", "/t/d%E9j%E0"),
        leading("redirect_space", b"/t/two words", "/t/two%20words"),
        leading("redirect_relative", b"../t/relative", "/t/relative"),
        leading("redirect_fragment", b"/t/fragment#part", "/t/fragment"),
        leading("redirect_dots", b"/../t/dots", "/t/dots"),
        leading("redirect_first", b"/t/first", "/t/first", "Location: /t/second"),
        leading("redirect_300", b"/t/choice", "/t/choice", status="300 Multiple Choices"),
        leading("redirect_308", b"/t/permanent", "/t/permanent", status="308 Permanent Redirect"),
        refreshing("refresh_now", "0; url=/t/refreshed", "/t/refreshed"),
        refreshing("refresh_quoted", "0;URL='/t/refreshed2'", "/t/refreshed2"),
        *_cookie_walls(),
    ]


def _cookie_walls() -> list[Situation]:
    def behind(name: str, wall: bytes) -> Situation:
        page = build_response(html_page(name))
        seen = f"{name}=1".encode()
        return Situation(name, lambda head: page if seen in head else wall)

    def wall(name: str, *headers: str, body: str = "", status: str = "302 Found") -> bytes:
        return build_response(body, f"Set-Cookie: {name}=1; Path=/", *headers, status=status)

    asks = "<p>Please enable cookies to go on.</p>"
    bounce = behind(
        "cookie_bounce",
        build_response(
            "",
            "Location: /t/set?to=%2Fs%2Fcookie_bounce",
            "Set-Cookie: first=1",
            status="302 Found",
        ),
    )
    way = wall("cookie_bounce", "Location: /s/cookie_bounce")
    return [
        behind("cookie_redirect", wall("cookie_redirect", "Location: /s/cookie_redirect")),
        behind("cookie_page", wall("cookie_page", body=asks, status="200 OK")),
        Situation(bounce.name, bounce.answer, {"/t/set?to=%2Fs%2Fcookie_bounce": way}),
    ]
