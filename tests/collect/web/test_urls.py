"""Addresses by the URL standard: spellings of links, bases, redirects, queries in a page's charset."""

from __future__ import annotations

import pytest

from components.collect.web.urls import (
    MAX_URL_CHARS,
    explain_bad_host,
    explain_bad_url,
    host_of,
    normalise_url,
    read_host,
    resolve_link,
)

PAGE = "http://a.example/l/page"


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("/t/ta\n\tbbed", "http://a.example/t/tabbed"),
        ("  /t/lead\r\n ", "http://a.example/t/lead"),
        ("\\t\\bs", "http://a.example/t/bs"),
        ("http:\\\\b.example\\x", "http://b.example/x"),
        ("//b.example/x", "http://b.example/x"),
        ("HTTP://A.Example:80/x", "http://a.example/x"),
        ("https://a.example:443", "https://a.example/"),
        ("https://a.example:80/", "https://a.example:80/"),
        ("http:relpath", "http://a.example/l/relpath"),
        ("https:other", "https://other/"),
        ("?x=1", "http://a.example/l/page?x=1"),
        ("?", "http://a.example/l/page"),
        ("/t?#top", "http://a.example/t"),
        ("/t/a b", "http://a.example/t/a%20b"),
        ("/t/100%", "http://a.example/t/100%"),
        ("/caf%c3%a9", "http://a.example/caf%c3%a9"),
        ("/%7euser", "http://a.example/%7euser"),
        ("/~user", "http://a.example/~user"),
        ("/t/[x]", "http://a.example/t/[x]"),
        ("/t/%5Bx%5D", "http://a.example/t/%5Bx%5D"),
        ("/t/a|b?c|d", "http://a.example/t/a|b?c|d"),
        ("/it's", "http://a.example/it's"),
        ("/a+b?c=d+e", "http://a.example/a+b?c=d+e"),
        ("/t//dbl", "http://a.example/t//dbl"),
        ("./dots/../dots2", "http://a.example/l/dots2"),
        ("/a;b=c", "http://a.example/a;b=c"),
        ("/привет", "http://a.example/%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("http://Bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://ＡＢ。example/", "http://ab.example/"),
        ("http://☕.example/", "http://xn--53h.example/"),
        ("http://a.example./x", "http://a.example/x"),
        ("http://a.example.:8080/x", "http://a.example:8080/x"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://ex_ample.com/", "http://ex_ample.com/"),
        ("/lone\ud800", "http://a.example/lone%EF%BF%BD"),
    ],
)
def test_a_link_is_read_as_browsers_read_it(href: str, expected: str) -> None:
    assert normalise_url(href, PAGE) == expected
    assert normalise_url(expected) == expected  # and its spelling is the last one


@pytest.mark.parametrize(
    "href",
    [
        "mailto:a@b.example",
        "javascript:void(0)",
        "data:text/html,x",
        "file:///etc/passwd",
        "ftp://a.example/x",
        "http://u:p@a.example/",
        "//u@a.example/x",
        "http://[bad/",
        "http://a b.example/",
        "http://a<b.example/",
        "http://a.example:99999/",
        "http://",
        "http://./",
        "/" + "x" * MAX_URL_CHARS,
    ],
)
def test_no_page_to_be_asked_for(href: str) -> None:
    assert normalise_url(href, PAGE) is None
    assert resolve_link(href, PAGE) is None


@pytest.mark.parametrize(
    ("href", "codec", "expected"),
    [
        ("/привет?q=привет", "cp1251", "%EF%F0%E8%E2%E5%F2"),
        ("?q=привет", "utf-8", "%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82"),
        ("?q=日本", "cp932", "%93%FA%96%7B"),
        ("?q=日本#日本", "euc_jp", "%C6%FC%CB%DC"),
        ("?q=日", "cp1251", "%26%2326085%3B"),
        ("?q=%D0%BF+é", "cp1252", "%D0%BF+%E9"),
    ],
)
def test_a_query_is_sent_in_the_charset_of_its_page(href: str, codec: str, expected: str) -> None:
    url = normalise_url(href, PAGE, codec)
    assert url is not None
    path, _, query = url.partition("?q=")
    # A trail byte in the range of ASCII may stand for itself: servers read both.
    assert query.replace("{", "%7B") == expected
    assert path in (PAGE, "http://a.example/%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82")


@pytest.mark.parametrize(
    "path",
    ["/wiki/Node.js", "/view/report.doc", "/show/archive.zip", "/file/File:Map.svg", "/cv.pdf"],
)
def test_an_ending_says_nothing_of_a_page(path: str) -> None:
    assert resolve_link(path, PAGE) == f"http://a.example{path}"


def test_reasons_a_user_reads() -> None:
    assert explain_bad_url("http://a.example/") == ""
    assert explain_bad_url("  HTTP://A.example ") == ""
    assert "a login in an address" in explain_bad_url("http://ann:secret@a.example/")
    assert "secret" not in explain_bad_url("http://ann:secret@a.example/")
    assert "its host contains a space or" in explain_bad_url("http://a b.example/")
    assert "its host contains a space or" in explain_bad_url("http://a.example:99999/")
    assert "is not an http:// or https://" in explain_bad_url("a.example")
    assert f"longer than {MAX_URL_CHARS}" in explain_bad_url("http://a.example/" + "x" * 3000)


def test_hosts_of_international_names() -> None:
    url = normalise_url("https://日本語.example:8443/x")
    assert url is not None
    assert host_of(url) == "xn--wgv71a119e.example"


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("www.acme.example", "www.acme.example"),
        ("WWW.Acme.example.", "www.acme.example"),
        (" acme.example ", "acme.example"),
        ("müller.example", "xn--mller-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("a_b.example", "a_b.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_hosts_are_read_as_addresses_spell_them(written: str, host: str) -> None:
    assert read_host(written) == host
    assert explain_bad_host(written) == ""
    assert host_of(normalise_url(f"http://[{host}]/" if ":" in host else f"http://{host}/") or "")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("localhost:22007", "without scheme, port and path: localhost"),
        ("http://localhost/", "without scheme, port and path: localhost"),
        ("//acme.example", "is not the name of a host"),
        ("acme.example/docs", "without scheme, port and path: acme.example"),
        ("https://MÜLLER.example:8080/x", "path: xn--mller-kva.example"),
        ("[::1]:80", "path: ::1"),
        ("*.localhost", "there are no patterns here"),
        ("https://*.acme.example/", "there are no patterns here"),
        (".acme.example", "there are no patterns here"),
        ("acme..example", "is not the name of a host"),
        ("acme example", "is not the name of a host"),
        ("", "is not the name of a host"),
        ("me:secret@acme.example", "path: acme.example"),
        ("http://me:secret@acme.example/x", "path: acme.example"),
    ],
)
def test_what_is_no_host_is_refused_with_the_way_on(written: str, says: str) -> None:
    assert read_host(written) == ""
    assert says in explain_bad_host(written)
    assert "secret" not in explain_bad_host(written)
